// Views of memfds in the sentry's address space, so that a large read is one copy, made by the host
// from the file's pages to the guest's, and not two.
#ifndef CAISSON_VFS_TMPFS_WINDOW_CACHE_H_
#define CAISSON_VFS_TMPFS_WINDOW_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/mutex.h"

namespace caisson::vfs::tmpfs {

// A few windows for all files, least recently used first out: a guest that has many large files
// takes neither mappings nor address space. Thread-safe.
//
// What a view shows can vanish at any time (another task truncates the file), and then touching it is a
// SIGBUS. So views are only for copies that end short then (IoBuffer::PutByHost).
class WindowCache {
 public:
  static constexpr uint64_t kWindow = uint64_t{4} << 20;  // Bytes, and what offsets are aligned to.
  static constexpr size_t kWindows = 16;

  // The bytes of a file from an offset to the end of a window; empty where the host has no room or all
  // windows are in use. The window stays while this lives.
  class View {
   public:
    View() = default;
    View(View&& other) noexcept : cache_(other.cache_), window_(other.window_), bytes_(other.bytes_) {
      other.cache_ = nullptr;
    }
    ~View() {
      if (cache_ != nullptr) cache_->Release(window_);
    }
    View& operator=(View&&) = delete;
    absl::Span<const char> bytes() const { return bytes_; }

   private:
    friend class WindowCache;
    View(WindowCache* cache, size_t window, absl::Span<const char> bytes)
        : cache_(cache), window_(window), bytes_(bytes) {}
    WindowCache* cache_ = nullptr;
    size_t window_ = 0;
    absl::Span<const char> bytes_;
  };

  static WindowCache& Get();  // The sandbox's.

  // `file` is what tells files apart, `fd` the descriptor of its bytes.
  View Map(const void* file, int fd, uint64_t offset) ABSL_LOCKS_EXCLUDED(mu_);
  // The file goes, and its pages with the windows. No View of it is left.
  void Forget(const void* file) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Window {
    const void* file = nullptr;
    uint64_t offset = 0;  // Of the window in the file.
    uint32_t users = 0;
    uint64_t last_use = 0;
  };

  void Release(size_t window) ABSL_LOCKS_EXCLUDED(mu_);
  // Never used again: a mapping in place of another may fail when that is gone already, and by now
  // something else of the sentry's may be there.
  static void Lose(Window& window);

  Mutex mu_;
  char* base_ ABSL_GUARDED_BY(mu_) = nullptr;  // kWindows in a row.
  uint64_t uses_ ABSL_GUARDED_BY(mu_) = 0;
  std::array<Window, kWindows> windows_ ABSL_GUARDED_BY(mu_);
};

}  // namespace caisson::vfs::tmpfs

#endif  // CAISSON_VFS_TMPFS_WINDOW_CACHE_H_
