#!/usr/bin/env python3
"""The command line beside runc's: the same commands and options, the same mistakes, the same shapes of answers.

Each step is run under both runtimes, each with its own state, and must have the same exit status; `text` must be in both
standard errors. Where Caisson differs on purpose stands here with the reason (`differs`).
"""

import copy
import json
import os
import re
import subprocess
import sys

import lib
from lib import equal, true

workspace = lib.Workspace()
root = os.path.join(workspace.directory, "rootfs")
ID = "runc-test"
RUNTIMES = (lib.RUNTIME, lib.REFERENCE)
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


def config(edit=lambda c: None, **process):
    out = lib.spec(**process)
    edit(out)
    return out


def make(spec, index):
    """A bundle for one runtime. `spec`: a dictionary, or the text of config.json, or None for no such file."""
    if not isinstance(spec, dict):
        bundle = workspace.bundle(root)
        if spec is not None:
            workspace.write(bundle, spec)
        return bundle
    spec = copy.deepcopy(spec)
    if spec["root"]["path"] == "rootfs":
        spec["root"]["path"] = root
    spec["linux"]["cgroupsPath"] = f"/{os.path.basename(workspace.directory)}-{index}"
    bundle = workspace.bundle(root)
    workspace.write(bundle, json.dumps(spec))
    return bundle


class Pair:
    """A container under both runtimes, of one config.json."""

    def __init__(self, spec):
        self.bundles = [make(spec, index) for index in (0, 1)]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for runtime in RUNTIMES:
            workspace.call("delete", "--force", ID, runtime=runtime)

    def both(self, *args, stdin=None):
        """Our result and runc's. BUNDLE and ID in `args` are replaced."""
        out = []
        for runtime, bundle in zip(RUNTIMES, self.bundles):
            words = [{"BUNDLE": bundle, "ID": ID}.get(arg, arg) for arg in args]
            if stdin is None:
                out.append(workspace.call(*words, runtime=runtime))
            else:
                out.append(lib.collect(workspace.command(*words, runtime=runtime), stdin, 30))
        return out

    def same(self, *args, status=None, text="", out=False, stdin=None):
        results = self.both(*args, stdin=stdin)
        ours, theirs = results
        equal(ours.status, theirs.status, f"status of {args}: {ours}; runc: {theirs}")
        if status is not None:
            equal(ours.status, status, f"status of {args}, {ours}")
        for result in results:
            # A text in runc's log is a quoted one.
            true(text in result.err.replace('\\"', '"'), f"{args}: no {text!r} in {result.err!r}")
        if out:
            equal(ours.out, theirs.out, f"standard output of {args}")
        return results

    def differs(self, *args, status, reason):
        """Caisson's own answer; the case fails too when runc comes to say the same."""
        ours, theirs = self.both(*args)
        equal(ours.status, status, f"status of {args} ({reason}), {ours}")
        true(theirs.status != status, f"{args}: runc says the same now")


def shape(value, at=""):
    """Paths of all members, with their types; of a list the first entry is looked at."""
    if isinstance(value, dict):
        return {path for key, entry in value.items() for path in shape(entry, f"{at}.{key}")}
    if isinstance(value, list):
        return shape(value[0], at + "[]") if value else {at + "[]"}
    return {f"{at}: {type(value).__name__}"}


SLEEP = config(args=["/bin/sleep", "300"])


@case
def every_option_is_known():
    """Each command and option of runc's own help is in ours."""
    commands = re.findall(r"^ {3,5}(\w+) {2,}", subprocess.run([lib.REFERENCE, "--help"], capture_output=True, text=True)
                          .stdout.split("COMMANDS:")[1].split("GLOBAL OPTIONS")[0], re.M)
    commands = [command for command in commands if command not in ("help", "init")]
    true(len(commands) >= 17, f"runc's commands: {commands}")
    missing = []
    for command in ["", *commands]:
        theirs, ours = (subprocess.run([runtime, *command.split(), "--help"], capture_output=True, text=True).stdout
                        for runtime in (lib.REFERENCE, lib.RUNTIME))
        if command in ("checkpoint", "restore"):  # Refused as they are, whatever their options.
            continue
        own = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", ours))
        for line in theirs.split("OPTIONS:")[1].splitlines() if "OPTIONS:" in theirs else []:
            for option in re.findall(r"(?:^ +|, )(--?[a-z][\w-]*)", line.split("  (default")[0][:40]):
                # --criu is among what is accepted and has no effect, which help does not list.
                if option not in own and option not in ("--criu",):
                    missing.append(f"{command} {option}")
    equal(missing, [], "options that runc has")


