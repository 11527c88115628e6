// The real gofer and the sentry's file system over it, both confined, in a real sandbox: the two
// filters let every file operation through, and no more than the mounts can be reached.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "confine/role.h"
#include "gmock/gmock.h"
#include "gofer/main.h"
#include "gtest/gtest.h"
#include "runsc/sandbox/test_sandbox.h"
#include "sentry/boot/fake_kernel.h"
#include "vfs/gofer/filesystem.h"
#include "vfs/testing/test_context.h"

namespace caisson::runsc {
namespace {

#define STEP(n, ...) \
  if (!(__VA_ARGS__)) return n

// In the sentry: everything one does with files. 0, or the step that failed.
int UseFiles(UniqueFd socket) {
  vfs::GoferOptions options;
  options.host_locks = true;
  Result<RefPtr<vfs::FileSystem>> fs = vfs::GoferFileSystem::Mount(std::move(socket), options);
  STEP(1, fs.ok());
  vfs::testing::TestWorld world(*fs);
  vfs::testing::TestContext ctx(world);
  STEP(2, ctx.ReadFile("/hello").value_or("") == "from the host");
  STEP(3, ctx.WriteFile("/f", "some text").ok());
  STEP(4, ctx.ReadFile("/f").value_or("") == "some text");
  STEP(5, ctx.Mkdir("/d").ok() && ctx.Rename("/f", "/d/g").ok());
  STEP(6, ctx.Link("/d/g", "/h").ok() && ctx.Symlink("d/g", "/l").ok());
  STEP(7, ctx.ReadFile("/l").value_or("") == "some text");
  STEP(8, ctx.List("/").ok() && ctx.List("/d")->size() == 1);
  vfs::VfsPath path = *ctx.Walk("/h");
  STEP(9, vfs::Chmod(ctx, path, 0640).ok() && vfs::Chown(ctx, path, 12, 34).ok());
  vfs::SetAttributes::Time time;
  time.at = {12345, 678};
  STEP(10, vfs::SetTimes(ctx, path, time, time, false).ok());
  STEP(11, vfs::Truncate(ctx, path, 4).ok() && ctx.Stat("/d/g")->size == 4);
  Result<RefPtr<vfs::FileDescription>> file = ctx.Open("/h", vfs::kOpenReadWrite);
  STEP(12, file.ok() && ctx.Write(**file, "SOME").ok());
  STEP(13, vfs::FileTruncate(ctx, **file, 100).ok());
  STEP(14, (*file)->Seek(ctx, 0, SEEK_DATA).ok() && (*file)->Sync(ctx, false).ok());
  STEP(15, vfs::SetXattr(ctx, path, "user.k", "v", 0).ok() &&
               vfs::GetXattr(ctx, path, "user.k").value_or("") == "v");
  STEP(16, vfs::ListXattr(ctx, path).ok() && vfs::RemoveXattr(ctx, path, "user.k").ok());
  STEP(17, vfs::Mknod(ctx, ctx.cwd(), "/fifo", 0010644, {}).ok());
  STEP(18, ctx.Unlink("/l").ok() && ctx.Unlink("/h").ok() && ctx.Unlink("/d/g").ok());
  STEP(19, ctx.Rmdir("/d").ok());
  STEP(20, ctx.Open("/", vfs::kOpenTmpfile | vfs::kOpenReadWrite).ok());
  // Nothing above the mount has a name.
  STEP(21, ctx.Walk("/../../../etc/passwd").error() == Errno::kENOENT);
  STEP(22, ctx.WriteFile("/done", "by the sentry").ok());
  return 0;
}

int UseReadOnlyFile(UniqueFd socket) {
  Result<RefPtr<vfs::FileSystem>> fs = vfs::GoferFileSystem::Mount(std::move(socket), {});
  STEP(30, fs.ok());
  return 0;
}

boot::SentryParts Parts() {
  boot::SentryParts parts;
  parts.make_kernel = [](const protocol::SandboxConfig&) {
    return std::make_unique<boot::FakeKernel>(
        [](const std::vector<std::string>&, std::vector<UniqueFd>& gofers) {
          const int failed = UseFiles(std::move(gofers[0]));
          return failed != 0 ? failed : UseReadOnlyFile(std::move(gofers[1]));
        });
  };
  return parts;
}

TEST(GoferTest, FilesWorkBetweenTwoConfinedProcesses) {
  TestSandbox box({"run"});
  const std::string root = box.directory + "/root";
  std::ofstream(root + "/hello") << "from the host";
  std::ofstream(box.directory + "/file") << "one file";
  SandboxStart start = box.Config();
  start.config.set_debug(true);  // Says which call was denied, should one be.
  GoferSource file;
  file.path_fd = UniqueFd(open((box.directory + "/file").c_str(), O_PATH | O_CLOEXEC));
  file.read_only = true;
  file.is_file = true;
  start.gofers.push_back(std::move(file));
  absl::Status started = box.Start(std::move(start));
  ASSERT_TRUE(started.ok()) << started;
  box.StartContainer();
  const int status = box.AwaitMonitor();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "step " << WEXITSTATUS(status);
  EXPECT_EQ(ReadFile(root + "/done"), "by the sentry");
  for (const char* name : {"/hello", "/done", "/fifo"}) unlink((root + name).c_str());
  unlink((box.directory + "/file").c_str());
}

}  // namespace
}  // namespace caisson::runsc

int main(int argc, char** argv) {
  const std::string role = argv[0];
  if (role == caisson::confine::kSentryRole) {
    return caisson::boot::RunSentry(argc, argv, caisson::runsc::Parts());
  }
  if (role == caisson::confine::kGoferRole) return caisson::gofer::GoferMain(argc, argv);
  return caisson::runsc::TestMain(argc, argv);
}
