// A process from its description: ids, limits, working directory, streams, program.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "sentry/boot/requests.h"
#include "sentry/boot/sandbox_kernel.h"
#include "sentry/kernel/kernel_context.h"
#include "vfs/operations.h"
#include "vfs/tty/tty.h"

namespace caisson::boot {

using protocol::Reply;

namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

absl::string_view Text(Errno e) {
  switch (e) {
    case Errno::kENOENT: return "no such file or directory";
    case Errno::kEACCES: return "permission denied";
    case Errno::kENOTDIR: return "not a directory";
    case Errno::kENOEXEC: return "exec format error";
    case Errno::kEPERM: return "operation not permitted";
    case Errno::kELOOP: return "too many levels of symbolic links";
    case Errno::kEAGAIN: return "resource temporarily unavailable";
    default: return ErrnoName(e);
  }
}

Reply ExecError(absl::string_view name, Errno e) {
  Reply::Code code = Reply::INTERNAL;
  switch (e) {
    case Errno::kENOENT: code = Reply::NO_SUCH_FILE; break;
    case Errno::kEACCES: case Errno::kEPERM: code = Reply::PERMISSION_DENIED; break;
    case Errno::kENOTDIR: code = Reply::NOT_A_DIRECTORY; break;
    case Errno::kENOEXEC: case Errno::kELIBBAD: code = Reply::BAD_EXECUTABLE; break;
    default: break;
  }
  return ErrorReply(code, absl::StrCat("exec: \"", name, "\": ", Text(e)));
}

RefPtr<auth::Credentials> ToCredentials(const protocol::Process& p, const RefPtr<auth::UserNamespace>& ns) {
  auto c = MakeRef<auth::Credentials>(ns);
  c->ruid = c->euid = c->suid = c->fsuid = p.user().uid();
  c->rgid = c->egid = c->sgid = c->fsgid = p.user().gid();
  c->groups.assign(p.user().additional_gids().begin(), p.user().additional_gids().end());
  std::sort(c->groups.begin(), c->groups.end());
  const protocol::Capabilities& caps = p.capabilities();
  c->bounding = caps.bounding() & auth::kAllCapabilities;
  c->inheritable = caps.inheritable() & c->bounding;
  c->permitted = caps.permitted() & auth::kAllCapabilities;
  c->effective = caps.effective() & c->permitted;
  c->ambient = caps.ambient() & c->permitted & c->inheritable;
  // Execve of a program by a user other than root leaves it the ambient set (capabilities(7)).
  if (p.user().uid() != 0) c->permitted = c->effective = c->ambient;
  return c;
}

std::string EnvironmentValue(const protocol::Process& p, absl::string_view name) {
  std::string found;
  for (const std::string& e : p.env())
    if (absl::StartsWith(e, absl::StrCat(name, "="))) found = e.substr(name.size() + 1);
  return found;
}

// HOME of the user by /etc/passwd, as runc sets it where config.json does not.
std::string HomeOf(vfs::CallContext& ctx, uint32_t uid) {
  auto file = vfs::Open(ctx, ctx.root(), "/etc/passwd", vfs::kOpenReadOnly | vfs::kOpenNonblock, 0);
  if (file.ok() && (*file)->kind() == vfs::FileKind::kRegular) {
    std::string text(1 << 20, '\0');
    SpanBuffer buffer(absl::Span<char>(text.data(), text.size()));
    Result<size_t> n = vfs::FileRead(ctx, **file, buffer, 0);
    if (n.ok()) text.resize(*n);
    else text.clear();
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      std::vector<absl::string_view> fields = absl::StrSplit(line, ':');
      if (fields.size() >= 6 && fields[2] == absl::StrCat(uid)) return std::string(fields[5]);
    }
  }
  return "/";
}

