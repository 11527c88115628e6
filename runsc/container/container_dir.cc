#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "runsc/container/id.h"
#include "runsc/container/state.h"

namespace caisson::runsc {
namespace {

absl::Status NotFound(const std::string& id) {
  return absl::NotFoundError(absl::StrCat("container \"", id, "\" does not exist"));
}

absl::Status MakeParents(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string dir = path.substr(0, slash);
    if (mkdir(dir.c_str(), 0711) != 0 && errno != EEXIST) {
      return HostErrnoStatus(errno, absl::StrCat("mkdir ", dir));
    }
    if (slash == std::string::npos) return absl::OkStatus();
  }
}

absl::Status WriteAll(int fd, absl::string_view content) {
  while (!content.empty()) {
    ssize_t n = write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return HostErrnoStatus(errno, "write");
    content.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ContainerDir> ContainerDir::Make(const std::string& root, const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  RETURN_IF_ERROR(MakeParents(root));
  std::string path = absl::StrCat(root, "/", id);
  if (mkdir(path.c_str(), 0711) != 0) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(
          absl::StrCat("container with given ID already exists: \"", id, "\""));
    }
    return HostErrnoStatus(errno, absl::StrCat("container \"", id, "\": mkdir ", path));
  }
  UniqueFd dir(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) {
    int error = errno;
    rmdir(path.c_str());
    return HostErrnoStatus(error, path);
  }
  return ContainerDir(id, std::move(path), std::move(dir));
}

absl::StatusOr<ContainerDir> ContainerDir::Open(const std::string& root, const std::string& id) {
  RETURN_IF_ERROR(ValidateId(id));
  std::string path = absl::StrCat(root, "/", id);
  UniqueFd dir(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) {
    if (errno == ENOENT || errno == ENOTDIR) return NotFound(id);
    return HostErrnoStatus(errno, absl::StrCat("container \"", id, "\": ", path));
  }
  return ContainerDir(id, std::move(path), std::move(dir));
}

absl::StatusOr<std::vector<std::string>> ContainerDir::List(const std::string& root) {
  std::vector<std::string> out;
  DIR* dir = opendir(root.c_str());
  if (dir == nullptr) {
    if (errno == ENOENT) return out;
    return HostErrnoStatus(errno, root);
  }
  absl::Cleanup close_dir = [dir] { closedir(dir); };
  while (dirent* entry = readdir(dir)) {
    if (ValidateId(entry->d_name).ok() && entry->d_type == DT_DIR) out.emplace_back(entry->d_name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

absl::Status ContainerDir::Lock(int timeout_ms) {
  UniqueFd fd(openat(dir_.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    if (errno == ENOENT) return NotFound(id_);
    return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": lock"));
  }
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  for (int waited = 0; fcntl(fd.get(), F_SETLK, &whole) != 0; waited += 10) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
      return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": lock"));
    }
    if (waited >= timeout_ms) {
      return absl::DeadlineExceededError(
          absl::StrCat("container \"", id_, "\": another command is working on it"));
    }
    timespec delay{0, 10'000'000};
    nanosleep(&delay, nullptr);
  }
  // Who held it may have been `delete`.
  struct stat st {};
  if (fstat(fd.get(), &st) != 0 || st.st_nlink == 0) return NotFound(id_);
  lock_ = std::move(fd);
  return absl::OkStatus();
}

bool ContainerDir::IsLocked() const {
  // Opening and closing it in the process that holds it would drop the lock (fcntl(2)).
  if (lock_) return false;
  UniqueFd fd(openat(dir_.get(), "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return fd && fcntl(fd.get(), F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

absl::Status ContainerDir::WriteFile(const std::string& name, absl::string_view content) const {
  std::string temporary = absl::StrCat(".", name, ".", getpid());
  std::string what = absl::StrCat("container \"", id_, "\": writing ", name);
  UniqueFd fd(openat(dir_.get(), temporary.c_str(),
                     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return HostErrnoStatus(errno, what);
  absl::Cleanup undo = [&] { unlinkat(dir_.get(), temporary.c_str(), 0); };
  absl::Status written = WriteAll(fd.get(), content);
  if (!written.ok()) return Annotate(written, what);
  if (renameat(dir_.get(), temporary.c_str(), dir_.get(), name.c_str()) != 0) {
    return HostErrnoStatus(errno, what);
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

absl::StatusOr<std::string> ContainerDir::ReadFile(const std::string& name) const {
  UniqueFd fd(openat(dir_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": reading ", name));
  }
  std::string out;
  char buffer[65536];
  while (true) {
    ssize_t n = read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": reading ", name));
    }
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

absl::StatusOr<UniqueFd> ContainerDir::MakeExitStatus() const {
  UniqueFd fd(openat(dir_.get(), "exit-status",
                     O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": exit-status"));
  return fd;
}

absl::StatusOr<int> ContainerDir::ExitStatus() const {
  absl::StatusOr<std::string> text = ReadFile("exit-status");
  int wait_status = 0;
  if (text.ok() && absl::SimpleAtoi(*text, &wait_status)) return wait_status;
  return absl::NotFoundError(absl::StrCat("container \"", id_, "\": its exit status is not known"));
}

absl::StatusOr<State> ContainerDir::LoadState() const {
  ASSIGN_OR_RETURN(std::string text, ReadFile("state.json"));
  absl::StatusOr<oci::Json> json = oci::ParseJson(text);
  absl::Status error = json.status();
  if (json.ok()) {
    absl::StatusOr<State> state = StateFromJson(*json);
    if (state.ok() && state->id == id_) return state;
    error = state.ok() ? absl::InternalError("it is of another container") : state.status();
  }
  return absl::DataLossError(
      absl::StrCat("container \"", id_, "\": state.json: ", error.message()));
}

absl::Status ContainerDir::SaveState(const State& state) const {
  return WriteFile("state.json", StateToJson(state).ToText("  ") + "\n");
}

absl::Status ContainerDir::Remove() {
  // Only what we put there; the directory has no directories in it.
  UniqueFd copy(openat(dir_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* dir = copy ? fdopendir(copy.get()) : nullptr;
  if (dir == nullptr) return HostErrnoStatus(errno, path_);
  (void)copy.Release();  // fdopendir took it.
  absl::Cleanup close_dir = [dir] { closedir(dir); };
  while (dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    // The lock goes last: who waits for it finds it unlinked.
    if (name != "." && name != ".." && name != "lock") unlinkat(dir_.get(), name.c_str(), 0);
  }
  unlinkat(dir_.get(), "lock", 0);
  if (rmdir(path_.c_str()) != 0 && errno != ENOENT) {
    return HostErrnoStatus(errno, absl::StrCat("container \"", id_, "\": rmdir ", path_));
  }
  return absl::OkStatus();
}

}  // namespace caisson::runsc
