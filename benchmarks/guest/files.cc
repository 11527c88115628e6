// Files on a tmpfs, and small ones of the root.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

namespace {

void Pread4k(benchmark::State& state) {
  const int fd = open(kFile, O_RDONLY);
  char page[4096];
  for (auto _ : state) Require(pread(fd, page, sizeof(page), 0) == sizeof(page), "pread");
  close(fd);
}
ROW(Pread4k, "pread_4k");

// This program's own file: one that a sandbox has from outside.
void Pread4kRoot(benchmark::State& state) {
  const int fd = open("/proc/self/exe", O_RDONLY);
  char page[4096];
  for (auto _ : state) Require(pread(fd, page, sizeof(page), 0) == sizeof(page), "pread");
  close(fd);
}
ROW(Pread4kRoot, "pread_4k_root");

void Write4k(benchmark::State& state) {
  const int fd = open(kFile, O_WRONLY);
  const char page[4096] = {1};
  for (auto _ : state) Require(pwrite(fd, page, sizeof(page), 0) == sizeof(page), "pwrite");
  close(fd);
}
ROW(Write4k, "write_4k");

void Read1m(benchmark::State& state) {
  const char name[] = "/tmp/bench-large";
  static char buffer[1 << 20];
  const int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
  for (int i = 0; i < 4; ++i) Require(write(fd, buffer, sizeof(buffer)) == sizeof(buffer), "write");
  int at = 0;
  for (auto _ : state) {
    Require(pread(fd, buffer, sizeof(buffer), (at & 3) << 20) == sizeof(buffer), "pread");
    ++at;
  }
  close(fd);
  unlink(name);
}
ROW(Read1m, "pread_1m");

void OpenClose(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = open(kFile, O_RDONLY);
    Require(fd >= 0, "open");
    close(fd);
  }
}
ROW(OpenClose, "open_close");

void OpenCloseRoot(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = open(kTrue, O_RDONLY);
    Require(fd >= 0, "open");
    close(fd);
  }
}
ROW(OpenCloseRoot, "open_close_root");

void Stat(benchmark::State& state) {
  struct stat about;
  for (auto _ : state) Require(stat(kFile, &about) == 0, "stat");
}
ROW(Stat, "stat");

void StatRoot(benchmark::State& state) {
  struct stat about;
  for (auto _ : state) Require(stat(kTrue, &about) == 0, "stat");
}
ROW(StatRoot, "stat_root");

void StatMissing(benchmark::State& state) {
  struct stat about;
  for (auto _ : state) Require(stat("/bin/nothing", &about) != 0, "stat");
}
ROW(StatMissing, "stat_missing_root");

void CreateWriteUnlink(benchmark::State& state) {
  const char page[4096] = {1};
  for (auto _ : state) {
    const int fd = open("/tmp/bench-new", O_CREAT | O_EXCL | O_WRONLY, 0600);
    Require(fd >= 0 && write(fd, page, sizeof(page)) == sizeof(page), "create");
    close(fd);
    Require(unlink("/tmp/bench-new") == 0, "unlink");
  }
}
ROW(CreateWriteUnlink, "create_write_unlink");

void CreateWriteUnlinkRoot(benchmark::State& state) {
  const char page[4096] = {1};
  for (auto _ : state) {
    const int fd = open("/work/bench-new", O_CREAT | O_EXCL | O_WRONLY, 0600);
    Require(fd >= 0 && write(fd, page, sizeof(page)) == sizeof(page), "create");
    close(fd);
    Require(unlink("/work/bench-new") == 0, "unlink");
  }
}
ROW(CreateWriteUnlinkRoot, "create_write_unlink_root");

}  // namespace
