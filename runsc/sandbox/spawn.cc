#include "runsc/sandbox/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace caisson::runsc {
namespace {

// 0x70000000 to 0x7effffff: above the ranges that distributions and systemd give out for users and
// for containers' id maps, below 2^31.
constexpr uint32_t kFirstSandboxId = 0x70000000;
constexpr uint32_t kSandboxIds = 0x0f000000;
constexpr uint32_t kNobody = 65534;

bool Covers(const std::vector<IdRange>& map, uint32_t id) {
  for (const IdRange& range : map) {
    if (id >= range.inside && id - range.inside < range.count) return true;
  }
  return false;
}

absl::Status WriteFile(const std::string& path, absl::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return HostErrnoStatus(errno, path);
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return HostErrnoStatus(errno, absl::StrCat("writing ", path));
  }
  return absl::OkStatus();
}

absl::Status WriteMap(pid_t pid, const char* file, const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) {
    absl::StrAppend(&text, range.inside, " ", range.outside, " ", range.count, "\n");
  }
  return WriteFile(absl::StrCat("/proc/", pid, "/", file), text);
}

// In the child: waits for its id maps, becomes root of its namespace, executes.
[[noreturn]] void RunChild(const ChildSpec& spec, int go_fd) {
  char go = 0;
  ssize_t n;
  do {
    n = read(go_fd, &go, 1);
  } while (n < 0 && errno == EINTR);
  if (n != 1) _exit(125);  // The parent gave up.
  absl::Status status;
  // Raw calls: the C library would tell its other threads, which are not here.
  // EPERM is a namespace in which groups cannot be set at all, /proc/PID/setgroups says "deny".
  if (syscall(SYS_setgroups, 0, nullptr) != 0 && errno != EPERM) {
    status = HostErrnoStatus(errno, "setgroups");
  } else if (syscall(SYS_setresgid, 0, 0, 0) != 0 || syscall(SYS_setresuid, 0, 0, 0) != 0) {
    status = HostErrnoStatus(errno, "becoming root of a user namespace");
  } else {
    status = spec.exec();
  }
  const std::string text = absl::StrCat(spec.name, ": ", status.message(), "\n");
  [[maybe_unused]] ssize_t written = write(spec.error_fd, text.data(), text.size());
  _exit(125);
}

}  // namespace

absl::StatusOr<std::vector<IdRange>> IdentityMap(const char* map_file) {
  UniqueFd fd(open(map_file, O_RDONLY | O_CLOEXEC));
  std::string text(4096, '\0');
  const ssize_t n = fd ? read(fd.get(), text.data(), text.size()) : -1;
  if (n < 0) return HostErrnoStatus(errno, map_file);
  text.resize(static_cast<size_t>(n));
  std::vector<IdRange> ranges;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    IdRange range{};
    if (fields.size() != 3 || !absl::SimpleAtoi(fields[0], &range.inside) ||
        !absl::SimpleAtoi(fields[2], &range.count)) {
      return absl::InternalError(absl::StrCat(map_file, ": malformed"));
    }
    range.outside = range.inside;
    ranges.push_back(range);
  }
  return ranges;
}

absl::StatusOr<uint32_t> PickSandboxId(absl::string_view sandbox_id,
                                       const std::vector<IdRange>& map) {
  // FNV-1a: the same id for the same sandbox in every process, which absl::Hash does not promise.
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : sandbox_id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  const uint32_t id = kFirstSandboxId + static_cast<uint32_t>(hash % kSandboxIds);
  if (Covers(map, id)) return id;
  if (Covers(map, kNobody)) return kNobody;
  // Rootless: whoever started us is all there is.
  if (!map.empty()) return map[0].inside;
  return absl::FailedPreconditionError("this user namespace has no ids");
}

absl::StatusOr<ChildProcess> SpawnInUserNamespace(const ChildSpec& spec) {
  int go[2];
  if (pipe2(go, O_CLOEXEC) != 0) return HostErrnoStatus(errno, "pipe");
  UniqueFd go_read(go[0]);
  UniqueFd go_write(go[1]);
  int pidfd = -1;
  clone_args args{};
  args.flags = spec.namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid < 0) {
    const int error = errno;
    absl::string_view hint;
    if (error == EPERM || error == ENOSPC) {
      hint = " (user namespaces may be disabled: see user.max_user_namespaces and "
             "kernel.unprivileged_userns_clone)";
    }
    return Annotate(HostErrnoStatus(error, "clone into new namespaces"),
                    absl::StrCat(spec.name, hint));
  }
  if (pid == 0) {
    go_write.reset();
    RunChild(spec, go_read.get());
  }
  ChildProcess child{static_cast<pid_t>(pid), UniqueFd(pidfd)};
  absl::Status mapped = WriteMap(child.pid, "uid_map", spec.uids);
  if (mapped.ok()) mapped = WriteMap(child.pid, "gid_map", spec.gids);
  if (mapped.ok() && write(go_write.get(), "g", 1) != 1) mapped = HostErrnoStatus(errno, "pipe");
  if (!mapped.ok()) {
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
    return Annotate(mapped, spec.name);
  }
  return child;
}

absl::Status EnterNamespaces(const std::vector<NamespacePath>& namespaces) {
  int fresh = 0;
  std::vector<UniqueFd> given;
  for (const NamespacePath& entry : namespaces) {
    if ((entry.clone_flag & (CLONE_NEWUSER | CLONE_NEWPID)) != 0) {
      return absl::InvalidArgumentError("the monitor stays in the host's user and pid namespaces");
    }
    if (entry.path.empty()) {
      fresh |= entry.clone_flag;
      given.emplace_back();
      continue;
    }
    // All are opened first: entering a mount namespace changes what paths mean.
    given.emplace_back(open(entry.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!given.back()) return HostErrnoStatus(errno, absl::StrCat("namespace ", entry.path));
  }
  for (size_t i = 0; i < namespaces.size(); ++i) {
    if (given[i] && setns(given[i].get(), namespaces[i].clone_flag) != 0) {
      return HostErrnoStatus(errno, absl::StrCat("entering namespace ", namespaces[i].path));
    }
  }
  if (fresh != 0 && unshare(fresh) != 0) return HostErrnoStatus(errno, "making namespaces");
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> DetachedMount(const GoferSource& source) {
  UniqueFd tree(open_tree(source.path_fd.get(), "",
                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
  if (!tree) return HostErrnoStatus(errno, "cloning the mount of a gofer source");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (source.read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                    sizeof(attributes)) != 0) {
    return HostErrnoStatus(errno, "restricting the mount of a gofer source");
  }
  return tree;
}

}  // namespace caisson::runsc
