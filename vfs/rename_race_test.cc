// Threads that change one tree at the same time: what must hold whatever the order.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

TEST(RenameRaceTest, ANameThatIsAlwaysThereIsAlwaysFound) {
  TestWorld world;
  TestContext ctx(world);
  ASSERT_OK(ctx.WriteFile("/target", "0"));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    TestContext me(world);
    for (int i = 0; i < 3000; ++i) {
      EXPECT_TRUE(me.WriteFile("/tmp", absl::StrCat(i)).ok());
      EXPECT_TRUE(me.Rename("/tmp", "/target").ok());
    }
    stop = true;
  });
  while (!stop) {
    Result<std::string> content = ctx.ReadFile("/target");
    ASSERT_TRUE(content.ok()) << ErrnoName(content.error());
    EXPECT_FALSE(content->empty());
  }
  writer.join();
  EXPECT_EQ(*ctx.List("/"), std::vector<std::string>{"target"});
}

TEST(RenameRaceTest, DirectoriesMovedIntoEachOtherStayATree) {
  TestWorld world;
  TestContext ctx(world);
  ASSERT_OK(ctx.Mkdir("/a"));
  ASSERT_OK(ctx.Mkdir("/b"));
  ASSERT_OK(ctx.Mkdir("/a/x"));
  ASSERT_OK(ctx.Mkdir("/b/y"));
  auto shuffle = [&](const char* from, const char* to) {
    TestContext me(world);
    for (int i = 0; i < 4000; ++i) {
      (void)me.Rename(from, to).ok();
      (void)me.Rename(to, from).ok();
    }
  };
  std::thread t1(shuffle, "/a", "/b/y/a");
  std::thread t2(shuffle, "/b", "/a/x/b");
  t1.join();
  t2.join();
  // No cycle and nothing lost: from the root, all four are reached.
  int found = 0;
  std::vector<std::string> todo{""};
  while (!todo.empty()) {
    std::string at = todo.back();
    todo.pop_back();
    Result<std::vector<std::string>> names = ctx.List(at + "/");
    ASSERT_OK(names);
    for (const std::string& n : *names) {
      ++found;
      todo.push_back(at + "/" + n);
    }
    ASSERT_LE(found, 4);
  }
  EXPECT_EQ(found, 4);
}

TEST(RenameRaceTest, CreateAndRemoveRaceToAConsistentEnd) {
  TestWorld world;
  TestContext ctx(world);
  auto churn = [&] {
    TestContext me(world);
    for (int i = 0; i < 3000; ++i) {
      (void)me.Mkdir("/d").ok();
      (void)me.WriteFile("/d/f", "x").ok();
      (void)me.Rename("/d/f", "/g").ok();
      (void)me.Link("/g", "/d/h").ok();
      (void)me.Unlink("/d/h").ok();
      (void)me.Unlink("/g").ok();
      (void)me.Rmdir("/d").ok();
      (void)me.List("/").ok();
    }
  };
  std::thread t1(churn), t2(churn), t3(churn);
  t1.join();
  t2.join();
  t3.join();
  // What the cache says is what the file system says.
  for (const char* name : {"/d", "/g"}) {
    Result<std::vector<std::string>> names = ctx.List("/");
    ASSERT_OK(names);
    const bool listed = std::find(names->begin(), names->end(), name + 1) != names->end();
    EXPECT_EQ(ctx.Stat(name).ok(), listed) << name;
  }
}

}  // namespace
}  // namespace caisson::vfs
