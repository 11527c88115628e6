// Build-time tool: compiles one filter table and writes the program as a C++ source. The macros
// come from cmake/seccomp_filter.cmake.
#include <cstdio>
#include <vector>

#include "confine/filter_compile.h"
#include FILTER_HEADER

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const caisson::confine::FilterTable& table = FILTER_TABLE();
  auto program = caisson::confine::CompileFilter(table);
  if (!program.ok()) {
    fprintf(stderr, "filter %s: %s\n", table.name, program.status().ToString().c_str());
    return 1;
  }
  FILE* out = fopen(argv[1], "w");
  if (out == nullptr) return 1;
  fprintf(out, "// Generated from the table of %s: %zu calls.\n#include \"%s\"\n\n", table.name,
          caisson::confine::AllowedCalls(table), FILTER_HEADER);
  fprintf(out, "static constexpr caisson::bpf::Instruction kProgram[] = {\n");
  for (const caisson::bpf::Instruction& i : *program) {
    fprintf(out, "    {0x%04x, %u, %u, 0x%08x},\n", i.code, i.jump_true, i.jump_false, i.k);
  }
  fprintf(out, "};\n\nabsl::Span<const caisson::bpf::Instruction> %s() { return kProgram; }\n",
          FILTER_PROGRAM_NAME);
  return fclose(out) == 0 ? 0 : 1;
}
