#include "runsc/oci/convert.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runsc/oci/mount_options.h"

namespace caisson::oci {
namespace {

using protocol::Mount;
using testing::HasSubstr;

class ConvertTest : public testing::Test {
 protected:
  ConvertTest() {
    spec_.oci_version = "1.0.2";
    spec_.root_path = "rootfs";
    spec_.process.emplace();
    spec_.process->args = {"sh"};
    spec_.process->cwd = "/";
  }
  absl::StatusOr<Converted> Convert(Overlay overlay = Overlay::kNone) {
    return ConvertSpec(spec_, {"id", "/bundle", overlay});
  }
  Converted Good(Overlay overlay = Overlay::kNone) {
    absl::StatusOr<Converted> out = Convert(overlay);
    EXPECT_TRUE(out.ok()) << out.status();
    return out.ok() ? *std::move(out) : Converted();
  }
  std::string Error() { return std::string(Convert().status().message()); }
  void AddMount(oci::Mount mount) { spec_.mounts.push_back(std::move(mount)); }

  Spec spec_;
};

TEST_F(ConvertTest, RootComesFirstAndIsOfTheBundle) {
  Converted out = Good();
  ASSERT_EQ(out.container.mounts_size(), 1);
  EXPECT_EQ(out.container.mounts(0).kind(), Mount::GOFER);
  EXPECT_EQ(out.container.mounts(0).destination(), "/");
  EXPECT_EQ(out.sources[0].path, "/bundle/rootfs");
  EXPECT_FALSE(out.sources[0].read_only);
}

TEST_F(ConvertTest, ReadOnlyRootIsSoForTheGoferToo) {
  spec_.root_readonly = true;
  Converted out = Good();
  EXPECT_TRUE(out.container.root_readonly());
  EXPECT_TRUE(out.sources[0].read_only);
}

TEST_F(ConvertTest, DockersMounts) {
  AddMount({"/proc", "proc", "proc", {"nosuid"}});
  AddMount({"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}});
  AddMount({"/dev/pts", "devpts", "devpts", {"newinstance", "gid=5"}});
  AddMount({"/dev/shm", "tmpfs", "shm", {"size=64m"}});
  AddMount({"/dev/mqueue", "mqueue", "mqueue", {}});
  AddMount({"/sys", "sysfs", "sysfs", {"ro"}});
  AddMount({"/sys/fs/cgroup", "cgroup", "cgroup", {"ro"}});
  AddMount({"/tmp", "tmpfs", "tmpfs", {}});
  Converted out = Good();
  std::vector<Mount::Kind> kinds;
  for (const Mount& mount : out.container.mounts()) kinds.push_back(mount.kind());
  EXPECT_THAT(kinds, testing::ElementsAre(Mount::GOFER, Mount::PROC, Mount::DEVTMPFS, Mount::DEVPTS,
                                          Mount::SHM, Mount::MQUEUE, Mount::SYSFS, Mount::CGROUP,
                                          Mount::TMPFS));
  EXPECT_EQ(out.container.mounts(2).data(), "mode=755,size=65536k");
  EXPECT_EQ(out.container.mounts(2).flags(), uint64_t{MS_NOSUID | MS_STRICTATIME});
  EXPECT_EQ(out.container.mounts(6).flags(), uint64_t{MS_RDONLY});
  EXPECT_EQ(out.sources.size(), 1u);
}

TEST_F(ConvertTest, BindMountsHaveAGoferSourceEach) {
  AddMount({"/a", "bind", "/host/a", {"rbind", "rprivate", "ro"}});
  AddMount({"b", "none", "rel", {"bind"}});
  Converted out = Good();
  EXPECT_EQ(out.container.mounts(1).gofer_index(), 1u);
  EXPECT_EQ(out.container.mounts(1).propagation(), uint64_t{MS_PRIVATE | MS_REC});
  EXPECT_TRUE(out.sources[1].read_only);
  EXPECT_EQ(out.container.mounts(2).destination(), "/b");
  EXPECT_EQ(out.sources[2].path, "/bundle/rel");
  EXPECT_FALSE(out.sources[2].read_only);
}

TEST_F(ConvertTest, OverlayKeepsTheSourceAsItIs) {
  AddMount({"/a", "bind", "/host/a", {"rbind"}});
  Converted root = Good(Overlay::kRoot);
  EXPECT_EQ(root.container.mounts(0).overlay(), Mount::MEMORY);
  EXPECT_TRUE(root.sources[0].read_only);
  EXPECT_FALSE(root.sources[1].read_only);
  EXPECT_TRUE(Good(Overlay::kAll).sources[1].read_only);
}

TEST_F(ConvertTest, UnknownFileSystemIsRefused) {
  AddMount({"/x", "nfs", "server:/", {}});
  EXPECT_THAT(Error(), HasSubstr("mounts[0] (/x): file system type \"nfs\""));
}

TEST_F(ConvertTest, Namespaces) {
  spec_.linux_section.namespaces = {{"network", "/run/netns/x"}, {"pid", ""}};
  EXPECT_EQ(Good().network_namespace, "/run/netns/x");
  spec_.linux_section.namespaces = {{"network", ""}};
  EXPECT_EQ(Good().network_namespace, "");
  spec_.linux_section.namespaces = {};
  EXPECT_EQ(Good().network_namespace, std::nullopt);
  spec_.linux_section.namespaces = {{"pid", ""}, {"pid", ""}};
  EXPECT_THAT(Error(), HasSubstr("twice"));
  spec_.linux_section.namespaces = {{"mount", "/proc/1/ns/mnt"}};
  EXPECT_THAT(Error(), HasSubstr("not supported yet"));
}

TEST_F(ConvertTest, ProcessIsCarriedOver) {
  spec_.process->user = {1000, 100, 022, {5, 6}};
  spec_.process->capabilities.emplace();
  spec_.process->capabilities->bounding = {"CAP_KILL", "CAP_CHOWN"};
  spec_.process->rlimits = {{"RLIMIT_NOFILE", 10, 20}};
  spec_.process->oom_score_adj = -5;
  spec_.process->io_priority = {"IOPRIO_CLASS_BE", 4};
  protocol::Process process = Good().container.init();
  EXPECT_EQ(process.user().umask(), 022u);
  EXPECT_EQ(process.capabilities().bounding(), 0b100001u);
  EXPECT_EQ(process.capabilities().effective(), 0u);
  EXPECT_EQ(process.rlimits(0).hard(), 20u);
  EXPECT_EQ(process.oom_score_adj(), -5);
  EXPECT_EQ(process.io_priority(), 2 << 13 | 4);
}

TEST_F(ConvertTest, BadProcessesAreRefused) {
  spec_.process->rlimits = {{"RLIMIT_NOFILE", 2, 1}};
  EXPECT_THAT(Error(), HasSubstr("above hard limit"));
  spec_.process->rlimits = {{"RLIMIT_CPU", 1, 1}, {"RLIMIT_CPU", 1, 1}};
  EXPECT_THAT(Error(), HasSubstr("twice"));
  spec_.process->rlimits.clear();
  spec_.process->oom_score_adj = 1001;
  EXPECT_THAT(Error(), HasSubstr("oomScoreAdj"));
  spec_.process->oom_score_adj.reset();
  spec_.process->scheduler_policy = "SCHED_FIFO";
  EXPECT_THAT(Error(), HasSubstr("SCHED_FIFO"));
  spec_.process.reset();
  EXPECT_THAT(Error(), HasSubstr("process: is missing"));
}

TEST_F(ConvertTest, Devices) {
  spec_.linux_section.devices = {{"c", "/dev/fuse", 10, 229, 0600, 1, 2}};
  protocol::Device device = Good().container.devices(0);
  EXPECT_EQ(device.mode(), uint32_t{S_IFCHR | 0600});
  EXPECT_EQ(device.minor(), 229u);
  spec_.linux_section.devices = {{"c", "dev/x", 1, 1, {}, {}, {}}};
  EXPECT_THAT(Error(), HasSubstr("absolute"));
  spec_.linux_section.devices = {{"c", "/dev/x", -1, 1, {}, {}, {}}};
  EXPECT_THAT(Error(), HasSubstr("out of range"));
  spec_.linux_section.devices = {{"z", "/dev/x", 1, 1, {}, {}, {}}};
  EXPECT_THAT(Error(), HasSubstr("unknown type"));
}

TEST_F(ConvertTest, SysctlNamesCannotLeaveTheirTree) {
  spec_.linux_section.sysctl = {{"net.core.somaxconn", "1"}};
  EXPECT_EQ(Good().container.sysctls(0).name(), "net.core.somaxconn");
  for (const char* name : {"", "../x", "/x", ".x", "a/../b"}) {
    spec_.linux_section.sysctl = {{name, "1"}};
    EXPECT_THAT(Error(), HasSubstr("linux.sysctl")) << name;
  }
}

TEST_F(ConvertTest, LimitsThatTheSentryEnforces) {
  Resources& r = spec_.linux_section.resources;
  r.memory_limit = 1 << 20;
  r.pids_limit = 5;
  r.cpu_quota = 150'000;
  r.cpuset_cpus = "0-3,8";
  Converted out = Good();
  EXPECT_EQ(out.container.memory_limit(), 1u << 20);
  EXPECT_EQ(out.container.pids_limit(), 5u);
  EXPECT_EQ(out.container.cpu_count(), 1.5);
  r.memory_limit = -1;
  r.pids_limit = -1;
  r.cpu_quota = -1;
  out = Good();
  EXPECT_EQ(out.container.memory_limit(), 0u);
  EXPECT_EQ(out.container.pids_limit(), 0u);
  EXPECT_EQ(out.container.cpu_count(), 5);
  r.cpuset_cpus = "3-1";
  EXPECT_THAT(Error(), HasSubstr("linux.resources.cpu.cpus"));
}

TEST(CountCpusTest, Lists) {
  EXPECT_EQ(CountCpus("").value_or(-1), 0);
  EXPECT_EQ(CountCpus("0").value_or(-1), 1);
  EXPECT_EQ(CountCpus("0-1,1,5").value_or(-1), 3);
  for (const char* bad : {"a", "1-", "-1", "0-99999", "1--2"})
    EXPECT_FALSE(CountCpus(bad).ok()) << bad;
}

TEST(MountOptionsTest, LaterOnesWin) {
  absl::StatusOr<MountOptions> options = ParseMountOptions({"ro", "nosuid", "rw", "rnodev", "x=1"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->flags, uint64_t{MS_NOSUID | MS_NODEV});
  EXPECT_EQ(options->data, "x=1");
}

TEST(MountOptionsTest, IdMapsAreRefused) {
  EXPECT_FALSE(ParseMountOptions({"idmap"}).ok());
  EXPECT_FALSE(ParseMountOptions({"ridmap"}).ok());
}

}  // namespace
}  // namespace caisson::oci
