// What sentry and gofer say to each other: fixed-layout messages over a SOCK_SEQPACKET socket pair,
// one pair for each GOFER mount. README.md has the rules; both sides distrust the other.
#ifndef CAISSON_GOFER_PROTOCOL_MESSAGES_H_
#define CAISSON_GOFER_PROTOCOL_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace caisson::gofer {

inline constexpr uint32_t kProtocolVersion = 1;
// Header included. A packet that is longer is refused by its receiver.
inline constexpr size_t kMaxMessage = 68 * 1024;
inline constexpr size_t kMaxName = 255;
inline constexpr size_t kMaxPath = 4095;
inline constexpr size_t kMaxXattr = 65536;
inline constexpr size_t kMaxWalk = 16;      // Components of one kWalk.
inline constexpr size_t kMaxRelease = 512;  // Handles, and watches, of one kRelease.
inline constexpr uint64_t kRootHandle = 1;  // What the mount's root is from the start.

enum class Op : uint16_t {
  kAttach = 1,
  kWalk = 2,
  kOpen = 3,
  kCreate = 4,     // Regular file, O_EXCL, and opens it.
  kMkdir = 5,
  kMknod = 6,      // FIFO, socket, device (by mode).
  kSymlink = 7,
  kTmpfile = 8,    // O_TMPFILE: unnamed regular file, and opens it.
  kLink = 9,
  kUnlink = 10,
  kRename = 11,
  kGetAttributes = 12,
  kSetAttributes = 13,
  kReadLink = 14,
  kReadDirectory = 15,
  kStatfs = 16,
  kGetXattr = 17,
  kSetXattr = 18,
  kListXattr = 19,
  kRemoveXattr = 20,
  kSync = 21,
  kRelease = 22,   // Has no reply.
};
inline constexpr uint16_t kLastOp = 22;

// Every request starts with this, then the struct of its Op, then the bytes whose lengths that
// struct has, in the order of its fields: a Locator's path first.
struct RequestHeader {
  uint64_t id;        // Chosen by the client; comes back in the reply.
  uint16_t op;
  uint16_t cpu;       // Where the caller waits for the answer, plus one; 0: anywhere.
  uint32_t size;      // Of the whole message.
};

// Every reply starts with this; then the reply struct of the Op, unless `error` is set.
struct ReplyHeader {
  uint64_t id;
  int32_t error;    // 0 or a host errno.
  int32_t watch;    // Watch descriptor of the located directory, if kReplyWatched.
  uint64_t handle;  // Handle of the located object, 0 if none is kept. Valid on errors too.
  uint32_t flags;
  uint32_t size;    // Of the whole message.
};
inline constexpr uint32_t kReplyWatched = 1;
inline constexpr uint32_t kReplyDescriptor = 2;  // One descriptor comes along.

// Names an object: what `path` leads to from the object behind `handle`, through directories
// only. Symbolic links are never followed: one that is the last component is the object itself.
struct Locator {
  uint64_t handle;
  uint64_t dev;          // Expected identity, 0 and 0 for any: ESTALE if it is not there.
  uint64_t ino;
  uint16_t path_length;  // 0: the handle's object. No "", "." or ".." components.
  uint16_t flags;
  uint32_t reserved;     // 0.
};
inline constexpr uint16_t kLocateKeep = 1;   // Return a handle of the object.
inline constexpr uint16_t kLocateWatch = 2;  // Put a watch on it, before anything else, if it is a directory.

struct WireTime {
  int64_t sec;
  uint32_t nsec;
  uint32_t reserved;
};

struct WireAttributes {
  uint64_t dev;  // The host's, as makedev(3) joins it.
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;
  uint32_t mode;
  uint32_t nlink;
  uint32_t uid;  // As seen in the gofer's user namespace: the container's ids.
  uint32_t gid;
  uint32_t block_size;
  uint32_t rdev_major;
  uint32_t rdev_minor;
  uint32_t has_btime;
  WireTime atime, mtime, ctime, btime;
};

struct AttachRequest {
  uint32_t version;
  uint32_t reserved;
};
// With a descriptor: an inotify queue that the sentry owns and the gofer adds watches to.
struct AttachReply {
  uint32_t version;
  uint32_t flags;
  uint32_t max_handles;  // Requests that would keep more succeed, but keep nothing.
  uint32_t reserved;
  WireAttributes root;
};
inline constexpr uint32_t kAttachReadOnly = 1;
inline constexpr uint32_t kAttachIsFile = 2;

// Names up to kMaxWalk components below a directory. Ends early at what is not a directory.
struct WalkRequest {
  Locator directory;
  uint16_t path_length;
  uint16_t reserved0;
  uint32_t reserved1;
};
struct WalkReply {
  uint32_t count;  // Of WireAttributes that follow: at least 1.
  int32_t error;   // Why the component after those was not reached; 0 at the end.
};

// Regular files only: ENXIO for others. The reply is WireAttributes and the descriptor.
struct OpenRequest {
  Locator object;
  uint32_t access;
  uint32_t flags;
};
inline constexpr uint32_t kAccessRead = 1;
inline constexpr uint32_t kAccessWrite = 2;
inline constexpr uint32_t kOpenDirectIo = 1;