@case
def mistakes_on_the_command_line():
    with Pair(SLEEP) as pair:
        for command in ("create", "start", "run", "state", "events", "pause", "resume", "update"):
            pair.same(command, status=1, text="requires exactly 1 argument(s)")
            pair.same(command, "a", "b", status=1, text="requires exactly 1 argument(s)")
        for command in ("exec", "kill", "ps"):
            pair.same(command, status=1, text="requires a minimum of 1 argument(s)")
        pair.same("kill", "a", "b", "c", status=1, text="requires a maximum of 2 argument(s)")
        for command in ("create", "run", "exec", "kill", "delete", "state", "list", "ps", "spec", "features", "update"):
            pair.same(command, "--nosuchflag", "x", status=1)
        pair.same("list", "--format", "xml", status=1)
        pair.same("--log-format", "xml", "list", status=1)
        pair.same("--log", "/nonexistent/x", "list", status=1, text="/nonexistent/x")
        pair.same("--root", os.path.join(workspace.directory, "none"), "list", status=0)
        pair.differs("nosuchcommand", status=1, reason="runc's is its library's own, 3")


@case
def a_container_that_is_not_there():
    with Pair(SLEEP) as pair:
        for command in ("start", "state", "kill", "delete", "ps", "events", "pause", "resume"):
            pair.same(command, ID, status=1, text="does not exist")
        pair.same("update", "--memory", "1000000000", ID, status=1, text="does not exist")
        pair.same("exec", ID, "true", status=255, text="does not exist")
        pair.same("delete", "--force", ID, status=0)


@case
def bad_ids_and_bundles():
    with Pair(SLEEP) as pair:
        for name in ("a/b", "..", ".", "", "a b", "\u00e9", "x" * 2000):
            pair.same("create", "--bundle", "BUNDLE", name, status=1, text="create failed")
        pair.same("create", "--bundle", "/nonexistent", ID, status=1, text="/nonexistent: no such file or directory")
    for text in (None, "", "{", "[]", "{}", "nonsense"):
        with Pair(text) as pair:
            pair.same("run", "--bundle", "BUNDLE", ID, status=1, text="run failed")


@case
def bad_configurations():
    def put(section, key, value):
        return lambda c: (c[section] if section else c).update({key: value})

    for edit, text in (
            (put("process", "args", []), "must not be empty"), (put("process", "args", ["/nonexistent"]), 'exec: '),
            (put("process", "args", ["/etc/passwd"]), "permission denied"), (put("process", "args", ["nope"]), "executable file not found in $PATH"),
            (put("process", "cwd", "tmp"), "absolute path"), (put("process", "cwd", ""), "run failed"),
            (put("process", "user", {"uid": -1, "gid": 0}), "process.user.uid"),
            (put("process", "user", {"uid": 0xffffffff, "gid": 0}), "uids and gids must be in range 0-2147483647"),
            (put("process", "user", {"uid": 0, "gid": 0xffffffff}), "uids and gids must be in range 0-2147483647"),
            (put("process", "env", ["NOVALUE"]), "invalid environment variable"),
            (put("process", "rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "RLIMIT_X"),
            (put("process", "rlimits", [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1}]), "rlimit"),
            (put("root", "path", "/nonexistent"), "/nonexistent: no such file or directory"),
            (put(None, "process", None), "process"), (put(None, "hostname", 5), "hostname"),
            (put(None, "mounts", [{"destination": "/tmp", "type": "nosuch", "source": "x"}]), "/tmp"),
            (put(None, "mounts", [{"destination": "/tmp", "type": "bind", "source": "/nonexistent", "options": ["bind"]}]),
             "/nonexistent: no such file or directory")):
        with Pair(config(edit)) as pair:
            pair.same("run", "--bundle", "BUNDLE", ID, status=1, text=text)
    for version in ("0.1", "2.0.0", ""):
        with Pair(config(put(None, "ociVersion", version))) as pair:
            pair.differs("run", "--bundle", "BUNDLE", ID, status=1, reason="a version of another specification is not guessed at")


@case
def unknown_capabilities_are_ignored():
    with Pair(config(capabilities={"bounding": ["CAP_NOPE"]})) as pair:
        pair.same("run", "--bundle", "BUNDLE", ID, status=0, text="CAP_NOPE")


@case
def a_created_container():
    with Pair(SLEEP) as pair:
        pid_file = os.path.join(workspace.directory, "pid")
        pair.same("create", "--bundle", "BUNDLE", "--pid-file", pid_file, ID, status=0)
        with open(pid_file) as file:
            true(file.read().isdigit(), "the pid file is not a number alone")
        for command in ("create", "run"):
            pair.same(command, "--bundle", "BUNDLE", ID, status=1, text="container with given ID already exists")
        pair.same("exec", ID, "sh", "-c", "echo $$ >/dev/null; exit 4", status=4)
        for command in ("pause", "resume"):
            pair.same(command, ID, status=0)
        pair.same("delete", ID, status=0)


@case
def a_running_container():
    with Pair(SLEEP) as pair:
        pair.same("run", "--detach", "--bundle", "BUNDLE", ID, status=0)
        pair.same("start", ID, status=1, text="cannot start an already running container")
        pair.same("delete", ID, status=1, text="that is not stopped: running")
        pair.same("list", "--quiet", status=0, out=True)
        for result in pair.same("list", status=0):
            equal(result.out.split()[:6], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], "titles")
        for words in (("kill", ID, "NOPE"), ("kill", ID, "999"), ("kill", ID, "-9")):
            pair.same(*words, status=1)
        for words in (("kill", ID, "0"), ("kill", ID, "sigwinch"), ("kill", ID, "28"), ("kill", "--all", ID, "WINCH")):
            pair.same(*words, status=0)
        for words in (("pause",), ("exec", "true"), ("resume",), ("resume",)):
            pair.same(words[0], ID, *words[1:])
        pair.same("kill", ID, "KILL", status=0)


