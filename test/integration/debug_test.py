#!/usr/bin/env python3
"""Looking into a running sandbox: runsc debug and runsc metrics."""

import os
import re
import subprocess
import uuid

import lib
from lib import equal, true, until

workspace = lib.Workspace()
root = os.path.join(workspace.directory, "busybox")
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


class Running:
    """A container that makes system calls all the time."""

    def __enter__(self):
        self.name = "it-" + uuid.uuid4().hex[:10]
        bundle = workspace.bundle(root, lib.spec(args=["/bin/sh", "-c", "while true; do cat /proc/self/stat >/dev/null; done"]))
        # The container keeps its streams: pipes would not end with the command.
        equal(subprocess.run(workspace.command("create", "--bundle", bundle, self.name), stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode, 0, "create")
        equal(workspace.call("start", self.name).status, 0, "start")
        return self

    def __exit__(self, *_):
        workspace.delete(self.name)

    def good(self, command, *args):
        result = workspace.call(command, *args, self.name)
        equal(result.status, 0, f"{command}: {result}")
        return result.out


@case
def counters_and_processes():
    with Running() as it:
        until(lambda: "execve\t" in it.good("debug", "--counters"), "execve is counted")
        true(re.search(r"^1\t[RSD]\tsh\t", it.good("debug", "--ps"), re.M), "the shell is listed")


@case
def metrics_are_in_prometheus_format():
    with Running() as it:
        until(lambda: 'caisson_syscalls_total{call="execve"}' in it.good("metrics"), "calls are counted")
        true("_bucket" not in it.good("metrics"), "histograms without being asked")
        it.good("debug", "--histograms=on")
        until(lambda: 'caisson_syscall_duration_seconds_count{call="execve"}' in it.good("metrics"), "histograms")
        it.good("debug", "--histograms=off")
        text = it.good("metrics")
        for line in text.splitlines():
            true(re.fullmatch(r'# (HELP|TYPE) .*|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', line), f"odd line {line!r}")
        # Buckets count up, and the last is the count.
        buckets = re.findall(r'bucket\{call="execve",le="([^"]*)"\} (\d+)', text)
        counts = [int(count) for _, count in buckets]
        equal(counts, sorted(counts), "buckets")
        equal(buckets[-1][0], "+Inf")
        true(f'count{{call="execve"}} {counts[-1]}\n' in text, "count")


@case
def profiles_name_functions_of_the_sentry():
    with Running() as it:
        out = it.good("debug", "--profile=-", "--profile-hz=1000", "--duration=1")
        true("caisson::kernel::Task::Run();" in out, f"no run loop in {out[:500]!r}")
        for line in out.splitlines():
            true(re.fullmatch(r"[^ ]+ \d+", line), f"not folded: {line!r}")
        path = os.path.join(workspace.directory, "profile")
        it.good("debug", "--profile=" + path, "--duration=0.2")
        true(os.path.exists(path), "no file")
        result = workspace.call("debug", "--profile=/nonexistent/x", it.name)
        true(result.status != 0 and "/nonexistent/x" in result.err, str(result))


@case
def unsupported_requests_are_listed():
    with Running() as it:
        result = workspace.call("exec", it.name, "nc", "-w", "1", "127.0.0.1", "80")
        true("Address family not supported" in result.err, f"a request: {result}")
        lines = dict(line.split("\t") for line in it.good("debug", "--unsupported").splitlines())
        equal(lines.get("socket: family AF_INET"), "1", f"in {lines}")


@case
def strace_is_spelled_as_strace_spells():
    """What strace(1) prints of the same calls, addresses aside."""
    log = os.path.join(workspace.directory, "strace")
    script = ("echo abc >/tmp/f; cat /tmp/f /none; trap 'echo got' USR1; kill -USR1 $$; (exit 3); "
              "ln -s x /tmp/l; readlink /tmp/l; cat /tmp/f | wc -c")
    bundle = workspace.bundle(root, lib.spec(args=["/bin/sh", "-c", script]))
    result = lib.collect(workspace.command("--strace", "--debug-log", log, "run", "--bundle", bundle, "it-strace"), b"", 60)
    equal((result.status, result.out), (0, "abc\ngot\nx\n4\n"), str(result))
    with open(log) as file:
        text = file.read()
    for wanted in (
            r'openat\(AT_FDCWD, "/tmp/f", O_WRONLY\|O_CREAT\|O_TRUNC, 0666\) = 3 <', r'open(at)?\((AT_FDCWD, )?"/none", O_RDONLY\) = -1 ENOENT \(No such file or directory\) <',
            r'write\(1, "abc\\n", 4\) = 4 <', r'rt_sigaction\(SIGUSR1, \{sa_handler=0x[0-9a-f]+, sa_mask=~\[', r"sa_flags=SA_RESTORER[|}]",
            r"kill\(1, SIGUSR1\) = 0 <", r"--- SIGUSR1 \{si_code=SI_USER, si_pid=1, si_uid=0\} ---", r"--- SIGCHLD \{si_code=CLD_EXITED, si_pid=\d+, si_uid=0, si_status=3\} ---",
            r"wait4\(-1, \[\{WIFEXITED\(s\) && WEXITSTATUS\(s\) == 3\}\], 0, NULL\) = \d+ <", r"(clone|fork|vfork)\(", r'execve\("[^"]*", \["cat", "/tmp/f", "/none"\], 0x[0-9a-f]+ /\* \d+ vars \*/\) = 0 <',
            r'readlink\("/tmp/l", "x", \d+\) = 1 <', r"pipe2?\(\[3, 4\]", r"mprotect\(0x[0-9a-f]+, \d+, PROT_READ\) = 0 <", r"= \? ERESTART|exit_group\(0\)"):
        true(re.search(wanted, text), f"no {wanted}")


@case
def nothing_asked_is_an_error():
    with Running() as it:
        result = workspace.call("debug", it.name)
        true(result.status != 0 and "--profile" in result.err, str(result))


def main():
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
    lib.main(cases, workspace.close)


if __name__ == "__main__":
    main()