// kCreate, kMkdir, kMknod, kSymlink, kTmpfile (no name). The reply is ChildReply; its handle is
// kept only for kCreate and kTmpfile, which bring a descriptor for reading and writing.
struct MakeRequest {
  Locator directory;
  uint32_t mode;  // With the type.
  uint32_t uid;
  uint32_t gid;
  uint32_t rdev_major;
  uint32_t rdev_minor;
  uint16_t name_length;
  uint16_t target_length;  // kSymlink.
};
struct ChildReply {
  uint64_t handle;  // 0: none.
  WireAttributes attributes;
  WireAttributes directory;  // As it is after the change. With mode 0: not known.
};

struct LinkRequest {  // The reply is ChildReply, with the object's attributes.
  Locator object;
  Locator directory;
  uint16_t name_length;
  uint16_t reserved0;
  uint32_t reserved1;
};

// The reply is ChildReply: with kUnlinkKeep, a handle of the victim and what it is now.
struct UnlinkRequest {
  Locator directory;
  uint16_t name_length;
  uint16_t flags;
  uint32_t reserved;
};
inline constexpr uint16_t kUnlinkDirectory = 1;  // AT_REMOVEDIR.
inline constexpr uint16_t kUnlinkKeep = 2;

struct RenameRequest {
  Locator old_directory;
  Locator new_directory;
  uint16_t old_name_length;
  uint16_t new_name_length;
  uint32_t flags;        // RENAME_*.
  uint32_t keep_victim;  // 1: keep a handle of what is at the new name now.
  uint32_t reserved;
};
struct RenameReply {
  uint64_t victim_handle;
  WireAttributes moved;
  WireAttributes old_directory, new_directory;  // As they are after the change.
};

struct ObjectRequest {  // kGetAttributes (WireAttributes), kReadLink (bytes), kStatfs (StatfsReply).
  Locator object;
};

struct SetAttributesRequest {  // The reply is WireAttributes.
  Locator object;
  uint32_t valid;
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint64_t size;
  WireTime atime, mtime;
};
inline constexpr uint32_t kSetMode = 1, kSetUid = 2, kSetGid = 4, kSetSize = 8, kSetAtime = 16,
                          kSetAtimeNow = 32, kSetMtime = 64, kSetMtimeNow = 128;
inline constexpr uint32_t kSetAll = 255;

struct ReadDirectoryRequest {
  Locator directory;
  uint64_t cookie;  // 0: from the start, else next_cookie of the last reply.
};
// Then `count` times DirectoryEntry with its name. "." and ".." are left out.
struct ReadDirectoryReply {
  uint64_t next_cookie;
  uint32_t count;
  uint32_t end;  // 1: that was all.
  WireAttributes self;
};
struct DirectoryEntry {
  WireAttributes attributes;  // With mode 0, only ino is known.
  uint16_t name_length;
  uint16_t type;              // DT_*.
  uint32_t reserved;
};

struct StatfsReply {
  uint64_t type, block_size, blocks, blocks_free, blocks_available, files, files_free, name_length;
};

struct XattrRequest {  // Get: bytes; List: names, each with its NUL.
  Locator object;
  uint16_t name_length;
  uint16_t reserved;
  uint32_t flags;         // XATTR_CREATE, XATTR_REPLACE.
  uint32_t value_length;  // Set only.
  uint32_t reserved1;
};

struct SyncRequest {
  Locator object;
  uint32_t flags;
  uint32_t reserved;
};
inline constexpr uint32_t kSyncData = 1;
inline constexpr uint32_t kSyncFileSystem = 2;

struct ReleaseRequest {  // Then handles (uint64_t), then watches (int32_t).
  uint32_t handle_count;
  uint32_t watch_count;
};

static_assert(sizeof(RequestHeader) == 16 && sizeof(ReplyHeader) == 32 && sizeof(Locator) == 32);
static_assert(sizeof(WireTime) == 16 && sizeof(WireAttributes) == 128);
static_assert(sizeof(AttachRequest) == 8 && sizeof(AttachReply) == 144);
static_assert(sizeof(WalkRequest) == 40 && sizeof(WalkReply) == 8 && sizeof(OpenRequest) == 40);
static_assert(sizeof(MakeRequest) == 56 && sizeof(ChildReply) == 264 && sizeof(LinkRequest) == 72);
static_assert(sizeof(UnlinkRequest) == 40 && sizeof(RenameRequest) == 80);
static_assert(sizeof(RenameReply) == 392 && sizeof(SetAttributesRequest) == 88);
static_assert(sizeof(ReadDirectoryRequest) == 40 && sizeof(ReadDirectoryReply) == 144);
static_assert(sizeof(DirectoryEntry) == 136 && sizeof(StatfsReply) == 64);
static_assert(sizeof(XattrRequest) == 48 && sizeof(SyncRequest) == 40);
static_assert(sizeof(ReleaseRequest) == 8);

}  // namespace caisson::gofer

#endif  // CAISSON_GOFER_PROTOCOL_MESSAGES_H_
