// Descriptors and temporary files that clean up after themselves.
#ifndef CAISSON_TEST_UTIL_FILE_UTIL_H_
#define CAISSON_TEST_UTIL_FILE_UTIL_H_

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace caisson::test {

// Owns a descriptor. Converts to int, so that it can be handed to any call.
class FdCloser {
 public:
  FdCloser() = default;
  explicit FdCloser(int fd) : fd_(fd) {}
  FdCloser(FdCloser&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FdCloser& operator=(FdCloser&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~FdCloser() { Close(); }
  operator int() const { return fd_; }  // NOLINT(google-explicit-constructor): reads as an fd.
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A fresh directory below /tmp, removed with all that is in it, however deep.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  const char* c_str() const { return path_.c_str(); }
  // The path of `name` inside; nothing is created.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A regular file with `content` in a directory of its own.
class TempFile {
 public:
  explicit TempFile(const std::string& content = "", mode_t mode = 0644);
  const std::string& path() const { return path_; }
  const char* c_str() const { return path_.c_str(); }
  FdCloser Open(int flags) const { return FdCloser(open(c_str(), flags)); }

 private:
  TempDir dir_;
  std::string path_;
};

// Both ends of pipe2(2).
struct Pipe {
  explicit Pipe(int flags = 0);
  FdCloser reader;
  FdCloser writer;
};

// The whole file, up to end of file; empty if it cannot be opened.
std::string ReadFile(const std::string& path);
std::string ReadAll(int fd);
// What one read(2) returns; empty on error or end of file.
std::string ReadOnce(int fd, size_t limit = 65536);
// Creates or truncates. Returns whether all was written.
bool WriteFile(const std::string& path, const std::string& content, mode_t mode = 0644);
bool WriteAll(int fd, const std::string& content);
// Names in a directory but for . and .., sorted.
std::vector<std::string> ListDir(const std::string& path);
bool Exists(const std::string& path);
// The rest of the line of /proc/`pid`/status that begins with `key` and a colon; blanks are cut.
std::string StatusField(const std::string& pid, const std::string& key);
bool FdIsOpen(int fd);
// A descriptor number that is not open and below RLIMIT_NOFILE.
int UnusedFd();

}  // namespace caisson::test

#endif  // CAISSON_TEST_UTIL_FILE_UTIL_H_
