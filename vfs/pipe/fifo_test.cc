#include "vfs/fifo.h"

#include <thread>

#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/pipe/pipe_file.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class FifoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(Mknod(ctx_, ctx_.cwd(), "fifo", kModeFifo | 0644, {}));
  }
  TestWorld world_;
  TestContext ctx_{world_}, other_{world_};
};

TEST_F(FifoTest, NonblockingWriterNeedsAReader) {
  EXPECT_ERRNO(ctx_.Open("fifo", kOpenWriteOnly | kOpenNonblock), kENXIO);
  Result<RefPtr<FileDescription>> reader = ctx_.Open("fifo", kOpenReadOnly | kOpenNonblock);
  ASSERT_OK(reader);
  Result<RefPtr<FileDescription>> writer = ctx_.Open("fifo", kOpenWriteOnly | kOpenNonblock);
  ASSERT_OK(writer);
  ASSERT_OK(ctx_.Write(**writer, "hello"));
  EXPECT_EQ(*ctx_.Read(**reader, 10), "hello");
}

TEST_F(FifoTest, NoHangUpBeforeTheFirstWriter) {
  Result<RefPtr<FileDescription>> reader = ctx_.Open("fifo", kOpenReadOnly | kOpenNonblock);
  ASSERT_OK(reader);
  EXPECT_EQ((*reader)->Readiness(kAllEvents), 0u);
  EXPECT_EQ(*ctx_.Read(**reader, 1), "");
  { ASSERT_OK(ctx_.Open("fifo", kOpenWriteOnly | kOpenNonblock)); }
  EXPECT_EQ((*reader)->Readiness(kAllEvents), kEventHup);
}

TEST_F(FifoTest, OpensWaitForEachOther) {
  RefPtr<FileDescription> reader;
  std::thread thread([&] { reader = other_.Open("fifo", kOpenReadOnly).value(); });
  Result<RefPtr<FileDescription>> writer = ctx_.Open("fifo", kOpenWriteOnly);
  thread.join();
  ASSERT_OK(writer);
  ASSERT_OK(ctx_.Write(**writer, "x"));
  EXPECT_EQ(*other_.Read(*reader, 10), "x");
}

TEST_F(FifoTest, AnInterruptedOpenLeavesNoTrace) {
  other_.Interrupt();  // As a pending signal: Block() fails at once.
  EXPECT_ERRNO(other_.Open("fifo", kOpenReadOnly), kERESTARTSYS);
  EXPECT_ERRNO(ctx_.Open("fifo", kOpenWriteOnly | kOpenNonblock), kENXIO);
}

TEST_F(FifoTest, ReadWriteNeverWaits) {
  Result<RefPtr<FileDescription>> both = ctx_.Open("fifo", kOpenReadWrite);
  ASSERT_OK(both);
  ASSERT_OK(ctx_.Write(**both, "self"));
  EXPECT_EQ(*ctx_.Read(**both, 10), "self");
  EXPECT_ERRNO(ctx_.Read(**both, 10), kEAGAIN);
}

TEST_F(FifoTest, DataGoesWithTheLastOpen) {
  {
    Result<RefPtr<FileDescription>> both = ctx_.Open("fifo", kOpenReadWrite);
    ASSERT_OK(ctx_.Write(**both, "lost"));
  }
  Result<RefPtr<FileDescription>> both = ctx_.Open("fifo", kOpenReadWrite);
  EXPECT_ERRNO(ctx_.Read(**both, 10), kEAGAIN);
}

}  // namespace
}  // namespace caisson::vfs
