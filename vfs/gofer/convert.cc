#include "vfs/gofer/convert.h"

namespace caisson::vfs {

using caisson::gofer::WireAttributes;
using caisson::gofer::WireTime;

namespace {

Timestamp FromWire(const WireTime& t) { return {t.sec, t.nsec}; }
WireTime ToWire(const Timestamp& t) { return {t.sec, t.nsec, 0}; }
bool IsTime(const WireTime& t) { return t.nsec < 1'000'000'000; }

}  // namespace

bool IsPlausible(const WireAttributes& w) {
  switch (w.mode & kModeType) {
    case kModeSocket:
    case kModeLink:
    case kModeRegular:
    case kModeBlock:
    case kModeDirectory:
    case kModeChar:
    case kModeFifo: break;
    default: return false;
  }
  return (w.mode & ~(kModeType | kModePermissions)) == 0 && w.size <= INT64_MAX &&
         IsTime(w.atime) && IsTime(w.mtime) && IsTime(w.ctime) && IsTime(w.btime);
}

Attributes FromWire(const WireAttributes& w) {
  Attributes a;
  a.ino = w.ino;
  a.mode = w.mode;
  a.nlink = w.nlink;
  a.uid = w.uid;
  a.gid = w.gid;
  a.size = w.size;
  a.blocks = w.blocks;
  a.block_size = w.block_size;
  a.rdev = {w.rdev_major, w.rdev_minor};
  a.atime = FromWire(w.atime);
  a.mtime = FromWire(w.mtime);
  a.ctime = FromWire(w.ctime);
  if (w.has_btime != 0) a.btime = FromWire(w.btime);
  return a;
}

WireAttributes ToWire(const Attributes& a, const HostId& id) {
  WireAttributes w = {};
  w.dev = id.dev;
  w.ino = id.ino;
  w.mode = a.mode;
  w.nlink = a.nlink;
  w.uid = a.uid;
  w.gid = a.gid;
  w.size = a.size;
  w.blocks = a.blocks;
  w.block_size = a.block_size;
  w.rdev_major = a.rdev.major;
  w.rdev_minor = a.rdev.minor;
  w.atime = ToWire(a.atime);
  w.mtime = ToWire(a.mtime);
  w.ctime = ToWire(a.ctime);
  w.has_btime = a.btime.has_value();
  if (a.btime.has_value()) w.btime = ToWire(*a.btime);
  return w;
}

void UpdateFromHost(const struct stat& st, Attributes* a) {
  a->size = static_cast<uint64_t>(st.st_size);
  a->blocks = static_cast<uint64_t>(st.st_blocks);
  a->nlink = static_cast<uint32_t>(st.st_nlink);
  a->atime = {st.st_atim.tv_sec, static_cast<uint32_t>(st.st_atim.tv_nsec)};
  a->mtime = {st.st_mtim.tv_sec, static_cast<uint32_t>(st.st_mtim.tv_nsec)};
  a->ctime = {st.st_ctim.tv_sec, static_cast<uint32_t>(st.st_ctim.tv_nsec)};
}

}  // namespace caisson::vfs
