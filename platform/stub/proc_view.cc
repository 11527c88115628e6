#include "platform/stub/proc_view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/guest_addr.h"
#include "base/log.h"
#include "confine/confine.h"
#include "platform/stub/proc_filter.h"

namespace caisson::platform::stub {
namespace {

struct Question {
  ProcView::File file;
  int32_t pid;
  int32_t tid;
};

// A procfs of this process's pid namespace with nothing in it but processes.
UniqueFd MountProc() {
  UniqueFd context(fsopen("proc", FSOPEN_CLOEXEC));
  if (!context) return {};
  // Linux 5.8; a kernel without it shows more, which the process behind this cannot reach anyway.
  fsconfig(context.get(), FSCONFIG_SET_STRING, "subset", "pid", 0);
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return {};
  return UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC,
                          MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                              MOUNT_ATTR_NOEXEC));
}

// The one at /proc, if its numbers are those of this process's pid namespace: then NSpid has only
// one.
UniqueFd ExistingProc() {
  UniqueFd proc(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  UniqueFd status(proc ? openat(proc.get(), "self/status", O_RDONLY | O_CLOEXEC) : -1);
  char text[4096];
  const ssize_t n = status ? read(status.get(), text, sizeof(text) - 1) : -1;
  if (n <= 0) return {};
  text[n] = '\0';
  const char* line = strstr(text, "\nNSpid:");
  char rest = 0;
  int pid = 0;
  if (line == nullptr || sscanf(line + 7, "%d%c", &pid, &rest) != 2 || pid != getpid() ||
      rest != '\n')
    return {};
  return proc;
}

// "PID/FILE"; false if the question is not one.
bool MakePath(const Question& q, char* path, size_t size) {
  if (q.pid <= 0 || q.tid < 0) return false;
  switch (q.file) {
    case ProcView::File::kStatus: snprintf(path, size, "%d/status", q.pid); return true;
    case ProcView::File::kStat: snprintf(path, size, "%d/stat", q.pid); return true;
    case ProcView::File::kPagemap: snprintf(path, size, "%d/pagemap", q.pid); return true;
    case ProcView::File::kSchedstat:
      snprintf(path, size, "%d/task/%d/schedstat", q.pid, q.tid);
      return true;
  }
  return false;
}

// Sends `error` and, if it is 0, `fd`.
bool SendAnswer(int error, int fd) {
  iovec iov{&error, sizeof(error)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (error == 0) {
    msg.msg_control = control;
    msg.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  }
  return sendmsg(kProcSocket, &msg, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(error));
}

[[noreturn]] void Serve(int socket, int proc) {
  // Out of the way of the numbers that they get.
  const int high_socket = fcntl(socket, F_DUPFD_CLOEXEC, 16);
  const int high_proc = fcntl(proc, F_DUPFD_CLOEXEC, 16);
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  setsid();
  prctl(PR_SET_NAME, "procfs", 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (dup3(high_socket, kProcSocket, O_CLOEXEC) < 0 ||
      dup3(high_proc, kProcDirectory, O_CLOEXEC) < 0 ||
      syscall(SYS_close_range, 2, ~0u, 0) != 0 || !confine::LimitCapabilities(0).ok() ||
      !confine::SetNoNewPrivileges().ok() || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
      !confine::InstallFilter(ProcFilterProgram()).ok())
    _exit(1);
  for (;;) {
    Question q{};
    if (recv(kProcSocket, &q, sizeof(q), 0) != static_cast<ssize_t>(sizeof(q))) _exit(0);
    char path[64];
    int fd = -1;
    int error = EINVAL;
    if (MakePath(q, path, sizeof(path))) {
      fd = openat(kProcDirectory, path, O_RDONLY | O_CLOEXEC);
      error = fd >= 0 ? 0 : errno;
    }
    if (!SendAnswer(error, fd)) _exit(0);
    if (fd >= 0) close(fd);
  }
}

Result<UniqueFd> ReceiveAnswer(int socket) {
  int error = 0;
  iovec iov{&error, sizeof(error)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  ssize_t n;
  do n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  UniqueFd fd;
  cmsghdr* c = n > 0 ? CMSG_FIRSTHDR(&msg) : nullptr;
  if (c != nullptr && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
      c->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number;
    memcpy(&number, CMSG_DATA(c), sizeof(number));
    fd.reset(number);
  }
  if (n != static_cast<ssize_t>(sizeof(error))) return Errno::kEIO;
  if (error != 0) return FromHostErrno(error);
  if (!fd) return Errno::kEMFILE;  // This process could not take it.
  return fd;
}

bool ReadText(int fd, char* text, size_t size) {
  const ssize_t n = pread(fd, text, size - 1, 0);
  text[std::max<ssize_t>(n, 0)] = '\0';
  return n > 0;
}

// A size of a status file, which has KiB.
uint64_t FieldOf(const char* text, const char* key) {
  const char* at = strstr(text, key);
  return at == nullptr ? 0 : strtoull(at + strlen(key), nullptr, 10) * 1024;
}

}  // namespace

Result<std::unique_ptr<ProcView>> ProcView::Start() {
  UniqueFd proc = MountProc();
  if (!proc) proc = ExistingProc();
  if (!proc) return Errno::kEPERM;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return FromHostErrno(errno);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  const pid_t pid = fork();
  if (pid < 0) return FromHostErrno(errno);
  if (pid == 0) Serve(theirs.get(), proc.get());
  return std::unique_ptr<ProcView>(new ProcView(std::move(ours), pid));
}

std::unique_ptr<ProcView> ProcView::StartIf(bool wanted) {
  if (!wanted) return nullptr;
  Result<std::unique_ptr<ProcView>> view = Start();
  if (view.ok()) return std::move(view).value();
  LOG_INFO("no procfs: sizes of guest processes are not known: ", ErrnoName(view.error()));
  return nullptr;
}

ProcView::~ProcView() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<UniqueFd> ProcView::Open(File file, pid_t pid, pid_t tid) {
  const Question q{file, pid, tid};
  MutexLock lock(mu_);
  ssize_t n;
  do n = send(socket_.get(), &q, sizeof(q), MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(sizeof(q))) return Errno::kEIO;
  return ReceiveAnswer(socket_.get());
}

Result<ProcView::Memory> ProcView::ReadMemory(pid_t pid) {
  UniqueFd status = TRY(Open(File::kStatus, pid));
  UniqueFd stat = TRY(Open(File::kStat, pid));
  char text[4096];
  if (!ReadText(status.get(), text, sizeof(text))) return Errno::kESRCH;
  Memory memory;
  memory.peak = FieldOf(text, "\nVmHWM:");
  memory.resident = FieldOf(text, "\nVmRSS:");
  memory.shared = FieldOf(text, "\nRssFile:") + FieldOf(text, "\nRssShmem:");
  if (!ReadText(stat.get(), text, sizeof(text))) return Errno::kESRCH;
  // proc_pid_stat(5): the name is in parentheses and may hold anything.
  const char* rest = strrchr(text, ')');
  unsigned long minor, major;
  if (rest == nullptr ||
      sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor, &major) != 2)
    return Errno::kEIO;
  memory.minor_faults = minor;
  memory.major_faults = major;
  return memory;
}

Result<void> ProcView::ReadPagemap(pid_t pid, uint64_t address, absl::Span<uint64_t> entries) {
  UniqueFd fd = TRY(Open(File::kPagemap, pid));
  size_t done = 0;
  while (done < entries.size()) {
    const size_t bytes = (entries.size() - done) * sizeof(uint64_t);
    const ssize_t n = pread(fd.get(), &entries[done], bytes,
                            static_cast<off_t>((address / kPageSize + done) * sizeof(uint64_t)));
    if (n < 0 && errno == EINTR) continue;
    if (n < static_cast<ssize_t>(sizeof(uint64_t))) return Errno::kEIO;
    done += static_cast<size_t>(n) / sizeof(uint64_t);
  }
  return OkResult();
}

uint64_t ProcView::ReadThreadTime(int fd) {
  char text[64];
  return ReadText(fd, text, sizeof(text)) ? strtoull(text, nullptr, 10) : 0;
}

}  // namespace caisson::platform::stub
