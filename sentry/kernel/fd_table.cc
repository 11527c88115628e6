#include "sentry/kernel/fd_table.h"

#include <algorithm>

namespace caisson::kernel {

FdTable::~FdTable() = default;

Result<RefPtr<vfs::FileDescription>> FdTable::Get(int32_t fd) const {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno::kEBADF;
  return slots_[fd].file;
}

Result<int32_t> FdTable::LowestFreeLocked(int32_t min, uint64_t limit) {
  size_t fd = std::max(min, next_free_);
  while (fd < slots_.size() && slots_[fd].taken()) ++fd;
  if (fd >= limit) return Errno::kEMFILE;
  if (fd >= slots_.size()) slots_.resize(std::max<size_t>(fd + 1, std::min<uint64_t>(limit, std::max<size_t>(64, slots_.size() * 2))));
  if (min <= next_free_) next_free_ = static_cast<int32_t>(fd) + 1;
  return static_cast<int32_t>(fd);
}

Result<int32_t> FdTable::Install(RefPtr<vfs::FileDescription> file, int32_t min, uint64_t limit,
                                 bool close_on_exec) {
  MutexLock lock(mu_);
  int32_t fd = TRY(LowestFreeLocked(min, limit));
  slots_[fd] = {std::move(file), close_on_exec};
  return fd;
}

Result<int32_t> FdTable::Reserve(uint64_t limit) {
  MutexLock lock(mu_);
  int32_t fd = TRY(LowestFreeLocked(0, limit));
  slots_[fd].reserved = true;
  return fd;
}

void FdTable::Fill(int32_t fd, RefPtr<vfs::FileDescription> file, bool close_on_exec) {
  MutexLock lock(mu_);
  CHECK(slots_[fd].reserved);
  slots_[fd] = {std::move(file), close_on_exec};
}

void FdTable::Release(int32_t fd) {
  MutexLock lock(mu_);
  CHECK(slots_[fd].reserved);
  slots_[fd] = {};
  next_free_ = std::min(next_free_, fd);
}

Result<RefPtr<vfs::FileDescription>> FdTable::Replace(RefPtr<vfs::FileDescription> file,
                                                      int32_t fd, uint64_t limit,
                                                      bool close_on_exec) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= limit) return Errno::kEBADF;
  MutexLock lock(mu_);
  if (static_cast<size_t>(fd) >= slots_.size()) slots_.resize(fd + 1);
  if (slots_[fd].reserved) return Errno::kEBUSY;
  RefPtr<vfs::FileDescription> old = std::move(slots_[fd].file);
  slots_[fd] = {std::move(file), close_on_exec};
  return old;
}

Result<RefPtr<vfs::FileDescription>> FdTable::Remove(int32_t fd) {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno::kEBADF;
  RefPtr<vfs::FileDescription> file = std::move(slots_[fd].file);
  next_free_ = std::min(next_free_, fd);
  return file;
}

std::vector<RefPtr<vfs::FileDescription>> FdTable::RemoveRange(uint32_t first, uint32_t last) {
  MutexLock lock(mu_);
  std::vector<RefPtr<vfs::FileDescription>> out;
  for (size_t fd = first; fd <= last && fd < slots_.size(); ++fd) {
    if (!slots_[fd].file) continue;
    out.push_back(std::move(slots_[fd].file));
    next_free_ = std::min(next_free_, static_cast<int32_t>(fd));
  }
  return out;
}

std::vector<RefPtr<vfs::FileDescription>> FdTable::RemoveCloseOnExec() {
  MutexLock lock(mu_);
  std::vector<RefPtr<vfs::FileDescription>> out;
  for (size_t fd = 0; fd < slots_.size(); ++fd) {
    if (!slots_[fd].file || !slots_[fd].close_on_exec) continue;
    out.push_back(std::move(slots_[fd].file));
    next_free_ = std::min(next_free_, static_cast<int32_t>(fd));
  }
  return out;
}

std::vector<RefPtr<vfs::FileDescription>> FdTable::RemoveAll() { return RemoveRange(0, ~0u); }

void FdTable::SetCloseOnExecRange(uint32_t first, uint32_t last) {
  MutexLock lock(mu_);
  for (size_t fd = first; fd <= last && fd < slots_.size(); ++fd)
    if (slots_[fd].file) slots_[fd].close_on_exec = true;
}

Result<bool> FdTable::close_on_exec(int32_t fd) const {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno::kEBADF;
  return slots_[fd].close_on_exec;
}

Result<void> FdTable::set_close_on_exec(int32_t fd, bool value) {
  MutexLock lock(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size() || !slots_[fd].file) return Errno::kEBADF;
  slots_[fd].close_on_exec = value;
  return {};
}

RefPtr<FdTable> FdTable::Clone() const {
  auto copy = MakeRef<FdTable>();
  MutexLock lock(mu_);
  MutexLock copy_lock(copy->mu_);  // Nobody else knows it yet.
  copy->slots_ = slots_;
  for (Slot& slot : copy->slots_) slot.reserved = false;
  copy->next_free_ = next_free_;
  return copy;
}

std::vector<int32_t> FdTable::Descriptors() const {
  MutexLock lock(mu_);
  std::vector<int32_t> out;
  for (size_t fd = 0; fd < slots_.size(); ++fd)
    if (slots_[fd].file) out.push_back(static_cast<int32_t>(fd));
  return out;
}

uint64_t FdTable::capacity() const {
  MutexLock lock(mu_);
  return slots_.size();
}

}  // namespace caisson::kernel
