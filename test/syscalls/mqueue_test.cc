// POSIX message queues: mq_overview(7).
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "test/util/file_util.h"
#include "test/util/process_util.h"
#include "test/util/syscall_matchers.h"

namespace caisson::test {
namespace {

// A queue that goes with the test.
class MqueueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    name_ = "/caisson-" + std::to_string(getpid()) + "-" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  void TearDown() override { mq_unlink(name_.c_str()); }
  mqd_t Open(int flags, long messages = 4, long size = 64) {
    mq_attr attr{};
    attr.mq_maxmsg = messages;
    attr.mq_msgsize = size;
    return mq_open(name_.c_str(), flags | O_CREAT, 0600, &attr);
  }
  std::string name_;
};

TEST_F(MqueueTest, MessagesComeByPriorityThenByAge) {
  mqd_t q = Open(O_RDWR);
  ASSERT_THAT(q, SyscallSucceeds());
  ASSERT_THAT(mq_send(q, "low", 3, 1), SyscallSucceeds());
  ASSERT_THAT(mq_send(q, "high", 4, 9), SyscallSucceeds());
  ASSERT_THAT(mq_send(q, "high2", 5, 9), SyscallSucceeds());
  char text[64];
  unsigned priority = 0;
  EXPECT_EQ(mq_receive(q, text, sizeof(text), &priority), 4);
  EXPECT_EQ(priority, 9u);
  EXPECT_EQ(std::string(text, 4), "high");
  EXPECT_EQ(mq_receive(q, text, sizeof(text), &priority), 5);
  EXPECT_EQ(mq_receive(q, text, sizeof(text), &priority), 3);
  EXPECT_EQ(priority, 1u);
  mq_close(q);
}

TEST_F(MqueueTest, FullAndEmptyQueuesDoNotBlockWithONonblock) {
  mqd_t q = Open(O_RDWR | O_NONBLOCK, 2);
  ASSERT_THAT(q, SyscallSucceeds());
  char text[64];
  EXPECT_THAT(mq_receive(q, text, sizeof(text), nullptr), SyscallFailsWithErrno(EAGAIN));
  EXPECT_THAT(mq_send(q, "a", 1, 0), SyscallSucceeds());
  EXPECT_THAT(mq_send(q, "", 0, 0), SyscallSucceeds());
  EXPECT_THAT(mq_send(q, "c", 1, 0), SyscallFailsWithErrno(EAGAIN));
  mq_attr attr{};
  EXPECT_THAT(mq_getattr(q, &attr), SyscallSucceeds());
  EXPECT_EQ(attr.mq_curmsgs, 2);
  EXPECT_EQ(attr.mq_maxmsg, 2);
  EXPECT_EQ(attr.mq_msgsize, 64);
  EXPECT_EQ(attr.mq_flags, O_NONBLOCK);
  mq_close(q);
}

TEST_F(MqueueTest, TimeoutsAreAbsoluteAndChecked) {
  mqd_t q = Open(O_RDWR);
  ASSERT_THAT(q, SyscallSucceeds());
  char text[64];
  timespec past{1, 0}, bad{0, 1'000'000'000};
  EXPECT_THAT(mq_timedreceive(q, text, sizeof(text), nullptr, &past), SyscallFailsWithErrno(ETIMEDOUT));
  EXPECT_THAT(mq_timedreceive(q, text, sizeof(text), nullptr, &bad), SyscallFailsWithErrno(EINVAL));
  mq_close(q);
}

TEST_F(MqueueTest, SizesAndRightsAreChecked) {
  mqd_t q = Open(O_WRONLY);
  ASSERT_THAT(q, SyscallSucceeds());
  char text[65] = {};
  EXPECT_THAT(mq_send(q, text, 65, 0), SyscallFailsWithErrno(EMSGSIZE));
  EXPECT_THAT(mq_send(q, text, 1, 32768), SyscallFailsWithErrno(EINVAL));
  EXPECT_THAT(mq_receive(q, text, 64, nullptr), SyscallFailsWithErrno(EBADF));
  mqd_t r = mq_open(name_.c_str(), O_RDONLY);
  ASSERT_THAT(r, SyscallSucceeds());
  EXPECT_THAT(mq_send(r, text, 1, 0), SyscallFailsWithErrno(EBADF));
  EXPECT_THAT(mq_receive(r, text, 63, nullptr), SyscallFailsWithErrno(EMSGSIZE));
  EXPECT_THAT(syscall(SYS_mq_timedsend, 0, text, 1, 0, nullptr), SyscallFailsWithErrno(EBADF));
  mq_close(q);
  mq_close(r);
}

TEST_F(MqueueTest, OpeningFollowsFlagsAndMode) {
  EXPECT_THAT(mq_open(name_.c_str(), O_RDONLY), SyscallFailsWithErrno(ENOENT));
  mqd_t q = Open(O_RDWR | O_EXCL);
  ASSERT_THAT(q, SyscallSucceeds());
  EXPECT_EQ(fcntl(q, F_GETFD), FD_CLOEXEC);
  EXPECT_THAT(Open(O_RDWR | O_EXCL), SyscallFailsWithErrno(EEXIST));
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    EXPECT_THAT(mq_open(name_.c_str(), O_RDONLY), SyscallFailsWithErrno(EACCES));
    EXPECT_THAT(mq_unlink(name_.c_str()), SyscallFailsWithEither(EACCES, EPERM));
  }), ExitsWith(0));
  EXPECT_THAT(syscall(SYS_mq_open, "a/b", O_RDWR | O_CREAT, 0600, nullptr), SyscallFailsWithErrno(EACCES));
  EXPECT_THAT(mq_unlink(name_.c_str()), SyscallSucceeds());
  EXPECT_THAT(mq_unlink(name_.c_str()), SyscallFailsWithErrno(ENOENT));
  EXPECT_THAT(mq_send(q, "still", 5, 0), SyscallSucceeds());
  mq_close(q);
}

