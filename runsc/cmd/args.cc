// The one file that holds CLI11; built with exceptions, none of which leave it.
#include "runsc/cmd/args.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <set>

#include "runsc/cmd/version.h"

namespace caisson::cmd {
namespace {

using CLI::App;

// Options that gVisor's runsc and runc have and that mean nothing here: accepted and logged, so that
// a configuration written for them works.
constexpr const char* kIgnoredGlobals[] = {"--file-access",
                                           "--file-access-mounts",
                                           "--overlay",
                                           "--directfs",
                                           "--watchdog-action",
                                           "--panic-signal",
                                           "--profile",
                                           "--alsologtostderr",
                                           "--debug-log-format",
                                           "--log-packets",
                                           "--num-network-channels",
                                           "--rx-checksum-offload",
                                           "--tx-checksum-offload",
                                           "--gso",
                                           "--software-gso",
                                           "--qdisc",
                                           "--ref-leak-mode",
                                           "--criu",
                                           "--oci-seccomp",
                                           "--enable-core-tags",
                                           "--cpu-num-from-quota"};

// Where `value` is "true", "false" and so on.
bool IsTrue(const std::string& value) { return value == "true" || value == "1" || value == "t"; }

void AddGlobals(App& app, Args& a, std::string& log_format, std::string& overlay,
                std::string& rootless, std::string& host_uds) {
  runsc::Options& o = a.options;
  app.add_option("--root", o.root, "Directory of the containers' state");
  app.add_flag("--debug", o.debug, "Log more");
  app.add_option("--log", a.log, "File for log and errors (default: standard error)");
  app.add_option("--log-format", log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  app.add_flag("--systemd-cgroup", o.systemd_cgroup, "Cgroups by systemd");
  app.add_option("--rootless", rootless, "true, false or auto")->expected(0, 1);
  app.add_option("--platform", o.platform, "auto, trap, trap-notify-off, trap-spin-off, ptrace or kvm")
      ->check(CLI::IsMember(
          {"auto", "trap", "trap-notify-off", "trap-spin-off", "ptrace", "kvm"}));
  app.add_option("--network", o.network, "none or sandbox, which are the same so far; host is refused")
      ->check(CLI::IsMember({"none", "sandbox", "host"}));
  app.add_option("--overlay2", overlay, "none, root:memory or all:memory")
      ->check(CLI::IsMember({"none", "root:memory", "all:memory"}));
  app.add_flag("--strace", o.strace, "Log the guest's system calls");
  app.add_option("--strace-syscalls", o.strace_calls, "Only these, with commas between");
  app.add_option("--debug-log", o.debug_log, "Where the sandbox logs: a file, or DIR/");
  app.add_flag("--ignore-cgroups", o.ignore_cgroups, "Do not touch cgroups");
  app.add_option("--host-uds", host_uds, "none; open (host AF_UNIX sockets in bind mounts) is refused")
      ->check(CLI::IsMember({"none", "open"}));
  app.add_flag("--fsgofer-host-uds", o.host_uds, "As --host-uds=open");
  for (const char* name : kIgnoredGlobals) {
    app.add_option_function<std::string>(
           name, [&a, name](const std::string&) { a.ignored.emplace_back(name); }, "Ignored")
        ->expected(0, 1)
        ->group("");
  }
}

void AddAttachment(App* c, Args& a, bool with_detach) {
  c->add_option("--console-socket", a.attachment.console_socket,
                "AF_UNIX socket that gets the terminal's master");
  c->add_option("--pidfd-socket", a.attachment.pidfd_socket,
                "AF_UNIX socket that gets a pidfd of the process");
  c->add_option("--pid-file", a.attachment.pid_file, "File to write the pid to");
  c->add_option("--preserve-fds", a.attachment.preserve_fds, "Pass N further descriptors");
  if (with_detach) c->add_flag("-d,--detach", a.attachment.detach, "Do not wait for the process");
}

void AddCreateOptions(App* c, Args& a, bool& unused) {
  c->add_option("-b,--bundle", a.bundle, "Directory of config.json (default: the current one)");
  c->add_flag("--no-pivot", unused, "Accepted, without effect");
  c->add_flag("--no-new-keyring", unused, "Accepted, without effect");
}

App* AddCommand(App& app, const char* name, const char* text, Args& a, const char* positional,
                int least, int most) {
  App* c = app.add_subcommand(name, text);
  if (most == 0) return c;
  constexpr int kAny = 1000;
  c->add_option(positional, a.positional)->expected(0, kAny)->take_all();
  c->callback([&a, name, least, most] {
    const auto given = static_cast<int>(a.positional.size());
    if (given >= least && given <= most) return;
    const std::string wanted = least == most  ? "exactly " + std::to_string(least)
                               : given < least ? "a minimum of " + std::to_string(least)
                                               : "a maximum of " + std::to_string(most);
    throw CLI::ValidationError("\"" + std::string(name) + "\" requires " + wanted + " argument(s)");
  });
  return c;
}

void AddLifecycle(App& app, Args& a, bool& unused) {
  App* c = AddCommand(app, "create", "Create a container", a, "container-id", 1, 1);
  AddAttachment(c, a, false);
  AddCreateOptions(c, a, unused);
  c = AddCommand(app, "run", "Create and start a container", a, "container-id", 1, 1);
  AddAttachment(c, a, true);
  AddCreateOptions(c, a, unused);
  c->add_flag("--keep", a.keep, "Do not delete the container when it has ended");
  c->add_flag("--no-subreaper", unused, "Accepted, without effect");
  AddCommand(app, "start", "Run the process of a created container", a, "container-id", 1, 1);
  c = AddCommand(app, "kill", "Send a signal", a, "container-id [signal]", 1, 2);
  c->add_flag("-a,--all", a.all, "To every process of the container");
  c = AddCommand(app, "delete", "Delete a container", a, "container-id...", 1, 1000);
  c->add_flag("-f,--force", a.force, "Even if it runs");
  AddCommand(app, "state", "Print the state, as JSON", a, "container-id", 1, 1);
  AddCommand(app, "pause", "Freeze a container", a, "container-id", 1, 1);
  AddCommand(app, "resume", "Thaw a container", a, "container-id", 1, 1);
  c = AddCommand(app, "wait", "Wait for the end of a container, or of a process in it", a,
                 "container-id", 1, 1);
  c->add_option("--pid", a.pid, "Pid inside the container");
}

void AddExecOptions(App* c, Args& a) {
  c->add_option("--cwd", a.cwd, "Working directory");
  c->add_option("-u,--user", a.user, "UID[:GID]");
  c->add_option("-e,--env", a.env, "NAME=VALUE")->expected(1)->allow_extra_args(false)->take_all();
  c->add_option("-c,--cap", a.capabilities, "Add a capability")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  c->add_flag("-t,--tty", a.tty, "With a terminal");
}

void AddExec(App& app, Args& a, bool& unused) {
  App* c = app.add_subcommand("exec", "Run a process in a container: [options] ID COMMAND...");
  AddAttachment(c, a, true);
  AddExecOptions(c, a);
  c->add_option("-p,--process", a.process_file, "File with the process, as config.json has it");
  c->add_option("-g,--additional-gids", a.additional_gids)
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  c->add_option("--process-label", a.label, "Ignored, and logged");
  c->add_option("--apparmor", a.label, "Ignored, and logged");
  c->add_flag("--no-new-privs", a.no_new_privileges);
  c->add_flag("--ignore-paused", a.ignore_paused, "Also in a paused container");
  c->add_option("--cgroup", a.sub_cgroup, "Refused: sub-cgroups are not supported");
  c->add_flag("--no-subreaper", unused);
  c = app.add_subcommand("do",
                         "Run a command on a throw-away view of the host: [options] COMMAND...");
  AddExecOptions(c, a);
  c->add_option("--rootfs,--root", a.rootfs, "Another root directory than /");
  c->add_flag("--quiet", a.quiet, "Only the command's own output");
}

void AddInformation(App& app, Args& a, bool& unused) {
  App* c = AddCommand(app, "list", "List containers", a, "", 0, 0);
  c->add_option("-f,--format", a.format)->check(CLI::IsMember({"table", "json"}));
  c->add_flag("-q,--quiet", a.quiet, "Only ids");
  c = app.add_subcommand("ps", "List the processes of a container: [options] ID [PS-OPTIONS]");
  c->add_option("-f,--format", a.format)->check(CLI::IsMember({"table", "json"}));
  c = AddCommand(app, "events", "Statistics and out-of-memory events", a, "container-id", 1, 1);
  c->add_flag("--stats", a.stats, "Print once");
  c->add_option("--interval", a.interval, "Time between statistics");
  c = AddCommand(app, "spec", "Write a config.json to start from", a, "", 0, 0);
  c->add_option("-b,--bundle", a.bundle);
  c->add_flag("--rootless", a.all, "For a user who is not root");
  AddCommand(app, "features", "What this runtime can do, as JSON", a, "", 0, 0);
  AddCommand(app, "version", "Print the version", a, "", 0, 0);
  c = AddCommand(app, "debug", "Look into a sandbox", a, "container-id", 1, 1);
  c->add_flag("--stacks", a.stacks, "Guest tasks, with the call that each is in (the sentry's own: --profile)");
  c->add_flag("--ps", a.processes, "The same");
  c->add_flag("--unsupported", a.unsupported, "Calls that were asked for and are not there");
  c->add_flag("--counters", a.counters, "How often each system call was made");
  c->add_option("--histograms", a.timing, "on or off: durations of system calls, for metrics")
      ->check(CLI::IsMember({"on", "off"}));
  c->add_option("--profile", a.profile, "Sample the sentry's stacks; write them folded to FILE, or -");
  c->add_option("--profile-hz", a.profile_hz, "Samples a second of CPU time")->check(CLI::Range(1, 10000));
  c->add_option("--duration", a.duration, "Seconds of --profile")->check(CLI::Range(0.01, 86400.0));
  c->add_option("--strace", a.strace, "on or off")->check(CLI::IsMember({"on", "off", "all"}));
  AddCommand(app, "metrics", "Print figures of a sandbox in Prometheus' format", a, "container-id", 1, 1);
  app.add_subcommand("internal-oci-doc", "docs/oci.md")->group("");
  (void)unused;
}

// "-1", or bytes with a unit as Docker writes them: "300m", "1.5GiB".
std::optional<int64_t> ParseSize(const std::string& text) {
  if (text == "-1") return -1;
  char* end = nullptr;
  const double number = strtod(text.c_str(), &end);
  if (text.empty() || text.find_first_of("0123456789") != 0) return std::nullopt;
  std::string unit;
  for (; *end != '\0'; ++end) unit += static_cast<char>(tolower(*end));
  if (!unit.empty() && unit.front() == ' ') unit.erase(0, 1);
  constexpr const char* kUnits = "bkmgtp";
  double scale = 1;
  if (!unit.empty()) {
    const char* at = strchr(kUnits, unit[0]);
    const std::string rest = unit.substr(1);
    const bool bare = rest.empty() || (unit[0] != 'b' && (rest == "b" || rest == "ib"));
    if (at == nullptr || !bare) return std::nullopt;
    for (; at != kUnits; --at) scale *= 1024;
  }
  constexpr double kMost = 9e18;
  // Not below kMost is also what is not a number.
  if (!(number * scale < kMost)) return std::nullopt;
  return static_cast<int64_t>(number * scale);
}

void AddSize(App* c, const std::string& name, std::optional<int64_t>& out) {
  c->add_option_function<std::string>(
      name,
      [name, &out](const std::string& text) {
        out = ParseSize(text);
        if (!out) throw CLI::ValidationError("invalid value for " + name.substr(2) + ": invalid size: '" + text + "'");
      },
      "Bytes, with a unit perhaps (300m); -1 for no limit");
}

void AddRefused(App* c, const std::string& name, const char* why) {
  c->add_option_function<std::string>(
      name, [name, why](const std::string&) { throw CLI::ValidationError(name + ": " + why); }, "Refused");
}

void AddUpdate(App& app, Args& a) {
  App* c = AddCommand(app, "update", "Change limits", a, "container-id", 1, 1);
  c->add_option("-r,--resources", a.resources_file, "File with linux.resources, - for stdin");
  c->add_option("--blkio-weight", a.blkio_weight);
  c->add_option("--cpu-period", a.cpu_period);
  c->add_option("--cpu-quota", a.cpu_quota);
  c->add_option("--cpu-burst", a.cpu_burst);
  c->add_option("--cpu-share", a.cpu_shares);
  c->add_option("--cpu-rt-period", a.cpu_rt_period);
  c->add_option("--cpu-rt-runtime", a.cpu_rt_runtime);
  c->add_option("--cpu-idle", a.cpu_idle);
  c->add_option("--cpuset-cpus", a.cpuset_cpus);
  c->add_option("--cpuset-mems", a.cpuset_mems);
  AddSize(c, "--memory", a.memory);
  AddSize(c, "--memory-reservation", a.memory_reservation);
  AddSize(c, "--memory-swap", a.memory_swap);
  c->add_option("--pids-limit", a.pids_limit);
  for (const char* name : {"--l3-cache-schema", "--mem-bw-schema"}) {
    AddRefused(c, name, "Intel RDT is not supported");
  }
}

// runc's flags are taken, whatever they say: the commands fail.
void AddCheckpoint(App& app, Args& a) {
  for (const char* name : {"checkpoint", "restore"}) {
    App* c = app.add_subcommand(name, "Not supported yet");
    c->allow_extras();
    c->add_option("container-id", a.positional);
  }
}

bool IsOption(const std::string& arg) { return arg.size() > 1 && arg[0] == '-'; }

// Where the command is in `arguments`: the first word that is neither a global option nor the value
// of one.
size_t CommandIndex(const std::vector<std::string>& arguments) {
  static const auto* flags = new std::set<std::string>{"--debug",
                                                       "--systemd-cgroup",
                                                       "--strace",
                                                       "--ignore-cgroups",
                                                       "--fsgofer-host-uds",
                                                       "-v",
                                                       "--version",
                                                       "-h",
                                                       "--help",
                                                       "-debug",
                                                       "-systemd-cgroup",
                                                       "-version"};
  static const auto* commands = new std::set<std::string>{
      "create",  "start", "run",    "exec",   "kill",     "delete", "state",
      "ps",      "list",  "wait",   "spec",   "features", "do",     "debug",
      "version", "pause", "resume", "update", "events", "metrics"};
  static const auto* ignored =
      new std::set<std::string>(std::begin(kIgnoredGlobals), std::end(kIgnoredGlobals));
  size_t i = 0;
  while (i < arguments.size() && IsOption(arguments[i])) {
    const std::string& arg = arguments[i++];
    if (arg.find('=') != std::string::npos || flags->contains(arg)) continue;
    // These may stand alone.
    const bool optional = arg == "--rootless" || ignored->contains(arg);
    if (optional && i < arguments.size() && commands->contains(arguments[i])) continue;
    ++i;
  }
  return std::min(i, arguments.size());
}

// Go programs' flags have one dash as well as two, and "=" after one letter too: "-root=/x" is
// "--root=/x" and "-f=json" is "-f json". What comes after a bare word that follows the command may
// be the guest's and is left alone.
std::vector<std::string> Normalize(int argc, char** argv) {
  static const auto* single = new std::set<std::string>{
      "-root", "-log", "-log-format", "-debug", "-systemd-cgroup", "-version"};
  std::vector<std::string> in;
  for (int i = 1; i < argc; ++i) in.emplace_back(argv[i]);
  const size_t command = CommandIndex(in);
  for (size_t i = 0; i < command; ++i) {
    if (single->contains(in[i].substr(0, in[i].find('=')))) in[i] = "-" + in[i];
  }
  std::vector<std::string> out;
  bool guests = false;
  for (size_t i = 0; i < in.size(); ++i) {
    std::string& arg = in[i];
    guests |= i > command && !IsOption(arg) && !IsOption(in[i - 1]);
    if (!guests && arg.size() > 2 && arg[0] == '-' && arg[1] != '-' && arg[2] == '=') {
      out.push_back(arg.substr(0, 2));
      arg.erase(0, 3);
    }
    out.push_back(std::move(arg));
  }
  return out;
}

// Cuts off what is not ours to parse, and may look like our options and commands: for exec, do and
// ps all from their first bare word on, the container's id or the program.
std::vector<std::string> TakeGuestArguments(std::vector<std::string>& arguments) {
  static const auto* flags = new std::set<std::string>{"-t",
                                                       "--tty",
                                                       "-d",
                                                       "--detach",
                                                       "-td",
                                                       "-dt",
                                                       "--no-new-privs",
                                                       "--ignore-paused",
                                                       "--no-subreaper",
                                                       "--quiet",
                                                       "-h",
                                                       "--help"};
  size_t at = CommandIndex(arguments);
  if (at == arguments.size()) return {};
  const std::string& command = arguments[at];
  if (command != "exec" && command != "do" && command != "ps") return {};
  for (++at; at < arguments.size(); ++at) {
    const std::string& arg = arguments[at];
    if (!IsOption(arg)) break;
    if (arg == "--") {
      arguments.erase(arguments.begin() + static_cast<ptrdiff_t>(at));
      break;
    }
    if (!flags->contains(arg) && arg.find('=') == std::string::npos) ++at;  // And its value.
  }
  if (at >= arguments.size()) return {};
  auto begin = arguments.begin() + static_cast<ptrdiff_t>(at);
  std::vector<std::string> out(begin, arguments.end());
  arguments.erase(begin, arguments.end());
  return out;
}

// With where to read on.
std::string UsageError(const App& app, const std::string& what) {
  const std::vector<const App*> commands =
      app.get_subcommands([](const App* c) { return c->parsed(); });
  const std::string command = commands.empty() ? "" : " " + commands.front()->get_name();
  return what + " (see runsc" + command + " --help)";
}

std::string DefaultRoot() {
  const char* runtime_dir = getenv("XDG_RUNTIME_DIR");
  if (geteuid() != 0 && runtime_dir != nullptr && runtime_dir[0] == '/') {
    return std::string(runtime_dir) + "/caisson";
  }
  return "/run/caisson";
}

}  // namespace

std::optional<int> ParseArgs(int argc, char** argv, Args& out, std::string& error) {
  try {
    App app{"An OCI runtime whose containers run on a kernel of their own, in user space.",
            "runsc"};
    std::string log_format = "text";
    std::string overlay = "none";
    std::string rootless = "auto";
    std::string host_uds = "none";
    // Of an option that is given twice, by an engine and its user, the last counts, as for runc.
    app.option_defaults()->take_last();
    bool unused = false;
    bool version = false;
    AddGlobals(app, out, log_format, overlay, rootless, host_uds);
    app.add_flag("-v,--version", version, "Print the version");
    AddLifecycle(app, out, unused);
    AddExec(app, out, unused);
    AddInformation(app, out, unused);
    AddUpdate(app, out);
    AddCheckpoint(app, out);
    app.require_subcommand(0, 1);
    std::vector<std::string> arguments = Normalize(argc, argv);
    out.positional = TakeGuestArguments(arguments);
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    try {
      app.parse(reversed);
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() == 0) return app.exit(e);
      error = UsageError(app, e.what());
      return 1;
    }
    if (version) {
      std::cout << VersionText();
      return 0;
    }
    if (app.get_subcommands().empty()) {
      std::cout << app.help();
      return 0;
    }
    App* command = app.get_subcommands().front();
    out.command = command->get_name();
    if ((out.command == "exec" || out.command == "ps") && out.positional.empty()) {
      error = UsageError(app, "\"" + out.command + "\" requires a minimum of 1 argument(s)");
      return 1;
    }
    out.log_json = log_format == "json";
    out.options.json_log = out.log_json;
    out.options.rootless =
        IsTrue(rootless) || (rootless.empty()) || (rootless == "auto" && geteuid() != 0);
    out.options.host_uds |= host_uds == "open";
    out.options.overlay = overlay == "none"          ? oci::Overlay::kNone
                          : overlay == "root:memory" ? oci::Overlay::kRoot
                                                     : oci::Overlay::kAll;
    if (out.options.root.empty()) out.options.root = DefaultRoot();
    return std::nullopt;
  } catch (const std::exception& e) {
    error = e.what();
    return 1;
  }
}

std::string FindGlobal(int argc, char** argv, const std::string& name) {
  std::vector<std::string> arguments = Normalize(argc, argv);
  const size_t command = CommandIndex(arguments);
  std::string out;  // Of two the last counts.
  for (size_t i = 0; i < command; ++i) {
    const std::string& arg = arguments[i];
    if (arg == name) out = i + 1 < arguments.size() ? arguments[i + 1] : "";
    if (arg.rfind(name + "=", 0) == 0) out = arg.substr(name.size() + 1);
  }
  return out;
}

std::optional<int64_t> ParseDuration(const std::string& text) {
  double total_ms = 0;
  size_t at = 0;
  while (at < text.size()) {
    char* end = nullptr;
    double value = strtod(text.c_str() + at, &end);
    size_t next = static_cast<size_t>(end - text.c_str());
    if (next == at || value < 0 || value > 1e9) return std::nullopt;
    size_t unit_end = text.find_first_of("0123456789.", next);
    std::string unit =
        text.substr(next, unit_end == std::string::npos ? unit_end : unit_end - next);
    double scale = unit == "h"    ? 3.6e6
                   : unit == "m"  ? 6e4
                   : unit == "s"  ? 1e3
                   : unit == "ms" ? 1
                                  : 0;
    if (scale == 0) return std::nullopt;
    total_ms += value * scale;
    at = unit_end == std::string::npos ? text.size() : unit_end;
  }
  if (text.empty()) return std::nullopt;
  return static_cast<int64_t>(total_ms);
}

}  // namespace caisson::cmd
