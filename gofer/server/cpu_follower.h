// Where a thread that answers requests runs.
#ifndef CAISSON_GOFER_SERVER_CPU_FOLLOWER_H_
#define CAISSON_GOFER_SERVER_CPU_FOLLOWER_H_

#include <cstdint>

namespace caisson::gofer {

// Holds its thread on the CPU of those who ask, as long as all requests come from one: they sleep meanwhile, and a
// wake-up across CPUs takes longer than most answers (an unlink(2) of 37 us took 73). Belongs to its thread.
class CpuFollower {
 public:
  CpuFollower();
  // After the answer to a request from there: RequestHeader::cpu, whatever it is.
  void OnAnswered(uint16_t from);

 private:
  static constexpr int kSteady = 4;  // Requests in a row; it lets go at the first from elsewhere.
  const bool useful_;
  uint16_t held_ = 0, last_ = 0;
  int steady_ = 0;
};

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_SERVER_CPU_FOLLOWER_H_
