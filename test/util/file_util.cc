#include "test/util/file_util.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

namespace caisson::test {
namespace {

int RemoveOne(const char* path, const struct stat*, int, struct FTW*) {
  remove(path);
  return 0;
}

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "test/util: %s: %s\n", what, strerror(errno));
  abort();
}

}  // namespace

TempDir::TempDir() {
  // Natively tools/run_tests sets TMPDIR, and removes what a case that died has left there.
  const char* parent = getenv("TMPDIR");
  std::string name = std::string(parent != nullptr ? parent : "/tmp") + "/guest_test.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) Die("mkdtemp");
  if (chmod(name.c_str(), 0755) != 0) Die("chmod");
  path_ = name;
}

TempDir::~TempDir() {
  chmod(path_.c_str(), 0755);
  nftw(path_.c_str(), RemoveOne, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

TempFile::TempFile(const std::string& content, mode_t mode) : path_(dir_ / "file") {
  if (!WriteFile(path_, content, mode)) Die("TempFile");
  if (chmod(c_str(), mode) != 0) Die("chmod");
}

Pipe::Pipe(int flags) {
  int fds[2];
  if (pipe2(fds, flags) != 0) Die("pipe2");
  reader = FdCloser(fds[0]);
  writer = FdCloser(fds[1]);
}

std::string ReadAll(int fd) {
  std::string all;
  char buffer[4096];
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return all;
    all.append(buffer, n);
  }
}

std::string ReadFile(const std::string& path) {
  FdCloser fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd < 0 ? std::string() : ReadAll(fd);
}

std::string ReadOnce(int fd, size_t limit) {
  std::string buffer(limit, '\0');
  ssize_t n = read(fd, buffer.data(), limit);
  buffer.resize(n < 0 ? 0 : n);
  return buffer;
}

bool WriteAll(int fd, const std::string& content) {
  size_t done = 0;
  while (done < content.size()) {
    ssize_t n = write(fd, content.data() + done, content.size() - done);
    if (n < 0) return false;
    done += n;
  }
  return true;
}

bool WriteFile(const std::string& path, const std::string& content, mode_t mode) {
  FdCloser fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  return fd >= 0 && WriteAll(fd, content);
}

std::vector<std::string> ListDir(const std::string& path) {
  std::vector<std::string> names;
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return names;
  while (dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

bool Exists(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

std::string StatusField(const std::string& pid, const std::string& key) {
  std::string text = "\n" + ReadFile("/proc/" + pid + "/status");
  size_t at = text.find("\n" + key + ":");
  if (at == std::string::npos) return "";
  at = text.find_first_not_of(" \t", at + key.size() + 2);
  return text.substr(at, text.find('\n', at) - at);
}

bool FdIsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

int UnusedFd() {
  for (int fd = 900;; fd--) {
    if (!FdIsOpen(fd)) return fd;
  }
}

}  // namespace caisson::test
