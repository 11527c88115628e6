#include "runsc/container/state.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/test_temp.h"
#include "gtest/gtest.h"
#include "runsc/container/process.h"

namespace caisson::runsc {
namespace {

State Example() {
  State state;
  state.id = "c";
  state.bundle = "/b";
  state.rootfs = "/b/rootfs";
  state.oci_version = "1.0.2";
  state.created = NowRfc3339();
  state.owner_uid = 5;
  state.phase = State::Phase::kStarted;
  state.processes = {getpid(), StatOf(getpid())->start_time, 2, 22, 3, 33};
  state.cgroup_paths = {{"", "/v2"}, {"memory", "/v1"}};
  state.annotations = {{"a", "b"}};
  return state;
}

class ContainerDirTest : public testing::Test {
 protected:
  ContainerDirTest() {
    std::string name = TempPattern("caisson-state-test");
    root_ = std::string(mkdtemp(name.data())) + "/a/b";
  }
  ~ContainerDirTest() override {
    std::filesystem::remove_all(std::filesystem::path(root_).parent_path().parent_path());
  }
  ContainerDir Make(const std::string& id = "c") {
    absl::StatusOr<ContainerDir> dir = ContainerDir::Make(root_, id);
    EXPECT_TRUE(dir.ok()) << dir.status();
    return *std::move(dir);
  }
  // What `check` returns in another process.
  static bool InChild(const std::function<bool()>& check) {
    pid_t pid = fork();
    if (pid == 0) _exit(check() ? 0 : 1);
    int status = 0;
    waitpid(pid, &status, 0);
    return status == 0;
  }
  std::string root_;
};

TEST(StateTest, ComesBackFromJson) {
  State state = Example();
  absl::StatusOr<oci::Json> json = oci::ParseJson(StateToJson(state).ToText());
  ASSERT_TRUE(json.ok());
  absl::StatusOr<State> back = StateFromJson(*json);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(StateToJson(*back).ToText(), StateToJson(state).ToText());
  EXPECT_EQ(back->processes.gofer_start_time, 33u);
  EXPECT_EQ(back->cgroup_paths, state.cgroup_paths);
}

TEST(StateTest, OtherVersionsAreRefused) {
  oci::Json json = StateToJson(Example());
  json.Set("version", 2);
  EXPECT_FALSE(StateFromJson(json).ok());
  json.Set("version", 1).Set("phase", "dancing");
  EXPECT_FALSE(StateFromJson(json).ok());
}

TEST_F(ContainerDirTest, MakeTakesTheIdOnce) {
  ContainerDir dir = Make();
  EXPECT_TRUE(absl::IsAlreadyExists(ContainerDir::Make(root_, "c").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ContainerDir::Make(root_, "..").status()));
}

TEST_F(ContainerDirTest, StateIsReplacedWhole) {
  ContainerDir dir = Make();
  EXPECT_TRUE(absl::IsNotFound(dir.LoadState().status()));
  State state = Example();
  ASSERT_TRUE(dir.SaveState(state).ok());
  state.phase = State::Phase::kCreated;
  ASSERT_TRUE(dir.SaveState(state).ok());
  EXPECT_EQ(dir.LoadState()->phase, State::Phase::kCreated);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()),
                          std::filesystem::directory_iterator()),
            1);
}

TEST_F(ContainerDirTest, DamagedStateIsAnError) {
  ContainerDir dir = Make();
  for (const char* text :
       {"", "{", "[]", "{}", R"({"version":1,"phase":"created","id":"other"})"}) {
    ASSERT_TRUE(dir.WriteFile("state.json", text).ok());
    EXPECT_EQ(dir.LoadState().status().code(), absl::StatusCode::kDataLoss) << text;
  }
}

TEST_F(ContainerDirTest, LockExcludesOtherProcesses) {
  ContainerDir dir = Make();
  ASSERT_TRUE(dir.Lock(0).ok());
  EXPECT_TRUE(InChild([&] {
    absl::StatusOr<ContainerDir> other = ContainerDir::Open(root_, "c");
    return other->IsLocked() && absl::IsDeadlineExceeded(other->Lock(30));
  }));
}

TEST_F(ContainerDirTest, LockIsNotInheritedByAChild) {
  ContainerDir dir = Make();
  EXPECT_TRUE(InChild([&] { return dir.Lock(0).ok() && InChild([] { return true; }); }));
  EXPECT_FALSE(dir.IsLocked());
}

TEST_F(ContainerDirTest, LockOfWhatWasDeletedIsNotFound) {
  ContainerDir dir = Make();
  absl::StatusOr<ContainerDir> other = ContainerDir::Open(root_, "c");
  ASSERT_TRUE(dir.Lock(0).ok());
  ASSERT_TRUE(dir.Remove().ok());
  EXPECT_TRUE(absl::IsNotFound(other->Lock(0)));
  EXPECT_TRUE(absl::IsNotFound(ContainerDir::Open(root_, "c").status()));
}

TEST_F(ContainerDirTest, ListShowsDirectoriesOnly) {
  EXPECT_TRUE(ContainerDir::List(root_)->empty());
  Make("b");
  Make("a");
  std::filesystem::create_directories(root_ + "/not an id");
  EXPECT_EQ(*ContainerDir::List(root_), (std::vector<std::string>{"a", "b"}));
}

TEST_F(ContainerDirTest, StatusFollowsTheMonitor) {
  ContainerDir dir = Make();
  State state = Example();
  EXPECT_EQ(StatusOf(dir, state), Status::kRunning);
  state.phase = State::Phase::kCreated;  // No socket to ask: as the file says.
  EXPECT_EQ(StatusOf(dir, state), Status::kCreated);
  state.processes.monitor_start_time++;
  EXPECT_EQ(StatusOf(dir, state), Status::kStopped);
  state.phase = State::Phase::kCreating;  // Nobody has the lock: create died.
  EXPECT_EQ(StatusOf(dir, state), Status::kStopped);
}

}  // namespace
}  // namespace caisson::runsc
