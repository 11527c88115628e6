#include "vfs/dev/memory_devices.h"

#include <sys/random.h>

#include "vfs/bounce_buffer.h"

namespace caisson::vfs::dev {
namespace {

constexpr uint32_t kNull = 3, kZero = 5, kFull = 7, kRandom = 8, kUrandom = 9;

class NullFile : public FileDescription {
 public:
  NullFile(const OpenArgs& args, Inode& inode)
      : FileDescription(FileKind::kCharDevice, args.path, RefPtr<Inode>(&inode), args.flags) {}
  Result<size_t> Read(CallContext&, IoBuffer&, uint32_t) override { return size_t{0}; }
  Result<size_t> Write(CallContext&, IoBuffer& from, uint32_t) override {
    const size_t n = from.remaining();
    from.Skip(n);
    return n;
  }
  // There is no position: offsets are as good as any.
  Result<size_t> PRead(CallContext& ctx, IoBuffer& to, uint64_t, uint32_t rwf) override {
    return Read(ctx, to, rwf);
  }
  Result<size_t> PWrite(CallContext& ctx, IoBuffer& from, uint64_t, uint32_t rwf) override {
    return Write(ctx, from, rwf);
  }
  Result<int64_t> Seek(CallContext&, int64_t, int) override { return int64_t{0}; }
};

class ZeroFile : public NullFile {
 public:
  ZeroFile(const OpenArgs& args, Inode& inode, tmpfs::AnonymousFiles& files)
      : NullFile(args, inode), files_(files) {}
  Result<size_t> Read(CallContext&, IoBuffer& to, uint32_t) override {
    static constexpr char kZeros[65536] = {};
    size_t done = 0;
    while (to.remaining() != 0) {
      const size_t want = std::min(to.remaining(), sizeof(kZeros));
      Result<size_t> n = to.Put({kZeros, want});
      if (!n.ok() && done == 0) return n.error();
      if (n.ok()) done += *n;
      if (!n.ok() || *n < want) break;
    }
    return done;
  }
  Result<HostMapping> Map(CallContext& ctx, uint64_t offset, uint64_t length, bool shared,
                          bool write) override {
    HostMapping mapping;
    mapping.anonymous = !shared;
    if (!shared) return mapping;
    RefPtr<FileDescription> memory = TRY(files_.NewSharedAnonymous(ctx, length));
    mapping = TRY(memory->Map(ctx, 0, length, true, true));
    mapping.writable = writable();
    mapping.replacement = std::move(memory);
    return mapping;
  }

 protected:
  tmpfs::AnonymousFiles& files_;
};

class FullFile final : public ZeroFile {
 public:
  using ZeroFile::ZeroFile;
  Result<size_t> Write(CallContext&, IoBuffer&, uint32_t) override { return Errno::kENOSPC; }
  Result<HostMapping> Map(CallContext&, uint64_t, uint64_t, bool, bool) override {
    return Errno::kENODEV;
  }
};

class RandomFile final : public NullFile {
 public:
  using NullFile::NullFile;
  Result<size_t> Read(CallContext&, IoBuffer& to, uint32_t) override {
    CAISSON_BOUNCE_BUFFER(bounce, to.remaining(), kReadBounce);
    // As Linux did before 5.18, and for the same reason: nothing else ends a huge read early.
    to.Truncate(kMaxRead);
    size_t done = 0;
    while (to.remaining() != 0) {
      absl::Span<char> piece = bounce.first(to.remaining());
      ssize_t got = getrandom(piece.data(), piece.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return Errno::kEIO;
      Result<size_t> n = to.Put({piece.data(), static_cast<size_t>(got)});
      if (!n.ok() && done == 0) return n.error();
      if (n.ok()) done += *n;
      if (!n.ok() || *n < static_cast<size_t>(got)) break;
    }
    return done;
  }
  Result<size_t> Write(CallContext&, IoBuffer& from, uint32_t) override {
    CAISSON_BOUNCE_BUFFER(bounce, from.remaining(), kReadBounce);
    from.Truncate(kMaxRead);
    size_t done = 0;
    while (from.remaining() != 0) {
      Result<size_t> n = from.Take(bounce.first(from.remaining()));
      if (!n.ok() && done == 0) return n.error();
      if (!n.ok() || *n == 0) break;
      done += *n;
    }
    return done;
  }
  Result<int64_t> Ioctl(CallContext& ctx, uint32_t request, uint64_t arg) override {
    constexpr uint32_t kRndGetEntropyCount = 0x80045200, kRndAddToEntropyCount = 0x40045201,
                       kRndAddEntropy = 0x40085203, kRndZapEntropyCount = 0x5204,
                       kRndClearPool = 0x5206, kRndReseed = 0x5207;
    switch (request) {
      case kRndGetEntropyCount:
        TRY(ctx.CopyOutObject(GuestAddr(arg), int32_t{256}));
        return int64_t{0};
      case kRndAddToEntropyCount:
      case kRndAddEntropy:
      case kRndZapEntropyCount:
      case kRndClearPool:
      case kRndReseed:
        // The host's pool is not the guest's to credit.
        if (!ctx.creds().HasRootCapability(auth::Capability::kSysAdmin)) return Errno::kEPERM;
        return int64_t{0};
      default:
        return Errno::kEINVAL;
    }
  }
  // Always ready, but unlike the others it can be polled.
  WaitQueue* EventQueue() override { return &never_; }

 private:
  static constexpr size_t kMaxRead = size_t{32} << 20;
  WaitQueue never_;
};

}  // namespace

void RegisterMemoryDevices(DeviceRegistry& registry, tmpfs::AnonymousFiles& files) {
  auto add = [&](uint32_t minor, std::string name, auto make) {
    registry.Register(DeviceRegistry::Type::kChar, 1, minor, 1, std::move(name),
                      [make](CallContext&, const OpenArgs& args, Inode& inode,
                             DeviceNumber) -> Result<RefPtr<FileDescription>> {
                        return RefPtr<FileDescription>(make(args, inode));
                      });
  };
  tmpfs::AnonymousFiles* memory = &files;
  add(kNull, "mem", [](const OpenArgs& a, Inode& i) { return MakeRef<NullFile>(a, i); });
  add(kZero, "mem",
      [memory](const OpenArgs& a, Inode& i) { return MakeRef<ZeroFile>(a, i, *memory); });
  add(kFull, "mem",
      [memory](const OpenArgs& a, Inode& i) { return MakeRef<FullFile>(a, i, *memory); });
  add(kRandom, "mem", [](const OpenArgs& a, Inode& i) { return MakeRef<RandomFile>(a, i); });
  add(kUrandom, "mem", [](const OpenArgs& a, Inode& i) { return MakeRef<RandomFile>(a, i); });
}

}  // namespace caisson::vfs::dev
