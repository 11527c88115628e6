// #! lines (Linux fs/binfmt_script.c).
#include <cstring>
#include <utility>

#include "base/io_buffer.h"
#include "sentry/loader/loader.h"

namespace caisson::loader {

namespace {

constexpr size_t kHeadSize = 256;  // BINPRM_BUF_SIZE.
constexpr int kMaxDepth = 5;

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

struct ScriptLine {
  std::string interpreter;
  std::optional<std::string> argument;
};

// Parses what follows "#!". Errors: ENOEXEC.
Result<ScriptLine> ParseLine(absl::string_view head) {
  // The line ends at a newline; without one it may be cut off: an argument may be, the path not.
  const char* begin = head.data() + 2;
  const char* buffer_end = head.data() + head.size() - 1;
  const char* end = static_cast<const char*>(memchr(head.data(), '\n', head.size()));
  if (end == nullptr) {
    const char* name = begin;
    while (name <= buffer_end && IsBlank(*name)) ++name;
    if (name > buffer_end) return Errno::kENOEXEC;
    while (name <= buffer_end && !IsBlank(*name) && *name != '\0') ++name;
    if (name > buffer_end) return Errno::kENOEXEC;
    end = buffer_end;
  }
  while (end > begin && IsBlank(end[-1])) --end;
  const char* name = begin;
  while (name < end && IsBlank(*name)) ++name;
  if (name >= end) return Errno::kENOEXEC;
  const char* name_end = name;
  while (name_end < end && !IsBlank(*name_end) && *name_end != '\0') ++name_end;
  ScriptLine line;
  line.interpreter.assign(name, name_end);
  if (name_end < end && *name_end != '\0') {
    const char* argument = name_end;
    while (argument < end && IsBlank(*argument)) ++argument;
    if (argument < end) {
      std::string text(argument, end);
      text.resize(strlen(text.c_str()));
      line.argument = std::move(text);
    }
  }
  return line;
}

}  // namespace

Result<Program> Resolve(vfs::CallContext& ctx, const LoadArgs& args) {
  Program program;
  program.file = args.file;
  program.argv = args.argv;
  program.exec_path = args.path;
  // A program always has argv[0] (Linux since 5.18).
  if (program.argv.empty()) program.argv.emplace_back();
  for (int depth = 0;; ++depth) {
    char head[kHeadSize] = {};
    size_t got = 0;
    while (got < sizeof(head)) {
      SpanBuffer buffer(absl::Span<char>(head + got, sizeof(head) - got));
      size_t n = TRY(program.file->PRead(ctx, buffer, got, 0));
      if (n == 0) break;
      got += n;
    }
    if (memcmp(head, "\177ELF", 4) == 0) return program;
    if (got < 2 || head[0] != '#' || head[1] != '!') return Errno::kENOEXEC;
    ScriptLine line = TRY(ParseLine({head, sizeof(head)}));
    std::vector<std::string> argv;
    argv.push_back(line.interpreter);
    if (line.argument) argv.push_back(*std::move(line.argument));
    argv.push_back(program.exec_path);
    for (size_t i = 1; i < program.argv.size(); ++i) argv.push_back(std::move(program.argv[i]));
    program.argv = std::move(argv);
    program.exec_path = line.interpreter;
    program.file = TRY(args.open(line.interpreter));
    program.denial = WriteDenial(program.file->inode_ref());
    if (depth == kMaxDepth) return Errno::kELOOP;
  }
}

}  // namespace caisson::loader
