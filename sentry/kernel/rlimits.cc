#include "sentry/kernel/rlimits.h"

namespace caisson::kernel {

Rlimits::Rlimits() {
  limits_[kRlimitStack] = {8 << 20, kRlimInfinity};
  limits_[kRlimitCore] = {0, kRlimInfinity};
  limits_[kRlimitNproc] = {kRlimInfinity, kRlimInfinity};
  limits_[kRlimitNofile] = {1024, 1048576};
  limits_[kRlimitMemlock] = {8 << 20, 8 << 20};
  limits_[kRlimitSigpending] = {31152, 31152};
  limits_[kRlimitMsgqueue] = {819200, 819200};
  limits_[kRlimitNice] = {0, 0};
  limits_[kRlimitRtprio] = {0, 0};
}

}  // namespace caisson::kernel