@case
def ps():
    with Pair(SLEEP) as pair:
        pair.same("run", "--detach", "--bundle", "BUNDLE", ID, status=0)
        for options in ((), ("-ef",), ("aux",), ("-o", "pid,comm"), ("-eo", "pid,comm")):
            for result in pair.same("ps", ID, *options, status=0):
                lines = result.out.strip().split("\n")
                true(len(lines) == 2 and "PID" in lines[0] and "sleep" in lines[1], f"ps {options}: {result}")
        for result in pair.same("ps", "--format", "json", ID, status=0):
            equal(len(json.loads(result.out)), 1, "processes")
        pair.same("ps", ID, "-o", "comm", status=1, text="couldn't find PID field in ps output")


@case
def exec_options():
    with Pair(SLEEP) as pair:
        pair.same("run", "--detach", "--bundle", "BUNDLE", ID, status=0)
        for options, command in (
                (("--cwd", "/tmp"), ("pwd",)), (("--user", "7:8"), ("id",)), (("--user=5",), ("id",)),
                (("-g", "9", "-g", "10"), ("id",)), (("-e", "A=1", "-e", "B=2"), ("sh", "-c", "echo $A$B")),
                (("--cap", "CAP_SYS_ADMIN"), ("grep", "Cap", "/proc/self/status")),
                (("--no-new-privs",), ("grep", "NoNewPrivs", "/proc/self/status")), ((), ("echo", "--", "x")),
                (("--ignore-paused",), ("echo", "y")), ((), ("sh", "-c", "kill -9 $$")), ((), ("sh", "-c", "exit 7"))):
            pair.same("exec", *options, ID, *command, out=True)
        for options, command, text in (
                ((), ("/nonexistent",), 'exec: "/nonexistent": stat /nonexistent: no such file or directory'),
                ((), ("/etc/passwd",), "permission denied"), ((), ("nope",), "executable file not found in $PATH"),
                ((), (), "args cannot be empty"), (("--process", "/nonexistent"), (), "/nonexistent"),
                (("--cwd", "/nonexistent"), ("pwd",), 'chdir to cwd ("/nonexistent")'),
                (("--cwd", "tmp"), ("pwd",), "absolute path"), (("--user", "abc"), ("id",), "abc"),
                (("-e", "bad"), ("env",), "invalid environment variable"), (("--cgroup", "sub"), ("true",), "cgroup"),
                (("--console-socket", "/nonexistent"), ("true",), "cannot use console socket"),
                (("--console-socket", "/nonexistent", "-d", "-t"), ("true",), "/nonexistent")):
            pair.same("exec", *options, ID, *command, status=255, text=text)
        for option in ("--apparmor", "--process-label"):
            pair.differs("exec", option, "x", ID, "true", status=0, reason="the guest reaches nothing that it would guard")


@case
def update():
    with Pair(SLEEP) as pair:
        pair.same("run", "--detach", "--bundle", "BUNDLE", ID, status=0)
        for options in ((), ("--memory", "200000000"), ("--memory", "200M"), ("--memory-reservation", "0.1g"),
                        ("--memory-swap", "-1"), ("--memory", "-1"), ("--cpu-quota", "50000", "--cpu-period", "100000"),
                        ("--cpu-share", "300"), ("--pids-limit", "50"), ("--pids-limit", "-1"), ("--cpuset-cpus", "0")):
            pair.same("update", *options, ID, status=0)
        for options in (("--memory", "abc"), ("--memory", "1x"), ("--memory", "5"), ("--cpuset-cpus", "999"),
                        ("--l3-cache-schema", "x"), ("--mem-bw-schema", "x"), ("--resources", "/nonexistent")):
            pair.same("update", *options, ID, status=1)
        pair.same("update", "--resources", "-", ID, status=0, stdin=b'{"memory": {"limit": 100000000}}')
        pair.same("update", "--resources", "-", ID, status=1, stdin=b"{")