TEST_F(MqueueTest, UnprivilegedUsersHaveLimits) {
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(setresuid(1000, 1000, 1000), SyscallSucceeds());
    EXPECT_THAT(Open(O_RDWR, 11, 64), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(Open(O_RDWR, 1, 8193), SyscallFailsWithErrno(EINVAL));
    EXPECT_THAT(Open(O_RDWR, 0, 64), SyscallFailsWithErrno(EINVAL));
    rlimit limit{1000, 1000};
    ASSERT_THAT(setrlimit(RLIMIT_MSGQUEUE, &limit), SyscallSucceeds());
    EXPECT_THAT(Open(O_RDWR, 10, 8192), SyscallFailsWithErrno(EMFILE));
  }), ExitsWith(0));
}

TEST_F(MqueueTest, AReceiverWaitsForASender) {
  mqd_t q = Open(O_RDWR);
  ASSERT_THAT(q, SyscallSucceeds());
  Child receiver([&] {
    char text[64];
    _exit(mq_receive(q, text, sizeof(text), nullptr) == 2 ? 0 : 1);
  });
  ASSERT_TRUE(WaitUntilSleeping(receiver.pid()));
  EXPECT_THAT(mq_send(q, "hi", 2, 0), SyscallSucceeds());
  EXPECT_THAT(receiver.Wait(), ExitsWith(0));
  mq_close(q);
}

TEST_F(MqueueTest, PollTellsOfMessagesAndRoom) {
  mqd_t q = Open(O_RDWR, 1);
  ASSERT_THAT(q, SyscallSucceeds());
  pollfd p{q, POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  EXPECT_THAT(mq_send(q, "x", 1, 0), SyscallSucceeds());
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  mq_close(q);
}

TEST_F(MqueueTest, NotificationComesOnceForAnEmptyQueue) {
  EXPECT_THAT(InChild([&] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    mqd_t q = Open(O_RDWR);
    ASSERT_THAT(q, SyscallSucceeds());
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR2;
    event.sigev_value.sival_int = 77;
    EXPECT_THAT(mq_notify(q, &event), SyscallSucceeds());
    EXPECT_THAT(mq_notify(q, &event), SyscallFailsWithErrno(EBUSY));
    EXPECT_THAT(mq_send(q, "x", 1, 0), SyscallSucceeds());
    siginfo_t info{};
    timespec second{1, 0};
    EXPECT_EQ(sigtimedwait(&set, &info, &second), SIGUSR2);
    EXPECT_EQ(info.si_code, SI_MESGQ);
    EXPECT_EQ(info.si_value.sival_int, 77);
    EXPECT_EQ(info.si_pid, getpid());
    EXPECT_THAT(mq_notify(q, &event), SyscallSucceeds());  // It was used up.
    EXPECT_THAT(mq_send(q, "y", 1, 0), SyscallSucceeds());
    timespec none{};
    EXPECT_THAT(sigtimedwait(&set, &info, &none), SyscallFailsWithErrno(EAGAIN));  // Was not empty.
    EXPECT_THAT(mq_notify(q, nullptr), SyscallSucceeds());
  }), ExitsWith(0));
}

TEST_F(MqueueTest, TheFileSystemShowsQueues) {
  EXPECT_THAT(InChild([&] {
    ASSERT_THAT(unshare(CLONE_NEWIPC | CLONE_NEWNS), SyscallSucceeds());
    ASSERT_THAT(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), SyscallSucceeds());
    TempDir dir;
    ASSERT_THAT(mount("mqueue", dir.path().c_str(), "mqueue", 0, nullptr), SyscallSucceeds());
    mqd_t q = Open(O_RDWR);
    ASSERT_THAT(q, SyscallSucceeds());
    ASSERT_THAT(mq_send(q, "12345", 5, 0), SyscallSucceeds());
    std::string path = dir.path() + name_;
    char text[100] = {};
    int fd = open(path.c_str(), O_RDONLY);
    ASSERT_THAT(fd, SyscallSucceeds());
    EXPECT_GT(read(fd, text, sizeof(text) - 1), 0);
    EXPECT_EQ(std::string(text).substr(0, 8), "QSIZE:5 ");
    close(fd);
    int made = open((dir.path() + "/by-open").c_str(), O_CREAT | O_RDWR, 0600);
    ASSERT_THAT(made, SyscallSucceeds());
    EXPECT_THAT(mq_send(made, "x", 1, 0), SyscallSucceeds());
    EXPECT_THAT(unlink(path.c_str()), SyscallSucceeds());
    EXPECT_THAT(mq_open(name_.c_str(), O_RDWR), SyscallFailsWithErrno(ENOENT));
    EXPECT_THAT(umount2(dir.path().c_str(), MNT_DETACH), SyscallSucceeds());
  }), ExitsWith(0));
}

}  // namespace
}  // namespace caisson::test