// What execve will load: a name with a slash as it is, else the first match in PATH.
// Errors: ENOENT, EACCES.
Result<std::string> FindProgram(vfs::CallContext& ctx, const std::string& name, std::string path) {
  auto runnable = [&ctx](const std::string& candidate) -> Result<void> {
    auto at = vfs::Walk(ctx, ctx.cwd(), candidate, {});
    if (!at.ok()) return at.error();
    vfs::Attributes attr = TRY(vfs::Stat(ctx, *at));
    if (attr.is_directory()) return Errno::kEACCES;
    return vfs::Access(ctx, *at, vfs::kMayExec);
  };
  if (absl::StrContains(name, "/")) {
    TRY(runnable(name));
    return name;
  }
  if (path.empty()) path = kDefaultPath;
  Errno error = Errno::kENOENT;
  for (absl::string_view directory : absl::StrSplit(path, ':')) {
    std::string candidate = absl::StrCat(directory.empty() ? "." : directory, "/", name);
    Result<void> found = runnable(candidate);
    if (found.ok()) return candidate;
    if (found.error() == Errno::kEACCES) error = Errno::kEACCES;
  }
  return error;
}

}  // namespace

Reply SandboxKernel::NewProcess(ContainerState& state, const protocol::Process& spec, bool first, ProcessFds fds,
                                Process* out, RefPtr<kernel::Task>* task) {
  if (spec.args_size() == 0) return ErrorReply(Reply::INVALID, "process.args is empty");
  kernel::Kernel::ProcessArgs args;
  RefPtr<auth::Credentials> creds = ToCredentials(spec, kernel_.root_user_ns());
  args.container = state.container;
  args.creds = RefPtr<const auth::Credentials>(creds);
  args.namespaces = state.namespaces;
  args.pid_ns = state.pid_ns;
  const uint32_t umask = spec.user().has_umask() ? spec.user().umask() : 022;
  args.fs = MakeRef<kernel::FsContext>(state.mounts.ns->root(), state.mounts.ns->root(), umask);

  // The working directory is made where it is missing, by root, and entered as the user.
  auto root_creds = MakeRef<auth::Credentials>(kernel_.root_user_ns());
  root_creds->permitted = root_creds->effective = auth::kAllCapabilities;
  kernel::KernelContext root_ctx(RefPtr<const auth::Credentials>(root_creds), args.fs, state.mounts.ns);
  kernel::KernelContext ctx(args.creds, args.fs, state.mounts.ns);
  std::string cwd = spec.cwd().empty() ? "/" : spec.cwd();
  vfs::WalkOptions directory;
  directory.must_be_directory = true;
  auto at = vfs::Walk(root_ctx, root_ctx.root(), cwd, directory);
  if (first && !at.ok() && at.error() == Errno::kENOENT) {
    std::string made;
    for (absl::string_view part : absl::StrSplit(cwd, '/', absl::SkipEmpty())) {
      absl::StrAppend(&made, "/", part);
      (void)vfs::Mkdir(root_ctx, root_ctx.root(), made, 0755);
    }
    at = vfs::Walk(root_ctx, root_ctx.root(), cwd, directory);
  }
  if (!at.ok()) return ErrorReply(at.error() == Errno::kENOTDIR ? Reply::NOT_A_DIRECTORY : Reply::NO_SUCH_FILE,
                                  absl::StrCat("chdir to cwd (\"", cwd, "\"): ", Text(at.error())));
  if (Result<void> may = vfs::Access(ctx, *at, vfs::kMayExec); !may.ok())
    return ErrorReply(Reply::PERMISSION_DENIED, absl::StrCat("chdir to cwd (\"", cwd, "\"): ", Text(may.error())));
  args.fs->set_cwd(*at);

  for (const protocol::Rlimit& l : spec.rlimits())
    if (l.resource() < kernel::kRlimitCount)
      args.limits.Set(static_cast<int>(l.resource()), {l.soft(), l.hard()});
  args.argv.assign(spec.args().begin(), spec.args().end());
  args.envp.assign(spec.env().begin(), spec.env().end());
  if (EnvironmentValue(spec, "HOME").empty())
    args.envp.push_back(absl::StrCat("HOME=", HomeOf(root_ctx, spec.user().uid())));
  args.no_new_privs = spec.no_new_privs();
  args.personality = spec.has_personality() ? spec.personality() : 0;
  args.nice = spec.nice();
  args.oom_score_adj = spec.oom_score_adj();
  if (!spec.seccomp_bpf().empty()) {
    std::vector<bpf::Instruction> program(spec.seccomp_bpf().size() / sizeof(bpf::Instruction));
    memcpy(program.data(), spec.seccomp_bpf().data(), program.size() * sizeof(bpf::Instruction));
    auto filter = kernel::SeccompFilter::New(std::move(program), nullptr, false);
    if (!filter.ok()) return ErrorReply(Reply::INVALID, "seccomp profile: refused by the filter checker");
    args.seccomp = std::move(*filter);
  }

  args.fd_table = MakeRef<kernel::FdTable>();
  const uint64_t limit = args.limits.soft(kernel::kRlimitNofile);
  if (spec.terminal()) {
    if (fds.stdio.size() != 1) return ErrorReply(Reply::INVALID, "a terminal is one descriptor");
    auto terminal = vfs::tty::HostTerminal::Start(state.mounts.devpts, std::move(fds.stdio[0]), spec.user().uid(), 5);
    if (!terminal.ok()) return ErrorReply(Reply::INTERNAL, absl::StrCat("terminal: ", Text(terminal.error())));
    out->terminal = std::move(*terminal);
    if (spec.console_rows() != 0 || spec.console_columns() != 0)
      out->terminal->tty().SetWindowSize({static_cast<uint16_t>(spec.console_rows()), static_cast<uint16_t>(spec.console_columns()), 0, 0});
    auto slave = out->terminal->OpenSlave(ctx, vfs::kOpenReadWrite);
    if (!slave.ok()) return ErrorReply(Reply::INTERNAL, absl::StrCat("terminal: ", Text(slave.error())));
    for (int fd = 0; fd < 3; ++fd) (void)args.fd_table->Install(*slave, fd, limit, false);
  } else {
    for (size_t i = 0; i < fds.stdio.size(); ++i) {
      auto file = host_files_.Import(std::move(fds.stdio[i]), spec.user().uid(), spec.user().gid());
      if (!file.ok()) return ErrorReply(Reply::INVALID, absl::StrCat("standard stream ", i, ": ", Text(file.error())));
      (void)args.fd_table->Install(std::move(*file), static_cast<int32_t>(i), limit, false);
    }
  }
  for (size_t i = 0; i < fds.preserved.size(); ++i) {
    auto file = host_files_.Import(std::move(fds.preserved[i]), spec.user().uid(), spec.user().gid());
    if (!file.ok()) return ErrorReply(Reply::INVALID, absl::StrCat("preserved descriptor ", i + 3, ": ", Text(file.error())));
    (void)args.fd_table->Install(std::move(*file), static_cast<int32_t>(i + 3), limit, false);
  }

  const std::string& name = spec.args(0);
  Result<std::string> program = FindProgram(ctx, name, EnvironmentValue(spec, "PATH"));
  if (!program.ok()) {
    if (program.error() == Errno::kENOENT && !absl::StrContains(name, "/"))
      return ErrorReply(Reply::EXECUTABLE_NOT_FOUND, absl::StrCat("exec: \"", name, "\": executable file not found in $PATH"));
    if (program.error() == Errno::kENOENT)
      return ErrorReply(Reply::NO_SUCH_FILE, absl::StrCat("exec: \"", name, "\": stat ", name, ": no such file or directory"));
    return ExecError(name, program.error());
  }
  args.path = *program;
  auto made = kernel_.NewProcess(std::move(args));
  if (!made.ok()) return ExecError(name, made.error());
  *task = *made;
  out->group = (*made)->group_ref();
  // Nobody runs as this task yet, so this thread may act as it.
  if (out->terminal) out->terminal->tty().MaybeBecomeControlling(**made, true);
  return Reply();
}

}  // namespace caisson::boot
