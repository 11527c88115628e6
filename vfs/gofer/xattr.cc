#include "vfs/gofer/inode.h"

namespace caisson::vfs {

namespace gp = caisson::gofer;

namespace {

gp::XattrRequest Request(absl::string_view name) {
  gp::XattrRequest request = {};
  request.name_length = static_cast<uint16_t>(name.size());
  return request;
}

std::vector<std::string> SplitNames(absl::string_view list) {
  std::vector<std::string> names;
  while (!list.empty()) {
    size_t end = std::min(list.find('\0'), list.size());
    if (end > 0 && end <= gp::kMaxName) names.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return names;
}

}  // namespace

// Most files have none, and every execve and every ls asks: one message settles that for all names.
Result<bool> GoferInode::HasXattrs() {
  {
    MutexLock lock(attr_mu_);
    if (permissions_valid_ && xattrs_ != Xattrs::kUnknown) return xattrs_ == Xattrs::kSome;
  }
  Snapshot begin = Begin();
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kListXattr, Request("")));
  TRY(r.status);
  MutexLock lock(attr_mu_);
  if (permissions_valid_ && begin.invalidations == invalidations_)
    xattrs_ = r.body.empty() ? Xattrs::kNone : Xattrs::kSome;
  return !r.body.empty();
}

Result<std::string> GoferInode::GetXattr(CallContext&, absl::string_view name) {
  if (name.empty() || name.size() > gp::kMaxName) return Errno::kERANGE;
  if (Result<bool> any = HasXattrs(); any.ok() && !*any) return Errno::kENODATA;
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kGetXattr, Request(name), name));
  TRY(r.status);
  if (r.body.size() > gp::kMaxXattr) return Errno::kEIO;
  return std::move(r.body);
}

Result<void> GoferInode::SetXattr(CallContext&, absl::string_view name, absl::string_view value,
                                  int flags) {
  if (name.empty() || name.size() > gp::kMaxName) return Errno::kERANGE;
  if (value.size() > gp::kMaxXattr) return Errno::kE2BIG;
  gp::XattrRequest request = Request(name);
  request.flags = static_cast<uint32_t>(flags);
  request.value_length = static_cast<uint32_t>(value.size());
  SetOwnChange();
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kSetXattr, request,
                                         std::string(name) + std::string(value)));
  if (is_regular()) DropReadFile();
  Invalidate(true);
  return r.status;
}

Result<std::vector<std::string>> GoferInode::ListXattr(CallContext&) {
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kListXattr, Request("")));
  TRY(r.status);
  return SplitNames(r.body);
}

Result<void> GoferInode::RemoveXattr(CallContext&, absl::string_view name) {
  if (name.empty() || name.size() > gp::kMaxName) return Errno::kERANGE;
  SetOwnChange();
  GoferCallResult r = TRY(gofer().CallOn(*this, 0, gp::Op::kRemoveXattr, Request(name), name));
  if (is_regular()) DropReadFile();
  Invalidate(true);
  return r.status;
}

}  // namespace caisson::vfs
