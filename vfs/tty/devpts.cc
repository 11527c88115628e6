#include "vfs/tty/devpts.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "auth/credentials.h"
#include "vfs/tty/pty.h"

namespace caisson::vfs::tty {
namespace {

constexpr uint64_t kDevptsMagic = 0x1cd1;
constexpr uint64_t kRootIno = 1, kPtmxIno = 2, kFirstSlaveIno = 3;

bool ParseNumber(absl::string_view text, int base, uint32_t max, uint32_t* out) {
  uint32_t value = 0;
  if (text.empty() || text.size() > 10) return false;
  for (char c : text) {
    if (c < '0' || c >= '0' + base) return false;
    uint64_t next = uint64_t{value} * base + (c - '0');
    if (next > max) return false;
    value = static_cast<uint32_t>(next);
  }
  *out = value;
  return true;
}

// A device node with attributes of its own.
class NodeInode : public Inode {
 public:
  NodeInode(FileSystem& fs, uint64_t ino, FileMode permissions, uint32_t uid, uint32_t gid,
            DeviceNumber rdev)
      : Inode(fs, kModeChar) {
    attr_.ino = ino;
    attr_.mode = kModeChar | permissions;
    attr_.uid = uid;
    attr_.gid = gid;
    attr_.dev = fs.device();
    attr_.rdev = rdev;
    attr_.block_size = 1024;
    attr_.atime = attr_.mtime = attr_.ctime = Timestamp::FromNanoseconds(time::RealtimeNow());
  }
  Result<Attributes> GetAttributes(CallContext&) override {
    MutexLock lock(mu_);
    return attr_;
  }
  Result<void> SetAttributes(CallContext&, const struct SetAttributes& change) override {
    if (change.size) return Errno::kEINVAL;
    Timestamp now = Timestamp::FromNanoseconds(time::RealtimeNow());
    MutexLock lock(mu_);
    if (change.mode) attr_.mode = kModeChar | (*change.mode & kModePermissions);
    if (change.uid) attr_.uid = *change.uid;
    if (change.gid) attr_.gid = *change.gid;
    if (change.atime) attr_.atime = change.atime->now ? now : change.atime->at;
    if (change.mtime) attr_.mtime = change.mtime->now ? now : change.mtime->at;
    attr_.ctime = now;
    return {};
  }

 private:
  Mutex mu_;
  Attributes attr_ ABSL_GUARDED_BY(mu_);
};

class SlaveInode final : public NodeInode {
 public:
  SlaveInode(FileSystem& fs, RefPtr<Tty> tty, FileMode permissions, uint32_t uid, uint32_t gid)
      : NodeInode(fs, kFirstSlaveIno + tty->index(), permissions, uid, gid, tty->device()),
        tty_(std::move(tty)) {}
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override {
    return PtySlave::Open(ctx, tty_, args.path, RefPtr<Inode>(this), args.flags, args.no_ctty);
  }

 private:
  const RefPtr<Tty> tty_;
};

// Linux differs: what chown and chmod do to "ptmx" lasts while its name is cached.
class PtmxInode final : public NodeInode {
 public:
  PtmxInode(DevptsFileSystem& fs, FileMode mode)
      : NodeInode(fs, kPtmxIno, mode, 0, 0, DeviceNumber{5, 2}), devpts_(fs) {}
  Result<RefPtr<FileDescription>> Open(CallContext& ctx, const OpenArgs& args) override {
    return devpts_.OpenMaster(ctx, args, *this);
  }

 private:
  DevptsFileSystem& devpts_;  // Inode holds it.
};

}  // namespace

class DevptsDirectoryFile final : public SeekableFile {
 public:
  DevptsDirectoryFile(DevptsFileSystem& fs, const OpenArgs& args, RefPtr<Inode> inode)
      : SeekableFile(FileKind::kDirectory, args.path, std::move(inode), args.flags), devpts_(fs) {}
  Result<size_t> Read(CallContext&, IoBuffer&, uint32_t) override { return Errno::kEISDIR; }
  Result<size_t> PRead(CallContext&, IoBuffer&, uint64_t, uint32_t) override {
    return Errno::kEISDIR;
  }
  Result<void> Iterate(CallContext&, DirectorySink& sink) override {
    MutexLock lock(position_mu_);
    struct Fixed {
      const char* name;
      uint64_t ino;
      FileMode type;
    };
    static constexpr Fixed kFixed[] = {{".", kRootIno, kModeDirectory},
                                       {"..", kRootIno, kModeDirectory},
                                       {"ptmx", kPtmxIno, kModeChar}};
    for (; position_ < 3; ++position_) {
      const Fixed& f = kFixed[position_];
      if (!sink.Add(f.name, f.ino, f.type, position_ + 1)) return {};
    }
    std::vector<uint32_t> names;
    {
      MutexLock names_lock(devpts_.mu_);
      for (const auto& [index, inode] : devpts_.slaves_) names.push_back(index);
    }
    for (uint32_t index : names) {
      if (index + 3 < position_) continue;
      if (!sink.Add(absl::StrCat(index), kFirstSlaveIno + index, kModeChar, int64_t{index} + 4))
        return {};
      position_ = int64_t{index} + 4;
    }
    return {};
  }

