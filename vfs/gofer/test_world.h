// A client and a server in one process, over a directory of the host. Needs root.
#ifndef CAISSON_VFS_GOFER_TEST_WORLD_H_
#define CAISSON_VFS_GOFER_TEST_WORLD_H_

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "base/test_temp.h"
#include "gofer/server/server.h"
#include "gtest/gtest.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {

class GoferTest : public ::testing::Test {
 protected:
  void SetUp() override { Start({}); }
  void Start(GoferOptions options, bool read_only = false) {
    std::string name = TempPattern("gofer_client");
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    Host("chmod 755 .");
    BeforeServing();
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    std::vector<caisson::gofer::Connection> connections(1);
    connections[0].socket.reset(fds[1]);
    connections[0].root.reset(open(name.c_str(), O_PATH | O_CLOEXEC));
    connections[0].read_only = read_only;
    server_ = std::thread([](auto c) { caisson::gofer::Serve(std::move(c)); },
                          std::move(connections));
    Result<RefPtr<FileSystem>> fs = GoferFileSystem::Mount(UniqueFd(fds[0]), std::move(options));
    ASSERT_TRUE(fs.ok());
    fs_ = StaticRefCast<GoferFileSystem>(*fs);
    world_ = std::make_unique<testing::TestWorld>(fs_);
    ctx_ = std::make_unique<testing::TestContext>(*world_);
  }
  virtual void BeforeServing() {}
  void StopServing() {
    ctx_.reset();
    world_.reset();
    EXPECT_TRUE(!fs_ || fs_->ref_count() == 1) << "inodes were leaked";
    fs_.reset();
    if (server_.joinable()) server_.join();
  }
  void TearDown() override {
    StopServing();
    if (root_.empty()) return;
    EXPECT_EQ(system(("rm -rf " + root_).c_str()), 0);
  }

  // Runs a shell command in the directory, as a host process.
  void Host(const std::string& command) {
    ASSERT_EQ(system(("cd " + root_ + " && { " + command + "; }").c_str()), 0) << command;
  }
  std::string HostPath(const std::string& name) { return root_ + "/" + name; }
  std::string HostRead(const std::string& name) {
    std::ifstream in(HostPath(name));
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  struct stat HostStat(const std::string& name) {
    struct stat st = {};
    EXPECT_EQ(lstat(HostPath(name).c_str(), &st), 0) << name;
    return st;
  }
  // Host events take a moment: waits until `condition` holds.
  template <typename F>
  bool Soon(F condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      timespec ms = {0, 1'000'000};
      nanosleep(&ms, nullptr);
    }
    return false;
  }
  testing::TestContext& ctx() { return *ctx_; }
  // Messages that `f` causes.
  template <typename F>
  uint64_t Calls(F f) {
    uint64_t before = fs_->calls();
    f();
    return fs_->calls() - before;
  }

  std::string root_;
  std::thread server_;
  RefPtr<GoferFileSystem> fs_;
  std::unique_ptr<testing::TestWorld> world_;
  std::unique_ptr<testing::TestContext> ctx_;
};

}  // namespace caisson::vfs

#endif  // CAISSON_VFS_GOFER_TEST_WORLD_H_
