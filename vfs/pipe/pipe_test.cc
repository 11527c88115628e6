#include "vfs/pipe/pipe_file.h"

#include <string>

#include <gtest/gtest.h>

#include "vfs/operations.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class PipeTest : public ::testing::Test {
 protected:
  void Make(uint32_t flags = 0) {
    auto ends = factory_.NewPipe(ctx_, flags);
    reader_ = ends.first;
    writer_ = ends.second;
  }
  PipeFile& reader() { return *AsPipe(*reader_); }
  // Until it would wait; the bytes written.
  size_t Fill(size_t step) {
    size_t total = 0;
    for (;;) {
      Result<size_t> n = ctx_.Write(*writer_, std::string(step, 'x'));
      if (!n.ok()) {
        EXPECT_EQ(n.error(), Errno::kEAGAIN);
        return total;
      }
      total += *n;
    }
  }

  TestWorld world_;
  TestContext ctx_{world_};
  PipeFactory factory_;
  RefPtr<FileDescription> reader_, writer_;
};

TEST_F(PipeTest, BytesComeOutInOrderWhateverTheSizes) {
  Make();
  std::string sent, got;
  uint32_t seed = 1;
  while (sent.size() < 400'000) {
    seed = seed * 1664525 + 1013904223;
    std::string piece(seed % 9000 + 1, static_cast<char>('a' + sent.size() % 26));
    Result<size_t> n = ctx_.Write(*writer_, piece);
    if (n.ok()) sent += piece.substr(0, *n);
    Result<std::string> out = ctx_.Read(*reader_, seed % 7000 + 1);
    if (out.ok()) got += *out;
  }
  while (got.size() < sent.size()) {
    Result<std::string> out = ctx_.Read(*reader_, 10'000);
    ASSERT_OK(out);
    got += *out;
  }
  EXPECT_EQ(got, sent);
  EXPECT_ERRNO(ctx_.Read(*reader_, 1), kEAGAIN);
}

TEST_F(PipeTest, HoldsSixtyFourKibibytes) {
  for (size_t step : {1, 100, 4096, 5000, 70'000}) {
    Make();
    size_t total = Fill(step);
    EXPECT_LE(total, 65536u) << step;
    EXPECT_GT(total, 65536u - 4096) << step;
    if (step == 1 || step == 4096) {
      EXPECT_EQ(total, 65536u) << step;
    }
  }
}

TEST_F(PipeTest, WritesUpToPipeBufAreAllOrNothing) {
  Make();
  ASSERT_OK(ctx_.Write(*writer_, std::string(65536 - 4000, 'x')));
  EXPECT_ERRNO(ctx_.Write(*writer_, std::string(4096, 'y')), kEAGAIN);
  EXPECT_EQ(*ctx_.Write(*writer_, std::string(4000, 'y')), 4000u);
}

TEST_F(PipeTest, BecomesWritableOnlyWithRoomForPipeBuf) {
  Make();
  EXPECT_NE(writer_->Readiness(kWritable), 0u);
  Fill(4096);
  EXPECT_EQ(writer_->Readiness(kWritable), 0u);
  ASSERT_OK(ctx_.Read(*reader_, 4095));
  EXPECT_EQ(writer_->Readiness(kWritable), 0u);
  ASSERT_OK(ctx_.Read(*reader_, 1));
  EXPECT_NE(writer_->Readiness(kWritable), 0u);
}

TEST_F(PipeTest, EndOfFileAndHangUpWhenTheWriterGoes) {
  Make();
  ASSERT_OK(ctx_.Write(*writer_, "last"));
  EXPECT_EQ(reader_->Readiness(kAllEvents), kReadable);
  writer_ = nullptr;
  EXPECT_EQ(reader_->Readiness(kAllEvents), kReadable | kEventHup);
  EXPECT_EQ(*ctx_.Read(*reader_, 10), "last");
  EXPECT_EQ(*ctx_.Read(*reader_, 10), "");
  EXPECT_EQ(reader_->Readiness(kAllEvents), kEventHup);
}

TEST_F(PipeTest, BrokenPipeSendsSigpipe) {
  Make();
  reader_ = nullptr;
  EXPECT_EQ(writer_->Readiness(kAllEvents), kWritable | kEventErr);
  EXPECT_ERRNO(ctx_.Write(*writer_, "x"), kEPIPE);
  ASSERT_EQ(ctx_.signals_.size(), 1u);
  EXPECT_EQ(ctx_.signals_[0], 13);
}

TEST_F(PipeTest, PacketsKeepTheirBoundsAndLoseWhatIsNotRead) {
  Make(kOpenDirect);
  ASSERT_OK(ctx_.Write(*writer_, "first"));
  ASSERT_OK(ctx_.Write(*writer_, "second"));
  EXPECT_EQ(*ctx_.Read(*reader_, 3), "fir");
  EXPECT_EQ(*ctx_.Read(*reader_, 100), "second");
  EXPECT_EQ(Fill(1), 16u);  // Each packet takes a page.
}

TEST_F(PipeTest, CapacityChanges) {
  Make();
  EXPECT_EQ(GetPipeSize(reader()), 65536);
  EXPECT_EQ(*SetPipeSize(ctx_, reader(), 5000, 1 << 20), 8192);
  EXPECT_EQ(Fill(4096), 8192u);
  EXPECT_ERRNO(SetPipeSize(ctx_, reader(), 4096, 1 << 20), kEBUSY);
  EXPECT_EQ(*SetPipeSize(ctx_, reader(), 1 << 20, 1 << 20), 1 << 20);
  EXPECT_EQ(*SetPipeSize(ctx_, reader(), 1 << 21, 1 << 20), 1 << 21);  // Root may.
  ctx_.BecomeUser(1000, 1000);
  EXPECT_ERRNO(SetPipeSize(ctx_, reader(), 1 << 22, 1 << 20), kEPERM);
  EXPECT_ERRNO(SetPipeSize(ctx_, reader(), uint64_t{1} << 32, 1 << 20), kEINVAL);
}

TEST_F(PipeTest, FionreadCountsBytes) {
  Make();
  ASSERT_OK(ctx_.Write(*writer_, std::string(5000, 'x')));
  int32_t n = 0;
  ASSERT_OK(reader_->Ioctl(ctx_, 0x541b, reinterpret_cast<uint64_t>(&n)));
  EXPECT_EQ(n, 5000);
  EXPECT_ERRNO(reader_->Ioctl(ctx_, 0x5401, 0), kENOTTY);
}

TEST_F(PipeTest, OpensAgainByItsPath) {
  Make();
  ASSERT_OK(ctx_.Write(*writer_, "data"));
  Result<RefPtr<FileDescription>> again = OpenPath(ctx_, reader_->path(), kOpenReadOnly);
  ASSERT_OK(again);
  EXPECT_EQ(*ctx_.Read(**again, 10), "data");
  EXPECT_EQ((*again)->Describe(), reader_->Describe());
  Attributes attr = *reader_->GetAttributes(ctx_);
  EXPECT_EQ(attr.mode, kModeFifo | 0600u);
  EXPECT_EQ(reader_->Describe(), "pipe:[" + std::to_string(attr.ino) + "]");
}

}  // namespace
}  // namespace caisson::vfs
