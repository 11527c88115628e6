// System V IPC: shmget(2), semop(2), msgsnd(2).
#include <signal.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>
#include <unistd.h>

#include "test/util/file_util.h"
#include "test/util/memory_util.h"
#include "test/util/process_util.h"
#include "test/util/signal_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

void* const kFailed = reinterpret_cast<void*>(-1);

class ShmTest : public testing::Test {
 protected:
  ShmTest() : id_(shmget(IPC_PRIVATE, 2 * kPage, IPC_CREAT | 0600)) {}
  ~ShmTest() override { shmctl(id_, IPC_RMID, nullptr); }
  int id_;
};

TEST_F(ShmTest, AttachmentsAreOneMemory) {
  char* a = static_cast<char*>(shmat(id_, nullptr, 0));
  char* b = static_cast<char*>(shmat(id_, nullptr, SHM_RDONLY));
  ASSERT_NE(a, kFailed);
  ASSERT_NE(b, kFailed);
  a[kPage] = 'x';
  EXPECT_EQ(b[kPage], 'x');
  shmid_ds info;
  ASSERT_THAT(shmctl(id_, IPC_STAT, &info), SyscallSucceeds());
  EXPECT_EQ(info.shm_nattch, 2u);
  EXPECT_EQ(info.shm_segsz, 2 * kPage);
  EXPECT_EQ(info.shm_cpid, getpid());
  EXPECT_THAT(shmdt(a), SyscallSucceeds());
  EXPECT_THAT(shmdt(b), SyscallSucceeds());
  EXPECT_THAT(shmdt(b), SyscallFailsWithErrno(EINVAL));
}

TEST_F(ShmTest, IsInheritedByFork) {
  char* memory = static_cast<char*>(shmat(id_, nullptr, 0));
  ASSERT_NE(memory, kFailed);
  EXPECT_THAT(InChild([&] { memory[0] = 'c'; }), ExitsWith(0));
  EXPECT_EQ(memory[0], 'c');
  shmdt(memory);
}

TEST_F(ShmTest, RemovedOneLivesUntilTheLastDetach) {
  char* memory = static_cast<char*>(shmat(id_, nullptr, 0));
  ASSERT_NE(memory, kFailed);
  ASSERT_THAT(shmctl(id_, IPC_RMID, nullptr), SyscallSucceeds());
  memory[0] = 'x';
  shmid_ds info;
  EXPECT_THAT(shmctl(id_, IPC_STAT, &info), SyscallSucceeds());
  ASSERT_THAT(shmdt(memory), SyscallSucceeds());
  EXPECT_THAT(shmctl(id_, IPC_STAT, &info), SyscallFailsWithErrno(EINVAL));
}

TEST_F(ShmTest, KeysAreFoundAgain) {
  const key_t key = 0x5c000000 + (getpid() & 0xffffff);
  const int id = shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600);
  ASSERT_THAT(id, SyscallSucceeds());
  EXPECT_THAT(shmget(key, 100, 0), SyscallSucceedsWithValue(id));
  EXPECT_THAT(shmget(key, 100, IPC_CREAT | IPC_EXCL), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(shmget(key, 100000, 0), SyscallFailsWithErrno(EINVAL));
  shmctl(id, IPC_RMID, nullptr);
  EXPECT_THAT(shmget(key, 100, 0), SyscallFailsWithErrno(ENOENT));
}

TEST_F(ShmTest, OtherUsersAreKeptOut) {
  EXPECT_THAT(InChild([&] {
                setresuid(1000, 1000, 1000);
                EXPECT_EQ(shmat(id_, nullptr, 0), kFailed);
                EXPECT_EQ(errno, EACCES);
              }),
              ExitsWith(0));
}

TEST_F(ShmTest, BadArgumentsAreInvalid) {
  EXPECT_THAT(shmget(IPC_PRIVATE, 0, IPC_CREAT), SyscallFailsWithErrno(EINVAL));
  EXPECT_EQ(shmat(id_, reinterpret_cast<void*>(1), 0), kFailed);
  EXPECT_EQ(errno, EINVAL);
}

class SemTest : public testing::Test {
 protected:
  SemTest() : id_(semget(IPC_PRIVATE, 2, IPC_CREAT | 0600)) {}
  ~SemTest() override { semctl(id_, 0, IPC_RMID); }
  int Op(unsigned short index, short change, short flags = 0) {
    sembuf operation = {index, change, flags};
    return semop(id_, &operation, 1);
  }
  int Value(int index) { return semctl(id_, index, GETVAL); }
  int id_;
};

