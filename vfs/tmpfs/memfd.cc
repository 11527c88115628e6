#include "vfs/tmpfs/memfd.h"

#include "absl/strings/str_cat.h"
#include "vfs/tmpfs/regular_file.h"

namespace caisson::vfs::tmpfs {

AnonymousFiles::AnonymousFiles(RefPtr<MemoryAccount> account)
    : fs_(TmpfsFileSystem::New("", {}, 0, "tmpfs", std::move(account)).value()),
      mount_(MakeRef<Mount>(fs_, fs_->RootDentry(), 0, "tmpfs")) {}

Result<RefPtr<FileDescription>> AnonymousFiles::NewFile(CallContext& ctx,
                                                        absl::string_view shown_name,
                                                        uint64_t size, FileMode mode,
                                                        uint32_t seals) {
  if (size > INT64_MAX) return Errno::kEINVAL;
  if (!fs_->ChargeInode()) return Errno::kENOSPC;
  auto inode = MakeRef<RegularFile>(*fs_, mode, ctx.creds().fsuid, ctx.creds().fsgid, seals);
  inode->AddLinks(-1);
  inode->set_unlinked(true);
  if (size != 0) {
    struct SetAttributes change;
    change.size = size;
    TRY(inode->SetAttributes(ctx, change));
  }
  TRY(inode->AddWriter());
  if (Result<void> began = mount_->BeginWrite(); !began.ok()) {
    inode->RemoveWriter();
    return began.error();
  }
  OpenArgs args{VfsPath(mount_, Dentry::NewRoot(inode, shown_name)),
                kOpenReadWrite | kOpenLargeFile};
  RefPtr<FileDescription> file = TRY(inode->Open(ctx, args));
  file->set_counts_as_writer();
  file->set_opener(RefPtr<const auth::Credentials>(&ctx.creds()));
  return file;
}

Result<RefPtr<FileDescription>> AnonymousFiles::NewMemfd(CallContext& ctx, absl::string_view name,
                                                         uint32_t flags) {
  if ((flags & ~(kMfdCloexec | kMfdAllowSealing | kMfdNoexecSeal | kMfdExec)) != 0)
    return Errno::kEINVAL;  // Huge pages too, as without CONFIG_HUGETLBFS.
  if ((flags & kMfdNoexecSeal) != 0 && (flags & kMfdExec) != 0) return Errno::kEINVAL;
  if (name.size() > 249) return Errno::kEINVAL;
  uint32_t seals = (flags & (kMfdAllowSealing | kMfdNoexecSeal)) != 0 ? 0 : kSealSeal;
  FileMode mode = 0777;
  if ((flags & kMfdNoexecSeal) != 0) {
    mode = 0666;
    seals |= kSealExec;
  }
  return NewFile(ctx, absl::StrCat("/memfd:", name, " (deleted)"), 0, mode, seals);
}

Result<RefPtr<FileDescription>> AnonymousFiles::NewSharedAnonymous(CallContext& ctx,
                                                                   uint64_t size) {
  return NewFile(ctx, "/dev/zero (deleted)", size, 0777, kSealSeal);
}

Result<void> AddSeals(FileDescription& file, uint32_t seals) {
  if (file.inode() == nullptr) return Errno::kEINVAL;
  if (!file.writable()) return Errno::kEPERM;
  return file.inode()->AddSeals(seals);
}

Result<uint32_t> GetSeals(FileDescription& file) {
  if (file.inode() == nullptr || file.kind() == FileKind::kPath) return Errno::kEINVAL;
  return file.inode()->GetSeals();
}

}  // namespace caisson::vfs::tmpfs