 private:
  DevptsFileSystem& devpts_;  // The inode holds it.
};

class DevptsRoot final : public Inode {
 public:
  explicit DevptsRoot(DevptsFileSystem& fs)
      : Inode(fs, kModeDirectory),
        devpts_(fs),
        made_(Timestamp::FromNanoseconds(time::RealtimeNow())) {}
  Result<Attributes> GetAttributes(CallContext&) override {
    Attributes attr;
    attr.ino = kRootIno;
    attr.mode = kModeDirectory | 0755;
    attr.nlink = 2;
    attr.dev = fs().device();
    attr.block_size = 1024;
    attr.atime = attr.mtime = attr.ctime = made_;
    return attr;
  }
  Result<RefPtr<Inode>> Lookup(CallContext&, absl::string_view name) override {
    if (RefPtr<Inode> found = devpts_.Find(name)) return found;
    return Errno::kENOENT;
  }
  uint64_t LookupGeneration() override {
    return devpts_.generation_.load(std::memory_order_acquire);
  }
  Result<RefPtr<FileDescription>> Open(CallContext&, const OpenArgs& args) override {
    return RefPtr<FileDescription>(
        MakeRef<DevptsDirectoryFile>(devpts_, args, RefPtr<Inode>(this)));
  }

 private:
  DevptsFileSystem& devpts_;  // Inode holds it.
  const Timestamp made_;
};

Result<DevptsFileSystem::Options> DevptsFileSystem::ParseOptions(absl::string_view text,
                                                                 const auth::UserNamespace& ns) {
  Options options;
  for (absl::string_view option : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(option, absl::MaxSplits('=', 1));
    uint32_t value = 0;
    if (pair.first == "newinstance" && pair.second.empty()) continue;  // Each mount is one.
    if (pair.first == "mode" && ParseNumber(pair.second, 8, 07777, &value)) {
      options.mode = value;
    } else if (pair.first == "ptmxmode" && ParseNumber(pair.second, 8, 07777, &value)) {
      options.ptmx_mode = value;
    } else if (pair.first == "max" && ParseNumber(pair.second, 10, 1 << 20, &value)) {
      options.max = value;
    } else if (pair.first == "uid" && ParseNumber(pair.second, 10, ~0u - 1, &value)) {
      options.uid = ns.ToKernelUid(value);
      if (!options.uid) return Errno::kEINVAL;
    } else if (pair.first == "gid" && ParseNumber(pair.second, 10, ~0u - 1, &value)) {
      options.gid = ns.ToKernelGid(value);
      if (!options.gid) return Errno::kEINVAL;
    } else {
      return Errno::kEINVAL;
    }
  }
  return options;
}

DevptsFileSystem::DevptsFileSystem(JobControl& jobs, const Options& options)
    : FileSystem("devpts"), jobs_(jobs), options_(options) {}

DevptsFileSystem::~DevptsFileSystem() = default;

RefPtr<Inode> DevptsFileSystem::root() { return MakeRef<DevptsRoot>(*this); }

Result<FsStatistics> DevptsFileSystem::Statistics(CallContext&) {
  FsStatistics s;
  s.type = kDevptsMagic;
  return s;
}

DevptsFileSystem::Options DevptsFileSystem::options() const {
  MutexLock lock(mu_);
  return options_;
}

std::string DevptsFileSystem::MountOptions() const {
  Options o = options();
  std::string text;
  if (o.uid) absl::StrAppend(&text, "uid=", *o.uid, ",");
  if (o.gid) absl::StrAppend(&text, "gid=", *o.gid, ",");
  absl::StrAppendFormat(&text, "mode=%03o,ptmxmode=%03o", o.mode, o.ptmx_mode);
  if (o.max < Options().max) absl::StrAppend(&text, ",max=", o.max);
  return text;
}

Result<void> DevptsFileSystem::Remount(CallContext& ctx, uint64_t, absl::string_view data) {
  Options next = TRY(ParseOptions(data, *ctx.creds().user_ns));
  MutexLock lock(mu_);
  options_ = next;
  generation_.fetch_add(1, std::memory_order_release);
  return {};
}

RefPtr<Inode> DevptsFileSystem::Find(absl::string_view name) {
  if (name == "ptmx") return MakeRef<PtmxInode>(*this, options().ptmx_mode);
  uint32_t index;
  if (!ParseNumber(name, 10, 1 << 20, &index) || absl::StrCat(index) != name) return nullptr;
  return SlaveInode(index);
}

RefPtr<Inode> DevptsFileSystem::SlaveInode(uint32_t index) {
  MutexLock lock(mu_);
  auto it = slaves_.find(index);
  if (it == slaves_.end()) return nullptr;
  return it->second;
}

Result<RefPtr<Tty>> DevptsFileSystem::NewTerminal(uint32_t uid, uint32_t gid) {
  MutexLock lock(mu_);
  if (slaves_.size() >= options_.max) return Errno::kENOSPC;
  uint32_t index = 0;
  for (const auto& [used, inode] : slaves_) {
    if (used != index) break;
    ++index;
  }
  auto tty = MakeRef<Tty>(jobs_, index);
  slaves_.emplace(index, MakeRef<tty::SlaveInode>(*this, tty, options_.mode,
                                                  options_.uid.value_or(uid),
                                                  options_.gid.value_or(gid)));
  generation_.fetch_add(1, std::memory_order_release);
  return tty;
}

void DevptsFileSystem::Remove(uint32_t index) {
  RefPtr<Inode> gone;  // Released after mu_.
  MutexLock lock(mu_);
  auto it = slaves_.find(index);
  if (it == slaves_.end()) return;
  gone = std::move(it->second);
  slaves_.erase(it);
  generation_.fetch_add(1, std::memory_order_release);
}

Result<RefPtr<FileDescription>> DevptsFileSystem::OpenMaster(CallContext& ctx, const OpenArgs& args,
                                                             Inode& inode) {
  RefPtr<Tty> tty = TRY(NewTerminal(ctx.creds().fsuid, ctx.creds().fsgid));
  return RefPtr<FileDescription>(MakeRef<PtyMaster>(RefPtr<DevptsFileSystem>(this), std::move(tty),
                                                    args.path, RefPtr<Inode>(&inode), args.flags));
}

}  // namespace caisson::vfs::tty