TEST_F(SemTest, CountsAndRefuses) {
  EXPECT_EQ(Value(0), 0);
  ASSERT_THAT(Op(0, 3), SyscallSucceeds());
  ASSERT_THAT(Op(0, -2), SyscallSucceeds());
  EXPECT_EQ(Value(0), 1);
  EXPECT_THAT(Op(0, -2, IPC_NOWAIT), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(Op(0, 0, IPC_NOWAIT), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(Op(5, 1), SyscallFailsWithErrno(EFBIG));
}

TEST_F(SemTest, SeveralOperationsAreAtomic) {
  sembuf operations[] = {{0, 5, 0}, {1, -1, IPC_NOWAIT}};
  EXPECT_THAT(semop(id_, operations, 2), SyscallFailsWithErrno(EAGAIN));
  EXPECT_EQ(Value(0), 0);
}

TEST_F(SemTest, BlockedOneGoesOn) {
  Child child([&] { EXPECT_THAT(Op(0, -1), SyscallSucceeds()); });
  ASSERT_TRUE(WaitUntil([&] { return semctl(id_, 0, GETNCNT) == 1; }));
  ASSERT_THAT(Op(0, 1), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(SemTest, UndoHappensAtExit) {
  EXPECT_THAT(InChild([&] {
                Op(0, 4, SEM_UNDO);
                EXPECT_EQ(Value(0), 4);
              }),
              ExitsWith(0));
  EXPECT_EQ(Value(0), 0);
}

TEST_F(SemTest, RemovalWakesWithEidrm) {
  Child child([&] { EXPECT_THAT(Op(0, -1), SyscallFailsWithErrno(EIDRM)); });
  ASSERT_TRUE(WaitUntil([&] { return semctl(id_, 0, GETNCNT) == 1; }));
  ASSERT_THAT(semctl(id_, 0, IPC_RMID), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(SemTest, TimeoutIsEagain) {
  sembuf operation = {0, -1, 0};
  timespec time = {0, 1000000};
  EXPECT_THAT(semtimedop(id_, &operation, 1, &time), SyscallFailsWithErrno(EAGAIN));
}

class MsgTest : public testing::Test {
 protected:
  struct Message {
    long type;
    char text[16];
  };
  MsgTest() : id_(msgget(IPC_PRIVATE, IPC_CREAT | 0600)) {}
  ~MsgTest() override { msgctl(id_, IPC_RMID, nullptr); }
  int Send(long type, const std::string& text) {
    Message message = {type, {}};
    text.copy(message.text, sizeof(message.text));
    return msgsnd(id_, &message, text.size(), IPC_NOWAIT);
  }
  std::string Receive(long type, int flags = IPC_NOWAIT) {
    Message message = {};
    ssize_t n = msgrcv(id_, &message, sizeof(message.text), type, flags);
    return n < 0 ? "" : std::string(message.text, n);
  }
  int id_;
};

TEST_F(MsgTest, OrderAndTypes) {
  ASSERT_THAT(Send(2, "two"), SyscallSucceeds());
  ASSERT_THAT(Send(1, "one"), SyscallSucceeds());
  ASSERT_THAT(Send(3, "three"), SyscallSucceeds());
  EXPECT_EQ(Receive(3), "three");
  EXPECT_EQ(Receive(-2), "one");  // The lowest type up to 2.
  EXPECT_EQ(Receive(0), "two");
  EXPECT_EQ(Receive(0), "");
  EXPECT_EQ(errno, ENOMSG);
}

TEST_F(MsgTest, TooLongForTheBufferIsE2bigUnlessCut) {
  ASSERT_THAT(Send(1, "0123456789"), SyscallSucceeds());
  Message message;
  EXPECT_THAT(msgrcv(id_, &message, 4, 0, 0), SyscallFailsWithErrno(E2BIG));
  EXPECT_THAT(msgrcv(id_, &message, 4, 0, MSG_NOERROR), SyscallSucceedsWithValue(4));
}

TEST_F(MsgTest, TypeMustBePositive) { EXPECT_THAT(Send(0, "x"), SyscallFailsWithErrno(EINVAL)); }

TEST_F(MsgTest, BlockedReceiverGetsIt) {
  Child child([&] { EXPECT_EQ(Receive(0, 0), "late"); });
  ASSERT_TRUE(WaitUntilSleeping(child.pid()));
  ASSERT_THAT(Send(7, "late"), SyscallSucceeds());
  EXPECT_THAT(child.Wait(), ExitsWith(0));
}

TEST_F(MsgTest, StatCountsMessages) {
  ASSERT_THAT(Send(1, "abc"), SyscallSucceeds());
  msqid_ds info;
  ASSERT_THAT(msgctl(id_, IPC_STAT, &info), SyscallSucceeds());
  EXPECT_EQ(info.msg_qnum, 1u);
  EXPECT_EQ(info.__msg_cbytes, 3u);
  EXPECT_EQ(info.msg_lspid, getpid());
}

TEST(SysvTest, ProcessesThatHaveGoneAreStillNamed) {
  const int memory = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  const int semaphores = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  const int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  pid_t pid = 0;
  {
    Child child([&] {
      shmdt(shmat(memory, nullptr, 0));
      sembuf up = {0, 1, 0};
      semop(semaphores, &up, 1);
      long type = 1;
      msgsnd(queue, &type, 0, 0);
    });
    pid = child.pid();
    EXPECT_THAT(child.Wait(), ExitsWith(0));
  }
  shmid_ds shm = {};
  msqid_ds msg = {};
  EXPECT_THAT(shmctl(memory, IPC_STAT, &shm), SyscallSucceeds());
  EXPECT_THAT(msgctl(queue, IPC_STAT, &msg), SyscallSucceeds());
  EXPECT_EQ(shm.shm_lpid, pid);
  EXPECT_EQ(shm.shm_cpid, getpid());
  EXPECT_EQ(msg.msg_lspid, pid);
  EXPECT_THAT(semctl(semaphores, 0, GETPID), SyscallSucceedsWithValue(pid));
  shmctl(memory, IPC_RMID, nullptr);
  semctl(semaphores, 0, IPC_RMID);
  msgctl(queue, IPC_RMID, nullptr);
}

}  // namespace
}  // namespace caisson::test
