// Trees of generated files: what procfs and sysfs are made of. What is in a file comes from tables
// that the sentry hands over; this folder knows none of them.
#ifndef CAISSON_VFS_PROC_TREE_H_
#define CAISSON_VFS_PROC_TREE_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/ref.h"
#include "base/result.h"
#include "vfs/call_context.h"
#include "vfs/inode.h"
#include "vfs/types.h"

namespace caisson::vfs::proc {

struct Entry;

// What a file is about: the kernel, a task, one of its descriptors. Thread-safe.
class Object : public RefCounted<Object> {
 public:
  virtual ~Object() = default;
  // False once it has ended: its directories are empty, names in them ENOENT.
  virtual bool Exists() const { return true; }
  // Whether this is about the same thing as `other`, which an inode with the same entry is about.
  virtual bool Same(const Object& other) const { return this == &other; }
  // Sets owner, link count, size and what else is not root's and of the table's mode.
  virtual void FillAttributes(CallContext& ctx, const Entry& entry, Attributes& attr) {}
};

// What leads a dynamic directory's name on.
struct Child {
  const Entry* entry = nullptr;  // Its name is not used.
  RefPtr<Object> object;
};

// Receives one name; returns false when no more are wanted.
using NameSink = absl::FunctionRef<bool(absl::string_view name, const Entry& entry, uint64_t cookie)>;

// A directory: a fixed table, then names made up on the spot (tasks, descriptors).
struct Directory {
  absl::Span<const Entry> entries;
  // Errors: ENOENT.
  Result<Child> (*lookup)(CallContext& ctx, Object& object, absl::string_view name) = nullptr;
  // Names whose cookie is at least `from`, with rising cookies (< 2^48).
  Result<void> (*list)(CallContext& ctx, Object& object, uint64_t from, NameSink sink) = nullptr;
  // Whether dentries may be kept: the table's answer for a name never changes.
  bool cached = false;
};

// One row of a table. The mode's type says which of the functions are used.
struct Entry {
  absl::string_view name;
  FileMode mode = 0;  // Type and permissions.
  const Directory* directory = nullptr;
  // Regular files: all of the content. Generated when a read starts at offset 0. `opener` had them when the file was
  // opened (Linux file->f_cred): the context's are those of whoever has the descriptor now.
  Result<std::string> (*read)(CallContext& ctx, Object& object, const auth::Credentials& opener) = nullptr;
  // One write(2), all or nothing. Data is at most kMaxWrite bytes.
  Result<void> (*write)(CallContext& ctx, Object& object, absl::string_view data, uint64_t offset,
                        const auth::Credentials& opener) = nullptr;
  // Links. A link with `follow` is a magic one: it leads to an object.
  Result<std::string> (*link)(CallContext& ctx, Object& object) = nullptr;
  Result<VfsPath> (*follow)(CallContext& ctx, Object& object) = nullptr;
  // At open: checks who may, and returns what the open file is about from then on (a task's mm,
  // whatever the task executes later).
  Result<RefPtr<Object>> (*pin)(CallContext& ctx, Object& object, const OpenArgs& args) = nullptr;
  // Opens a file that is more than text; instead of read and write.
  Result<RefPtr<FileDescription>> (*open)(CallContext& ctx, Object& object, const OpenArgs& args,
                                          Inode& inode) = nullptr;
  // Instead of the rule of mode and owner.
  Result<void> (*permission)(CallContext& ctx, Object& object, const Attributes& attr,
                             AccessMask access) = nullptr;
};

inline constexpr size_t kMaxWrite = 64 << 10;

// A mounted tree. Thread-safe.
class GeneratedFileSystem : public FileSystem {
 public:
  // `magic` is statfs(2)'s; `root` is a directory's entry, about `object`.
  GeneratedFileSystem(absl::string_view type_name, uint64_t magic, const Entry& root,
                      RefPtr<Object> object, std::string options = "");
  ~GeneratedFileSystem() override;
  RefPtr<Inode> root() override;
  Result<FsStatistics> Statistics(CallContext& ctx) override;
  std::string MountOptions() const override { return options_; }
  Result<void> Remount(CallContext& ctx, uint64_t flags, absl::string_view data) override;

  // --- For the inodes. ---
  // The inode numbered `ino`: the one in use if it is about the same object, else a new one.
  RefPtr<Inode> GetInode(uint64_t ino, const Entry& entry, RefPtr<Object> object);

 private:
  friend class GeneratedInode;
  void Forget(Inode& inode, uint64_t ino);

  const uint64_t magic_;
  const Entry& root_entry_;
  const RefPtr<Object> root_object_;
  const std::string options_;
  struct Table;
  const std::unique_ptr<Table> table_;
};

// The object of a generated inode (an open file's inode()), for the sentry's own kinds of files.
Object& ObjectOf(Inode& inode);
// The table row that a generated inode is for.
const Entry& EntryOf(const Inode& inode);

}  // namespace caisson::vfs::proc

#endif  // CAISSON_VFS_PROC_TREE_H_