@case
def shapes_of_answers():
    with Pair(SLEEP) as pair:
        for args, more in ((("state", ID), set()), (("list", "--format", "json"), set()),
                           # What kind of runtime it is, and newer fields of the specification.
                           (("features",), {".annotations.org.opencontainers.runc.commit: str", ".annotations.org.opencontainers.runc.version: str"})):
            if args[0] == "state":
                pair.same("run", "--detach", "--bundle", "BUNDLE", ID, status=0)
            ours, theirs = (shape(json.loads(result.out)) for result in pair.same(*args, status=0))
            equal(theirs - ours, more, f"members of {args} that runc has")
        ours, theirs = (json.loads(result.out) for result in pair.same("events", "--stats", ID, status=0))
        equal(set(theirs) - set(ours), set(), "members of an event")
        equal(set(theirs["data"]) - set(ours["data"]) - {"cpuset"}, set(), "members of statistics")


@case
def spec_template():
    results = []
    for runtime in RUNTIMES:
        bundle = workspace.bundle(root)
        equal(workspace.call("spec", "--bundle", bundle, runtime=runtime).status, 0, "spec")
        equal(workspace.call("spec", "--bundle", bundle, runtime=runtime).status, 1, "spec where there is one")
        with open(os.path.join(bundle, "config.json")) as file:
            results.append(json.load(file))
    for result in results:
        del result["ociVersion"], result["hostname"]
    equal(results[0], results[1], "config.json")


@case
def start_hook_runs_inside():
    def hook(script):
        return lambda c: c.update(hooks={"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]})

    # /tmp is the container's own, and made before the hook runs.
    with Pair(config(hook("echo made by the hook >/tmp/x"), args=["/bin/cat", "/tmp/x"])) as pair:
        results = pair.same("run", "--bundle", "BUNDLE", ID, status=0, out=True)
        equal(results[0].out, "made by the hook\n", "what the program found")
    with Pair(config(hook("exit 3"), args=["/bin/echo", "not reached"])) as pair:
        for result in pair.same("run", "--bundle", "BUNDLE", ID, status=1):
            equal(result.out, "", "standard output after a hook that failed")
        pair.same("create", "--bundle", "BUNDLE", ID, status=0)
        pair.differs("start", ID, status=1, reason="runc's start does not wait for the hooks")
        lib.until(lambda: '"stopped"' in workspace.call("state", ID).out, "the container is not stopped")


@case
def mount_options_show_in_proc_mounts():
    options = (["strictatime"], ["noatime"], ["nodiratime", "strictatime"], ["nosuid", "nodev", "noexec"], ["ro"], ["relatime"],
               ["ro", "rw"], ["size=64k", "mode=700"], [])

    def mounts(c):
        for number, names in enumerate(options):
            c["mounts"].append({"destination": f"/tmp/{number}", "type": "tmpfs", "source": f"s{number}", "options": names})

    with Pair(config(mounts, args=["/bin/sh", "-c", "grep -e ' /tmp/' -e ' /dev ' /proc/mounts"])) as pair:
        ours, _ = pair.same("run", "--bundle", "BUNDLE", ID, status=0, out=True)
        equal(len(ours.out.splitlines()), len(options) + 1, "mounts")


@case
def the_last_of_two_options_counts():
    with Pair(SLEEP) as pair:
        first, second = (os.path.join(workspace.directory, name) for name in ("first", "second"))
        pair.same("--root", first, "--root", second, "list", status=0)
        try:
            equal(workspace.call("--root", first, "--root", second, "create", "--bundle", pair.bundles[0], ID).status, 0, "create")
            equal(workspace.call("--root", second, "delete", ID).status, 0, "delete")
        finally:
            for directory in (first, second):
                workspace.call("--root", directory, "delete", "--force", ID)
        pair.same("list", "--format", "json", "--format", "table", status=0, out=True)


@case
def without_address_randomisation():
    # The host then maps our own executable right below its stack: beside the range that a stub reserves.
    with Pair(config(args=["/bin/echo", "same addresses"])) as pair:
        for index, runtime in enumerate(RUNTIMES):
            command = workspace.command("run", "--bundle", pair.bundles[index], ID, runtime=runtime)
            result = lib.collect(["setarch", "-R", *command], b"", 30)
            equal((result.status, result.out), (0, "same addresses\n"), f"run by {runtime}: {result}")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skip runc_test: must be root")
        print("[ TOTALS ] runc_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
    lib.main(cases, workspace.close)
