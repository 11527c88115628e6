// System V IPC (sysvipc(7); uapi linux/ipc.h, shm.h, sem.h, msg.h).
#ifndef CAISSON_ABI_IPC_H_
#define CAISSON_ABI_IPC_H_

#include <cstddef>
#include <cstdint>

namespace caisson::abi {

inline constexpr int32_t kIpcPrivate = 0;
inline constexpr int kIpcCreat = 01000;
inline constexpr int kIpcExcl = 02000;
inline constexpr int kIpcNowait = 04000;

inline constexpr int kIpcRmid = 0;
inline constexpr int kIpcSet = 1;
inline constexpr int kIpcStat = 2;
inline constexpr int kIpcInfo = 3;
inline constexpr int kIpc64 = 0x100;  // Ignored on x86-64.

struct IpcPerm {
  int32_t key;
  uint32_t uid, gid, cuid, cgid;
  uint32_t mode;
  uint16_t seq;
  uint16_t pad;
  uint32_t pad2;
  uint64_t unused[2];
};
static_assert(sizeof(IpcPerm) == 48);
static_assert(offsetof(IpcPerm, mode) == 20);

// --- Shared memory. ---
inline constexpr int kShmRdonly = 010000;
inline constexpr int kShmRnd = 020000;
inline constexpr int kShmRemap = 040000;
inline constexpr int kShmExec = 0100000;
inline constexpr int kShmHugetlb = 04000;
inline constexpr int kShmNoreserve = 010000;
inline constexpr uint32_t kShmDest = 01000;  // In the mode: removed at the last detach.
inline constexpr uint32_t kShmLocked = 02000;
inline constexpr int kShmLock = 11;
inline constexpr int kShmUnlock = 12;
inline constexpr int kShmStat = 13;
inline constexpr int kShmInfo = 14;
inline constexpr int kShmStatAny = 15;

struct ShmidDs {
  IpcPerm perm;
  uint64_t segsz;
  int64_t atime, dtime, ctime;
  int32_t cpid, lpid;
  uint64_t nattch;
  uint64_t unused[2];
};
static_assert(sizeof(ShmidDs) == 112);

struct ShmInfo64 {  // IPC_INFO.
  uint64_t shmmax, shmmin, shmmni, shmseg, shmall;
  uint64_t unused[4];
};
static_assert(sizeof(ShmInfo64) == 72);

struct ShmInfo {  // SHM_INFO.
  int32_t used_ids;
  uint64_t shm_tot, shm_rss, shm_swp, swap_attempts, swap_successes;
};
static_assert(sizeof(ShmInfo) == 48);

// --- Semaphores. ---
inline constexpr int kSemUndo = 0x1000;
inline constexpr int kGetPid = 11;
inline constexpr int kGetVal = 12;
inline constexpr int kGetAll = 13;
inline constexpr int kGetNcnt = 14;
inline constexpr int kGetZcnt = 15;
inline constexpr int kSetVal = 16;
inline constexpr int kSetAll = 17;
inline constexpr int kSemStat = 18;
inline constexpr int kSemInfo = 19;
inline constexpr int kSemStatAny = 20;

struct SemBuf {
  uint16_t num;
  int16_t op;
  int16_t flags;
};
static_assert(sizeof(SemBuf) == 6);

struct SemidDs {
  IpcPerm perm;
  int64_t otime;
  uint64_t unused1;
  int64_t ctime;
  uint64_t unused2;
  uint64_t nsems;
  uint64_t unused3[2];
};
static_assert(sizeof(SemidDs) == 104);

struct SemInfo {
  int32_t semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx, semaem;
};
static_assert(sizeof(SemInfo) == 40);

// --- Message queues. ---
inline constexpr int kMsgNoerror = 010000;
inline constexpr int kMsgExcept = 020000;
inline constexpr int kMsgCopy = 040000;
inline constexpr int kMsgStat = 11;
inline constexpr int kMsgInfo = 12;
inline constexpr int kMsgStatAny = 13;

struct MsqidDs {
  IpcPerm perm;
  int64_t stime, rtime, ctime;
  uint64_t cbytes, qnum, qbytes;
  int32_t lspid, lrpid;
  uint64_t unused[2];
};
static_assert(sizeof(MsqidDs) == 120);

struct MsgInfo {
  int32_t msgpool, msgmap, msgmax, msgmnb, msgmni, msgssz, msgtql;
  uint16_t msgseg;
};
static_assert(sizeof(MsgInfo) == 32);

}  // namespace caisson::abi

#endif  // CAISSON_ABI_IPC_H_
