// Caches: what costs no message, and that host changes are seen all the same. Needs root.
#include <atomic>

#include "vfs/gofer/test_world.h"
#include "vfs/watches.h"

namespace caisson::vfs {
namespace {

using GoferCoherenceTest = GoferTest;

TEST_F(GoferCoherenceTest, CachedStatAndOpenSendNothing) {
  Host("mkdir -p a/b; echo x > a/b/f");
  ASSERT_OK(ctx().ReadFile("/a/b/f"));
  ASSERT_OK(ctx().Stat("/a/b"));
  // The first look at a directory places its watch, so the second settles everything.
  ASSERT_OK(ctx().ReadFile("/a/b/f"));
  ASSERT_OK(ctx().Stat("/a/b"));
  EXPECT_EQ(Calls([&] {
              for (int i = 0; i < 10; ++i) {
                ASSERT_OK(ctx().ReadFile("/a/b/f"));
                ASSERT_OK(ctx().Stat("/a/b/f"));
                ASSERT_OK(ctx().Stat("/a/b"));
              }
            }),
            0u);
}

TEST_F(GoferCoherenceTest, MissingNamesAreRemembered) {
  EXPECT_ERRNO(ctx().Stat("/none"), kENOENT);
  EXPECT_ERRNO(ctx().Stat("/none"), kENOENT);
  EXPECT_EQ(Calls([&] { EXPECT_ERRNO(ctx().Stat("/none"), kENOENT); }), 0u);
  // After a few misses the directory is listed, and no other name is asked for.
  for (int i = 0; i < 5; ++i) EXPECT_ERRNO(ctx().Stat("/no" + std::to_string(i)), kENOENT);
  EXPECT_EQ(Calls([&] {
              for (int i = 10; i < 20; ++i)
                EXPECT_ERRNO(ctx().Stat("/no" + std::to_string(i)), kENOENT);
            }),
            0u);
}

TEST_F(GoferCoherenceTest, ATreeWalkIsOneMessageADirectory) {
  for (int d = 0; d < 10; ++d) {
    Host("mkdir d" + std::to_string(d));
    for (int f = 0; f < 20; ++f)
      Host("true > d" + std::to_string(d) + "/f" + std::to_string(f));
  }
  uint64_t calls = Calls([&] {
    std::vector<std::string> dirs = *ctx().List("/");
    for (const std::string& d : dirs) {
      ASSERT_OK(ctx().Stat("/" + d));
      std::vector<std::string> files = *ctx().List("/" + d);
      EXPECT_EQ(files.size(), 20u);
      for (const std::string& f : files) ASSERT_OK(ctx().Stat("/" + d + "/" + f));
    }
  });
  EXPECT_LE(calls, 12u);
}

TEST_F(GoferCoherenceTest, HostMadeAndRemovedNamesAreSeen) {
  EXPECT_ERRNO(ctx().Stat("/f"), kENOENT);
  Host("echo x > f");
  EXPECT_TRUE(Soon([&] { return ctx().Stat("/f").ok(); }));
  Host("rm f; mkdir f");
  EXPECT_TRUE(Soon([&] { return ctx().Stat("/f").ok() && ctx().Stat("/f")->is_directory(); }));
  Host("rmdir f");
  EXPECT_TRUE(Soon([&] { return !ctx().Stat("/f").ok(); }));
}

TEST_F(GoferCoherenceTest, HostChangesOfContentAndModeAreSeen) {
  Host("echo x > f; chmod 644 f");
  EXPECT_EQ(ctx().Stat("/f")->size, 2u);
  EXPECT_EQ(*ctx().ReadFile("/f"), "x\n");
  Host("echo longer > f");
  EXPECT_TRUE(Soon([&] { return ctx().Stat("/f")->size == 7; }));
  EXPECT_EQ(*ctx().ReadFile("/f"), "longer\n");
  Host("chmod 600 f");
  EXPECT_TRUE(Soon([&] { return (ctx().Stat("/f")->mode & 0777) == 0600; }));
  Host("echo replaced > g; mv g f");
  EXPECT_TRUE(Soon([&] { return *ctx().ReadFile("/f") == "replaced\n"; }));
}

TEST_F(GoferCoherenceTest, AHostRenameOfADirectoryIsSeen) {
  Host("mkdir -p a/b; echo x > a/b/f");
  EXPECT_EQ(*ctx().ReadFile("/a/b/f"), "x\n");
  Host("mv a c; mkdir -p a/b; echo y > a/b/f");
  EXPECT_TRUE(Soon([&] {
    Result<std::string> text = ctx().ReadFile("/a/b/f");
    return text.ok() && *text == "y\n";
  }));
  EXPECT_EQ(*ctx().ReadFile("/c/b/f"), "x\n");
}

TEST_F(GoferCoherenceTest, AHostReplacedWholeTreeIsSeen) {
  Host("mkdir -p a/b/c; echo x > a/b/c/f");
  EXPECT_EQ(*ctx().ReadFile("/a/b/c/f"), "x\n");
  Host("rm -rf a; mkdir -p a/b/c; echo z > a/b/c/f");
  EXPECT_TRUE(Soon([&] {
    Result<std::string> text = ctx().ReadFile("/a/b/c/f");
    return text.ok() && *text == "z\n";
  }));
}

TEST_F(GoferCoherenceTest, OwnChangesDoNotDisturbTheCache) {
  ASSERT_OK(ctx().Mkdir("/d"));
  ASSERT_OK(ctx().List("/d"));
  ASSERT_OK(ctx().WriteFile("/d/keep", "x"));
  for (int i = 0; i < 20; ++i) {
    std::string name = "/d/t" + std::to_string(i);
    RefPtr<FileDescription> file = *ctx().Open(name, kOpenCreate | kOpenWriteOnly);
    ASSERT_OK(ctx().Unlink(name));
  }
  // Let the host's events come in.
  timespec ms = {0, 50'000'000};
  nanosleep(&ms, nullptr);
  EXPECT_EQ(Calls([&] { EXPECT_ERRNO(ctx().Stat("/d/t3"), kENOENT); }), 0u);
  EXPECT_EQ(Calls([&] { ASSERT_OK(ctx().Walk("/d/keep")); }), 0u);
}

TEST_F(GoferCoherenceTest, CreateWriteUnlinkIsTwoMessages) {
  for (int i = 0; i < 6; ++i) {
    ASSERT_OK(ctx().WriteFile("/warm" + std::to_string(i), "x"));
    ASSERT_OK(ctx().Unlink("/warm" + std::to_string(i)));
  }
  EXPECT_EQ(Calls([&] {
              RefPtr<FileDescription> file = *ctx().Open("/f", kOpenCreate | kOpenReadWrite);
              EXPECT_EQ(*ctx().Write(*file, "data"), 4u);
              EXPECT_EQ(file->GetAttributes(ctx())->size, 4u);
              file.reset();
              ASSERT_OK(ctx().Unlink("/f"));
            }),
            2u);
}

TEST_F(GoferCoherenceTest, TheGuestsInotifySeesHostChanges) {
  class Recorder : public InodeWatch {
   public:
    bool OnEvent(uint32_t mask, uint32_t, absl::string_view name, bool) override {
      MutexLock lock(mu);
      seen += std::to_string(mask) + ":" + std::string(name) + " ";
      return true;
    }
    std::string Seen() {
      MutexLock lock(mu);
      return seen;
    }
    Mutex mu;
    std::string seen ABSL_GUARDED_BY(mu);
  };
  ASSERT_OK(ctx().Mkdir("/d"));
  ASSERT_OK(ctx().List("/d"));
  auto recorder = MakeRef<Recorder>();
  RefPtr<Inode> dir = ctx().Walk("/d")->dentry->inode();
  dir->watches().Add(recorder);
  Host("true > d/f");
  EXPECT_TRUE(Soon([&] { return recorder->Seen().find("256:f ") != std::string::npos; }));
  ASSERT_OK(ctx().WriteFile("/d/own", "x"));
  Host("rm d/f");
  EXPECT_TRUE(Soon([&] { return recorder->Seen().find("512:f ") != std::string::npos; }));
  // Once, from the guest's own call.
  std::string seen = recorder->Seen();
  size_t first = seen.find("256:own ");
  EXPECT_NE(first, std::string::npos);
  EXPECT_EQ(seen.find("256:own ", first + 1), std::string::npos);
  dir->watches().Remove(*recorder);
}

TEST_F(GoferCoherenceTest, SurvivesAStormOfHostChanges) {
  Host("mkdir d");
  std::atomic<bool> stop{false};
  std::thread host([&] {
    for (int i = 0; !stop; ++i) {
      std::string a = HostPath("d/a"), b = HostPath("d/b");
      mkdir(a.c_str(), 0755);
      close(open((a + "/f").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
      rename(a.c_str(), b.c_str());
      unlink((b + "/f").c_str());
      rmdir(b.c_str());
    }
  });
  for (int i = 0; i < 3000; ++i) {
    (void)ctx().Stat("/d/a/f").ok();
    (void)ctx().List("/d/b").ok();
    (void)ctx().ReadFile("/d/b/f").ok();
    (void)ctx().WriteFile("/d/a/g", "x").ok();
    (void)ctx().Unlink("/d/a/g").ok();
  }
  stop = true;
  host.join();
  Host("rm -rf d/*; echo end > d/last");
  EXPECT_TRUE(Soon([&] {
    Result<std::vector<std::string>> names = ctx().List("/d");
    return names.ok() && *names == std::vector<std::string>{"last"};
  }));
  // A listing asks the host; what is known of a name stands until the event comes.
  EXPECT_TRUE(Soon([&] { return !ctx().Stat("/d/a").ok() && !ctx().Stat("/d/b").ok(); }));
  EXPECT_ERRNO(ctx().Stat("/d/a"), kENOENT);
}

// An event between a lookup's answer and its place in the cache.
TEST_F(GoferCoherenceTest, WhatGoesWhileItIsLookedUpIsNotRemembered) {
  Host("mkdir d");
  ASSERT_OK(ctx().List("/d"));
  const std::string path = HostPath("d/a");
  for (int round = 0; round < 60; ++round) {
    std::atomic<bool> gone{false};
    std::thread host([&] {
      for (int i = 0; i < 20; ++i) {
        mkdir(path.c_str(), 0755);
        rmdir(path.c_str());
      }
      gone = true;
    });
    while (!gone) (void)ctx().Stat("/d/a").ok();
    host.join();
    ASSERT_TRUE(Soon([&] { return !ctx().Stat("/d/a").ok(); })) << "round " << round;
  }
}

// The host's event may come before what the guest itself did is in the caches.
TEST_F(GoferCoherenceTest, WhatTheHostUndoesAtOnceIsSeen) {
  Host("mkdir d e");
  ASSERT_OK(ctx().List("/d"));
  ASSERT_OK(ctx().List("/e"));
  const std::string in_d = HostPath("d/a"), in_e = HostPath("e/a");
  auto until_done = [](const auto& call) {
    while (call() < 0) {
    }
  };
  for (int round = 0; round < 250; ++round) {
    std::thread removes([&] { until_done([&] { return unlink(in_d.c_str()); }); });
    ASSERT_OK(ctx().Open("/d/a", kOpenCreate | kOpenWriteOnly));
    removes.join();
    ASSERT_TRUE(Soon([&] { return !ctx().Stat("/d/a").ok(); })) << "made in round " << round;

    ASSERT_OK(ctx().Open("/d/a", kOpenCreate | kOpenWriteOnly));
    std::thread makes([&] { until_done([&] { return mkdir(in_d.c_str(), 0755); }); });
    ASSERT_OK(ctx().Unlink("/d/a"));
    makes.join();
    ASSERT_TRUE(Soon([&] { return ctx().Stat("/d/a").ok(); })) << "removed in round " << round;

    std::thread removes_moved([&] { until_done([&] { return rmdir(in_e.c_str()); }); });
    ASSERT_OK(ctx().Rename("/d/a", "/e/a"));
    removes_moved.join();
    ASSERT_TRUE(Soon([&] { return !ctx().Stat("/e/a").ok(); })) << "moved in round " << round;
  }
}

// Its removal and its return are two events, and there is no moment after the second at which it may be missing.
TEST_F(GoferCoherenceTest, WhatIsBackIsNotMissing) {
  Host("mkdir d; true > d/a");
  ASSERT_OK(ctx().List("/d"));
  const std::string path = HostPath("d/a");
  for (int round = 0; round < 1000; ++round) {
    ASSERT_OK(ctx().Stat("/d/a"));
    ASSERT_EQ(unlink(path.c_str()), 0);
    UniqueFd made(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(ctx().Stat("/d/a").ok()) << "round " << round << ", look " << i;
  }
}

class NoWatchesTest : public GoferTest {
 protected:
  void SetUp() override {
    GoferOptions options;
    options.max_watches = 0;
    Start(std::move(options));
  }
};

TEST_F(NoWatchesTest, EveryLookSeesTheHostAsItIs) {
  EXPECT_ERRNO(ctx().Stat("/f"), kENOENT);
  Host("echo x > f");
  EXPECT_EQ(ctx().Stat("/f")->size, 2u);
  Host("echo longer > f; chmod 600 f");
  EXPECT_EQ(ctx().Stat("/f")->size, 7u);
  EXPECT_EQ(ctx().Stat("/f")->mode & 0777, 0600u);
  Host("rm f");
  EXPECT_ERRNO(ctx().Stat("/f"), kENOENT);
  EXPECT_EQ(ctx().List("/")->size(), 0u);
  Host("true > g");
  EXPECT_EQ(ctx().List("/")->size(), 1u);
}

class LateWatchesTest : public GoferTest {
 protected:
  void SetUp() override {
    GoferOptions options;
    options.unwatched_looks = 8;
    Start(std::move(options));
  }
};

TEST_F(LateWatchesTest, TheHostIsAskedAtFirstAndWatchedLater) {
  EXPECT_ERRNO(ctx().Stat("/f"), kENOENT);
  Host("echo x > f");
  EXPECT_EQ(ctx().Stat("/f")->size, 2u);
  Host("echo longer > f");
  EXPECT_EQ(ctx().Stat("/f")->size, 7u);
  for (int i = 0; i < 12; ++i) ASSERT_OK(ctx().Stat("/f"));
  EXPECT_EQ(Calls([&] { ASSERT_OK(ctx().Stat("/f")); }), 0u);
  Host("rm f");
  EXPECT_TRUE(Soon([&] { return !ctx().Stat("/f").ok(); }));
}

TEST_F(LateWatchesTest, WhatTheGuestWatchesIsWatchedAtOnce) {
  class Recorder : public InodeWatch {
   public:
    bool OnEvent(uint32_t, uint32_t, absl::string_view name, bool) override {
      if (name == "new") seen.store(true);
      return true;
    }
    std::atomic<bool> seen{false};
  };
  ASSERT_OK(ctx().Mkdir("/d"));
  auto recorder = MakeRef<Recorder>();
  RefPtr<Inode> dir = ctx().Walk("/d")->dentry->inode();
  dir->PrepareToBeWatched();
  dir->watches().Add(recorder);
  Host("true > d/new");
  EXPECT_TRUE(Soon([&] { return recorder->seen.load(); }));
}

class FewDescriptorsTest : public GoferTest {
 protected:
  void SetUp() override {
    GoferOptions options;
    options.max_open_files = 4;
    options.max_records = 10;
    Start(std::move(options));
  }
};

TEST_F(FewDescriptorsTest, BoundsAreKeptAndNothingIsLost) {
  for (int i = 0; i < 50; ++i) Host("echo " + std::to_string(i) + " > f" + std::to_string(i));
  int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(before);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 50; ++i)
      EXPECT_EQ(*ctx().ReadFile("/f" + std::to_string(i)), std::to_string(i) + "\n");
    ASSERT_OK(ctx().List("/"));
  }
  int descriptors = 0;
  for (int fd = 0; fd < 1024; ++fd) descriptors += fcntl(fd, F_GETFL) >= 0 &&
                                                   (fcntl(fd, F_GETFL) & O_PATH) == 0;
  EXPECT_LT(descriptors, 40);
}

TEST_F(GoferCoherenceTest, ManyThreadsShareTheConnection) {
  for (int i = 0; i < 50; ++i) Host("mkdir d" + std::to_string(i));
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      testing::TestContext mine(*world_);
      for (int i = 0; i < 200; ++i) {
        std::string name = "/d" + std::to_string((i * 7 + t) % 50) + "/t" + std::to_string(t);
        if (!mine.WriteFile(name, name).ok()) ++failures;
        Result<std::string> text = mine.ReadFile(name);
        if (!text.ok() || *text != name) ++failures;
        if (!mine.Unlink(name).ok()) ++failures;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace caisson::vfs
