// Plain types of the file layer.
#ifndef CAISSON_VFS_TYPES_H_
#define CAISSON_VFS_TYPES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/ref.h"

namespace caisson::vfs {

// st_mode: S_IFMT bits and permissions, Linux's values.
using FileMode = uint32_t;
inline constexpr FileMode kModeType = 0170000;
inline constexpr FileMode kModeSocket = 0140000;
inline constexpr FileMode kModeLink = 0120000;
inline constexpr FileMode kModeRegular = 0100000;
inline constexpr FileMode kModeBlock = 0060000;
inline constexpr FileMode kModeDirectory = 0040000;
inline constexpr FileMode kModeChar = 0020000;
inline constexpr FileMode kModeFifo = 0010000;
inline constexpr FileMode kModeSetuid = 04000;
inline constexpr FileMode kModeSetgid = 02000;
inline constexpr FileMode kModeSticky = 01000;
inline constexpr FileMode kModePermissions = 07777;

// A device number split as makedev(3) joins it.
struct DeviceNumber {
  uint32_t major = 0;
  uint32_t minor = 0;
  // The guest's encoding (Linux new_encode_dev / glibc makedev, 64 bits).
  constexpr uint64_t Encode() const {
    return (uint64_t{major & 0xfff} << 8) | (minor & 0xff) | (uint64_t{minor & ~0xffu} << 12) |
           (uint64_t{major & ~0xfffu} << 32);
  }
  static constexpr DeviceNumber Decode(uint64_t dev) {
    return {static_cast<uint32_t>(((dev >> 8) & 0xfff) | ((dev >> 32) & ~uint64_t{0xfff})),
            static_cast<uint32_t>((dev & 0xff) | ((dev >> 12) & ~uint64_t{0xff}))};
  }
  friend constexpr bool operator==(DeviceNumber, DeviceNumber) = default;
};

struct Timestamp {
  int64_t sec = 0;
  uint32_t nsec = 0;  // < 1e9.
  static Timestamp FromNanoseconds(int64_t ns) {
    int64_t s = ns / 1'000'000'000, rest = ns % 1'000'000'000;
    if (rest < 0) { --s; rest += 1'000'000'000; }
    return {s, static_cast<uint32_t>(rest)};
  }
  friend constexpr auto operator<=>(const Timestamp&, const Timestamp&) = default;
};

// What statx(2) reports. Owner ids are kernel ids.
struct Attributes {
  uint64_t ino = 0;
  FileMode mode = 0;
  uint32_t nlink = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // Of 512 bytes.
  uint32_t block_size = 4096;
  DeviceNumber dev;   // Of the file system.
  DeviceNumber rdev;  // Of a device node.
  Timestamp atime, mtime, ctime;
  std::optional<Timestamp> btime;
  bool is_directory() const { return (mode & kModeType) == kModeDirectory; }
  bool is_regular() const { return (mode & kModeType) == kModeRegular; }
};

// A change of attributes: what is not set stays. Permission was checked by the caller
// (vfs/permission.h), which also cleared set-id bits where Linux does.
struct SetAttributes {
  struct Time {
    bool now = false;  // Else `at`.
    Timestamp at;
  };
  std::optional<FileMode> mode;  // Permission bits only.
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size;
  std::optional<Time> atime;
  std::optional<Time> mtime;
};

// statfs(2).
struct FsStatistics {
  uint64_t type = 0;  // Magic number.
  uint64_t block_size = 4096;
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  uint64_t fsid = 0;
  uint64_t name_length = 255;
};

inline constexpr size_t kNameMax = 255;
inline constexpr size_t kPathMax = 4096;
inline constexpr int kMaxSymlinks = 40;

// Access bits of permission checks, as in access(2).
using AccessMask = uint32_t;
inline constexpr AccessMask kMayExec = 1;
inline constexpr AccessMask kMayWrite = 2;
inline constexpr AccessMask kMayRead = 4;

class Dentry;
class FileDescription;
class FileSystem;
class Inode;
class Mount;
class MountNamespace;

// A place in the tree: which mount, which name in it. Either both or none.
struct VfsPath {
  RefPtr<Mount> mount;
  RefPtr<Dentry> dentry;
  explicit operator bool() const { return static_cast<bool>(dentry); }
  VfsPath();
  VfsPath(RefPtr<Mount> m, RefPtr<Dentry> d);
  VfsPath(const VfsPath&);
  VfsPath(VfsPath&&) noexcept;
  VfsPath& operator=(VfsPath) noexcept;
  ~VfsPath();
  friend bool operator==(const VfsPath& a, const VfsPath& b) {
    return a.mount.get() == b.mount.get() && a.dentry.get() == b.dentry.get();
  }
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_TYPES_H_
