#include "vfs/tmpfs/window_cache.h"

#include <sys/mman.h>

#include "base/check.h"

namespace caisson::vfs::tmpfs {

WindowCache& WindowCache::Get() {
  static auto* cache = new WindowCache;
  return *cache;
}

WindowCache::View WindowCache::Map(const void* file, int fd, uint64_t offset) {
  const uint64_t start = offset / kWindow * kWindow;
  MutexLock lock(mu_);
  size_t found = kWindows;
  for (size_t i = 0; i < kWindows && found == kWindows; ++i)
    if (windows_[i].file == file && windows_[i].offset == start) found = i;
  if (found == kWindows) {
    if (base_ == nullptr) {
      void* base = mmap(nullptr, kWindows * kWindow, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (base == MAP_FAILED) return View();
      base_ = static_cast<char*>(base);
    }
    for (size_t i = 0; i < kWindows; ++i) {
      if (windows_[i].users != 0) continue;
      if (found == kWindows || windows_[i].last_use < windows_[found].last_use) found = i;
    }
    if (found == kWindows) return View();
    if (mmap(base_ + found * kWindow, kWindow, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
             static_cast<off_t>(start)) == MAP_FAILED) {
      Lose(windows_[found]);
      return View();
    }
    windows_[found].file = file;
    windows_[found].offset = start;
  }
  Window& window = windows_[found];
  ++window.users;
  window.last_use = ++uses_;
  const uint64_t within = offset - start;
  return View(this, found, {base_ + found * kWindow + within, kWindow - within});
}

void WindowCache::Release(size_t window) {
  MutexLock lock(mu_);
  --windows_[window].users;
}

void WindowCache::Forget(const void* file) {
  MutexLock lock(mu_);
  for (size_t i = 0; i < kWindows; ++i) {
    if (windows_[i].file != file) continue;
    CHECK(windows_[i].users == 0);
    // In place, so that nothing else comes to lie between the windows. The pages must go: they are
    // the file's memory.
    windows_[i] = {};
    if (mmap(base_ + i * kWindow, kWindow, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
      Lose(windows_[i]);
  }
}

void WindowCache::Lose(Window& window) {
  window = {};
  window.users = 1;
}

}  // namespace caisson::vfs::tmpfs
