"""What the integration tests share: bundles, runs of a runtime, terminals, and a small case runner.

The sandbox's answer is compared with that of `runc` on the same bundle: the same root, mounts,
capabilities and environment on the host's own kernel. CAISSON_RUNTIME names another runtime to test
(with CAISSON_RUNTIME=runc a test tests itself).
"""

import copy
import difflib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
import uuid

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUNTIME = os.environ.get("CAISSON_RUNTIME", os.path.join(REPOSITORY, "build/release/bin/runsc"))
RUNTIME_OPTIONS = os.environ.get("CAISSON_RUNTIME_OPTIONS", "").split()
REFERENCE = os.environ.get("CAISSON_REFERENCE", "runc")
OURS = "runc" not in os.path.basename(RUNTIME) or "runsc" in os.path.basename(RUNTIME)

CAPABILITIES = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT "
    "MKNOD AUDIT_WRITE SETFCAP").split()]


# Containers inherit it, and tests print it.
if os.geteuid() == 0:
    os.setpriority(os.PRIO_PROCESS, 0, 0)


def spec(**process):
    """A config.json like Docker's, with a tmpfs on /tmp and no network."""
    quiet = ["nosuid", "noexec", "nodev"]
    result = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                    "LC_ALL=C", "TERM=dumb"],
            "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "caisson",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": quiet + ["mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": quiet + ["ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "nodev", "mode=1777"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }
    result["process"].update(process)
    return result


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return f"status {self.status}\nstdout: {self.out!r}\nstderr: {self.err!r}"


class Workspace:
    """A directory with bundles and a state directory; close() leaves nothing of it."""

    def __init__(self, prefix="caisson-it-"):
        remove_abandoned(prefix)
        # The pid is in the name so that a later run can remove what a killed one left.
        self.directory = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-")
        os.chmod(self.directory, 0o755)
        self.state = os.path.join(self.directory, "state")

    def bundle(self, root, config=None):
        """A new bundle around the directory `root`."""
        path = tempfile.mkdtemp(prefix="bundle-", dir=self.directory)
        os.chmod(path, 0o755)
        if config is not None:
            config = copy.deepcopy(config)
            config["root"]["path"] = root
            self.write(path, json.dumps(config, indent=1))
        return path

    @staticmethod
    def write(bundle, text):
        with open(os.path.join(bundle, "config.json"), "w") as file:
            file.write(text)

    def command(self, *args, runtime=None):
        runtime = runtime or RUNTIME
        options = RUNTIME_OPTIONS if runtime == RUNTIME else []
        return [runtime, "--root", os.path.join(self.state, os.path.basename(runtime)), *options, *args]

    def call(self, *args, runtime=None, timeout=60):
        """One short command of the runtime."""
        # A container that it leaves behind keeps its standard output and error: files, which have no end to wait for.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(self.command(*args, runtime=runtime), stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=err, start_new_session=True)
            status = end(process, timeout)
            out.seek(0)
            err.seek(0)
            return Result(status, *(file.read().decode(errors="backslashreplace") for file in (out, err)))

    def run(self, root, config, stdin=b"", timeout=60, runtime=None, name=None, prefix=()):
        """`run` of a container to its end, by the command `prefix` if there is one."""
        bundle = self.bundle(root, config)
        name = name or "it-" + uuid.uuid4().hex[:10]
        try:
            return collect([*prefix, *self.command("run", "--bundle", bundle, name, runtime=runtime)], stdin, timeout)
        finally:
            self.delete(name, runtime)
            shutil.rmtree(bundle)

    def delete(self, name, runtime=None):
        """Makes sure that it is gone; after a `run` it usually is."""
        folder = os.path.join(self.state, os.path.basename(runtime or RUNTIME))
        if os.path.isdir(os.path.join(folder, name)):
            self.call("delete", "--force", name, runtime=runtime)

    def close(self):
        remove_tree(self.directory)


def remove_tree(directory):
    """Removes it with what is mounted below it."""
    for path in reversed(mounts_below(directory)):
        subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL)
    if not mounts_below(directory):
        shutil.rmtree(directory, ignore_errors=True)


def remove_abandoned(prefix):
    """Directories of runs that were killed."""
    for name in os.listdir(tempfile.gettempdir()):
        match = re.fullmatch(re.escape(prefix) + r"(\d+)-\w+", name)
        if match and not alive(int(match[1])):
            remove_tree(os.path.join(tempfile.gettempdir(), name))


def end(process, timeout):
    """Waits for `process`; what takes longer is ended, with its process group. The status, or "timeout"."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        process.wait()
        return "timeout"


def collect(command, stdin, timeout, env=None):
    """Runs `command` to its end, or to the end of `timeout`."""
    # Pipes, as most callers have them; a process that outlives `command` and holds one open is not waited for.
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True, env=env)
    chunks = ([], [])

    def drain(stream, into):
        try:
            while data := os.read(stream.fileno(), 65536):
                into.append(data)
        except OSError:
            pass

    readers = [threading.Thread(target=drain, args=pair, daemon=True)
               for pair in zip((process.stdout, process.stderr), chunks)]
    for reader in readers:
        reader.start()
    status = end(process, timeout)
    for reader in readers:
        reader.join(3)
    if not any(reader.is_alive() for reader in readers):
        process.stdout.close()
        process.stderr.close()
    return Result(status, *(b"".join(parts).decode(errors="backslashreplace") for parts in chunks))


class Terminal:
    """`run` in the foreground on a pty of ours, which is its controlling terminal."""

    def __init__(self, workspace, root, config, runtime=None, size=(24, 80)):
        config = copy.deepcopy(config)
        config["process"]["terminal"] = True
        self.workspace, self.runtime = workspace, runtime
        self.name = "it-" + uuid.uuid4().hex[:10]
        self.bundle = workspace.bundle(root, config)
        self.master, slave = os.openpty()
        self.resize(*size)

        def controlling():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            workspace.command("run", "--bundle", self.bundle, self.name, runtime=runtime),
            stdin=slave, stdout=slave, stderr=slave, preexec_fn=controlling)
        os.close(slave)
        self.seen = ""  # All output.
        self.at = 0  # What expect() has not consumed begins here.

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        os.write(self.master, text.encode())

    def read_some(self, seconds):
        """Whether more can come."""
        if select.select([self.master], [], [], max(0, seconds))[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the slave is closed.
                return False
            # Without carriage returns: reference runtimes double them at times.
            self.seen += data.decode(errors="replace").replace("\r", "")
            return bool(data)
        return True

    def expect(self, pattern, timeout=20):
        """Waits for output that matches; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.compile(pattern).search(self.seen, self.at)
            if match:
                self.at = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self.read_some(left):
                raise AssertionError(f"no {pattern!r} in {self.seen[self.at:]!r} (before: "
                                     f"{self.seen[:self.at][-300:]!r})")

    def press(self, key, pattern, timeout=20):
        """A key that signals the foreground process; again, in case it was not there yet."""
        deadline = time.monotonic() + timeout
        while True:
            self.send(key)
            try:
                return self.expect(pattern, min(1, timeout))
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def finish(self, timeout=20):
        """The exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read_some(0.05)
        if self.process.poll() is None:
            raise AssertionError(f"it does not end; seen: {self.seen!r}")
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.workspace.call("kill", self.name, "KILL", runtime=self.runtime)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.workspace.delete(self.name, self.runtime)
        os.close(self.master)


def mounts_below(path):
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file if line.split()[4].startswith(path + "/")]


def processes_with(text):
    """Pids whose command line, environment aside, names `text`; zombies do not count."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if text.encode() in file.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def cgroups_named(name):
    return [os.path.join(at, folder) for at, folders, _ in os.walk("/sys/fs/cgroup")
            for folder in folders if folder == name]


def remove_cgroups(name):
    for path in cgroups_named(name):
        for at, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(at)
            except OSError:
                pass


def remove_abandoned_cgroups(prefix):
    """Cgroups named after the pids of runs that were killed; their processes and mounts ended with their namespaces."""
    names = {name for _, folders, _ in os.walk("/sys/fs/cgroup") for name in folders
             if re.fullmatch(re.escape(prefix) + r"\d+", name)}
    for name in names:
        if not alive(int(name[len(prefix):])):
            remove_cgroups(name)


def until(predicate, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.02)


def steady(text):
    """What `text()` is once it stays the same for half a second: what was on its way has come by then."""
    seen = [text()]

    def stays():
        time.sleep(0.5)
        seen.append(text())
        return seen[-1] == seen[-2]

    until(stays, "it goes on")
    return seen[-1]


def equal(actual, wanted, what=""):
    if actual != wanted:
        raise AssertionError(f"{what}: {actual!r}, not {wanted!r}")


def true(value, what):
    if not value:
        raise AssertionError(what)


# Cases that are known to fail, with the cause. They are run all the same.
KNOWN_FAILURES = {
}


class Skip(Exception):
    """A case raises it with the reason."""


class Comparison:
    """One script in the sandbox and on the host's kernel, in the same root."""

    def __init__(self, workspace, roots, shell, readonly=False, config=None):
        """`roots`: the sandbox's and the native run's; two equal ones if the scripts write there."""
        self.workspace, self.roots, self.shell, self.readonly = workspace, roots, shell, readonly
        self.config = config

    def both(self, script, stdin=b"", timeout=60, **process):
        """(sandbox's result, native result)."""
        config = copy.deepcopy(self.config or spec())
        config["process"]["args"] = [*self.shell, script]
        config["process"].update(process)
        config["root"]["readonly"] = self.readonly
        results = [None, None]

        def one(index, runtime):
            results[index] = self.workspace.run(self.roots[index], config, stdin, timeout, runtime)

        threads = [threading.Thread(target=one, args=pair) for pair in ((0, RUNTIME), (1, REFERENCE))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if None in results:
            raise AssertionError("a runtime could not be started")
        return results

    def same(self, script, stderr=True, **options):
        """Standard output, standard error and status must be the same."""
        sandbox, native = self.both(script, **options)
        for what in ("out", "err") if stderr else ("out",):
            # A shell names the pid of a job that a signal ended.
            ours, wanted = (re.sub(r"(line \d+:) +\d+ ", r"\1 PID ", getattr(result, what))
                            for result in (sandbox, native))
            if ours != wanted:
                diff = difflib.unified_diff(wanted.split("\n"), ours.split("\n"), "native", "sandbox",
                                            lineterm="")
                raise AssertionError(f"std{what} differs (status {sandbox.status} and {native.status}; "
                                     f"stderr {sandbox.err[-500:]!r}):\n" + "\n".join(list(diff)[:40]))
        if sandbox.status != native.status:
            raise AssertionError(f"status {sandbox.status}, native {native.status}\n{sandbox}")
        return sandbox

    def satisfies(self, script, check, **options):
        """Where the answers may differ: `check` must accept both."""
        sandbox, native = self.both(script, **options)
        for name, result in (("native", native), ("sandbox", sandbox)):
            try:
                check(result)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}\n{result}") from None


def main(cases, close=lambda: None):
    """Runs the cases, (name, function) pairs, whose names contain one of the arguments."""
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        print("\n".join(name for name, _ in cases))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = dict(passed=0, failed=0, skipped=0)
    try:
        for name, function in cases:
            if wanted and not any(text in name for text in wanted):
                continue
            started = time.monotonic()
            try:
                function()
                counts["passed"] += 1
                print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
                if name in KNOWN_FAILURES:
                    print(f"note: {name} passes again: take it out of KNOWN_FAILURES")
            except Skip as reason:
                counts["skipped"] += 1
                print(f"skip {name}: {reason}", flush=True)
            except Exception as error:  # One case must not end the others.
                if name in KNOWN_FAILURES:
                    counts["skipped"] += 1
                    print(f"skip {name}: known failure: {KNOWN_FAILURES[name]}", flush=True)
                    continue
                counts["failed"] += 1
                text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
                print(f"not ok {name} ({time.monotonic() - started:.1f} s)")
                print("  " + text.replace("\n", "\n  "), flush=True)
    finally:
        close()
    print(f"[ TOTALS ] {os.path.basename(sys.argv[0])}: {sum(counts.values())} run, "
          f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["failed"] or not sum(counts.values()) else 0)
