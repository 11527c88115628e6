#include "vfs/anon/anon_inode.h"

#include "vfs/file_description.h"

namespace caisson::vfs {
namespace {

constexpr uint64_t kAnonInodeMagic = 0x09041934;

class AnonInode final : public Inode {
 public:
  explicit AnonInode(FileSystem& fs)
      : Inode(fs, 0), made_(Timestamp::FromNanoseconds(time::RealtimeNow())) {}

  Result<Attributes> GetAttributes(CallContext&) override {
    Attributes attr;
    attr.ino = 1;
    attr.mode = 0600;
    attr.dev = fs().device();
    attr.atime = attr.mtime = attr.ctime = made_;
    return attr;
  }
  // Linux fs/libfs.c, anon_inode_setattr(): the inode is everybody's.
  Result<void> SetAttributes(CallContext&, const struct SetAttributes&) override {
    return Errno::kEOPNOTSUPP;
  }
  Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs&) override {
    return Errno::kENXIO;
  }

 private:
  const Timestamp made_;
};

}  // namespace

AnonFileSystem::AnonFileSystem() : FileSystem("anon_inodefs") {}

RefPtr<Inode> AnonFileSystem::root() { return MakeRef<AnonInode>(*this); }

Result<FsStatistics> AnonFileSystem::Statistics(CallContext&) {
  FsStatistics s;
  s.type = kAnonInodeMagic;
  return s;
}

}  // namespace caisson::vfs
