#include "vfs/pipe/splice.h"

#include <string>

#include <gtest/gtest.h>

#include "vfs/pipe/pipe_file.h"
#include "vfs/testing/test_context.h"

namespace caisson::vfs {
namespace {

using testing::TestContext;
using testing::TestWorld;

class SpliceTest : public ::testing::Test {
 protected:
  SpliceTest() {
    std::tie(in_read_, in_write_) = factory_.NewPipe(ctx_, 0);
    std::tie(out_read_, out_write_) = factory_.NewPipe(ctx_, 0);
  }
  TestWorld world_;
  TestContext ctx_{world_};
  PipeFactory factory_;
  RefPtr<FileDescription> in_read_, in_write_, out_read_, out_write_;
};

TEST_F(SpliceTest, FileToPipeAdvancesTheOffset) {
  std::string content(20'000, 'a');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>('a' + i % 23);
  ASSERT_OK(ctx_.WriteFile("file", content));
  RefPtr<FileDescription> file = ctx_.Open("file").value();
  uint64_t offset = 100;
  EXPECT_EQ(*Splice(ctx_, *file, &offset, *out_write_, nullptr, 15'000, 0), 15'000u);
  EXPECT_EQ(offset, 15'100u);
  EXPECT_EQ(*ctx_.Read(*out_read_, 15'000), content.substr(100, 15'000));
  EXPECT_EQ(*Splice(ctx_, *file, nullptr, *out_write_, nullptr, 10, 0), 10u);
  EXPECT_EQ(*ctx_.Read(*out_read_, 100), content.substr(0, 10));
  offset = content.size();
  EXPECT_EQ(*Splice(ctx_, *file, &offset, *out_write_, nullptr, 10, 0), 0u);
}

TEST_F(SpliceTest, PipeToFile) {
  ASSERT_OK(ctx_.Write(*in_write_, "hello world"));
  RefPtr<FileDescription> file = ctx_.Open("file", kOpenCreate | kOpenReadWrite).value();
  EXPECT_EQ(*Splice(ctx_, *in_read_, nullptr, *file, nullptr, 5, 0), 5u);
  EXPECT_EQ(*Splice(ctx_, *in_read_, nullptr, *file, nullptr, 100, 0), 6u);
  EXPECT_EQ(*ctx_.ReadFile("file"), "hello world");
  EXPECT_ERRNO(Splice(ctx_, *in_read_, nullptr, *file, nullptr, 1, kSpliceNonblock), kEAGAIN);
  in_write_ = nullptr;
  EXPECT_EQ(*Splice(ctx_, *in_read_, nullptr, *file, nullptr, 1, 0), 0u);
}

TEST_F(SpliceTest, PipeToPipeMovesAndTeeCopies) {
  ASSERT_OK(ctx_.Write(*in_write_, "abcdef"));
  EXPECT_EQ(*Tee(ctx_, *in_read_, *out_write_, 4, 0), 4u);
  EXPECT_EQ(*ctx_.Read(*out_read_, 10), "abcd");
  EXPECT_EQ(*Splice(ctx_, *in_read_, nullptr, *out_write_, nullptr, 3, 0), 3u);
  EXPECT_EQ(*ctx_.Read(*out_read_, 10), "abc");
  EXPECT_EQ(*ctx_.Read(*in_read_, 10), "def");
}

TEST_F(SpliceTest, Refusals) {
  ASSERT_OK(ctx_.WriteFile("file", "x"));
  RefPtr<FileDescription> a = ctx_.Open("file").value();
  RefPtr<FileDescription> b = ctx_.Open("file", kOpenReadWrite).value();
  RefPtr<FileDescription> append = ctx_.Open("file", kOpenWriteOnly | kOpenAppend).value();
  uint64_t offset = 0;
  EXPECT_ERRNO(Splice(ctx_, *a, nullptr, *b, nullptr, 1, 0), kEINVAL);
  EXPECT_ERRNO(Splice(ctx_, *in_read_, nullptr, *in_write_, nullptr, 1, 0), kEINVAL);
  EXPECT_ERRNO(Splice(ctx_, *in_read_, &offset, *b, nullptr, 1, 0), kESPIPE);
  EXPECT_ERRNO(Splice(ctx_, *in_write_, nullptr, *b, nullptr, 1, 0), kEBADF);
  EXPECT_ERRNO(Splice(ctx_, *in_read_, nullptr, *append, nullptr, 1, 0), kEINVAL);
  EXPECT_ERRNO(Splice(ctx_, *in_read_, nullptr, *b, nullptr, 1, 64), kEINVAL);
  EXPECT_ERRNO(Tee(ctx_, *in_read_, *b, 1, 0), kEINVAL);
}

TEST_F(SpliceTest, BrokenPipeKeepsTheDataAndSignals) {
  ASSERT_OK(ctx_.Write(*in_write_, "abc"));
  out_read_ = nullptr;
  EXPECT_ERRNO(Splice(ctx_, *in_read_, nullptr, *out_write_, nullptr, 3, 0), kEPIPE);
  EXPECT_EQ(ctx_.signals_, std::vector<int>{13});
  EXPECT_EQ(*ctx_.Read(*in_read_, 10), "abc");
}

}  // namespace
}  // namespace caisson::vfs
