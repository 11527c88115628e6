#!/usr/bin/env python3
"""Podman with runsc as its runtime, in namespaces and storage of its own: nothing of the machine's is touched.

No registry is used: the image is `podman import` of a busybox root. CAISSON_RUNTIME=runc tests the test.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import lib
from lib import equal, steady, true, until

IMAGE = "caisson-test"
PREFIX = "caisson-podman-"
workspace = lib.Workspace(PREFIX)
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


class Engine:
    """Namespaces in which each `podman` runs, from start() to stop()."""

    def __init__(self):
        self.parent = PREFIX + str(os.getpid())
        self.holder = self.inside = None

    def start(self):
        """Returns None, or why it is not possible."""
        for program in ("podman", "conmon", "unshare", "nsenter", "setpriv"):
            if shutil.which(program) is None:
                return f"no {program}"
        lib.remove_abandoned_cgroups(PREFIX)
        ready = os.path.join(workspace.directory, "ready")
        # Its shell is the namespace's init, and reaps what engines leave to it while it waits for `sleep`.
        script = (f"mount -t tmpfs tmpfs /run && ip link set lo up && touch {ready} && "
                  "while :; do sleep 1000; done")
        self.holder = subprocess.Popen(
            # However we end, all of it ends.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--net", "--pid",
             "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
            stdin=subprocess.DEVNULL, start_new_session=True)
        until(lambda: os.path.exists(ready) or self.holder.poll() is not None, "the namespaces are not made")
        if self.holder.poll() is not None:
            return "no namespaces for it"
        with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children") as file:
            self.inside = file.read().split()[0]
        settings = os.path.join(workspace.directory, "containers.conf")
        with open(settings, "w") as file:
            file.write('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n')
        self.environment = dict(os.environ, CONTAINERS_CONF=settings)
        flags = [word for option in lib.RUNTIME_OPTIONS for word in ("--runtime-flag", option.lstrip("-"))]
        self.command = ["nsenter", "-t", self.inside, "-m", "-n", "-p", "--", "podman",
                        "--root", os.path.join(workspace.directory, "storage"),
                        "--runroot", "/run/podman-test", "--storage-driver", "vfs",
                        "--runtime", shutil.which(lib.RUNTIME) or lib.RUNTIME, *flags]
        return self.make_image()

    def make_image(self):
        root = os.path.join(workspace.directory, "busybox")
        subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
        archive = os.path.join(workspace.directory, "busybox.tar")
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        result = self("import", "--change", "ENV IMAGE_VARIABLE=set", "--change", 'CMD ["/bin/sh"]', archive, IMAGE)
        return None if result.status == 0 else "podman import: " + result.err[-300:]

    def __call__(self, *args, stdin=b"", timeout=60):
        return lib.collect([*self.command, *args], stdin, timeout, env=self.environment)

    def stop(self):
        if self.inside is not None:
            self("rm", "-af", "-t", "0")
        if self.holder is not None:
            os.killpg(self.holder.pid, signal.SIGKILL)
            self.holder.wait()
        lib.remove_cgroups(self.parent)


podman = Engine()


def options():
    return ["--network=none", "--cgroup-parent", "/" + podman.parent]


def run(*args, stdin=b"", timeout=60):
    """podman run --rm of the image; `args` are options, then "--", then the command."""
    at = args.index("--")
    return podman("run", "--rm", *options(), *args[:at], IMAGE, *args[at + 1:], stdin=stdin, timeout=timeout)


def sh(script, *args, status=0, **more):
    """The standard output of a shell script in a new container."""
    result = run(*args, "--", "/bin/sh", "-c", script, **more)
    equal(result.status, status, f"status ({result})")
    return result.out


class Detached:
    """A container in the background; `with` removes it."""

    def __init__(self, *args, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        # Podman's client reads to the end of what conmon holds open: not ours.
        result = podman("run", "-d", *options(), *args, IMAGE, "/bin/sh", "-c", script)
        equal(result.status, 0, result.err)
        self.name = result.out.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        result = podman("rm", "-f", "-t", "0", self.name)
        equal(result.status, 0, result.err)

    def __call__(self, command, *args, **more):
        result = podman(command, *args, **more)
        equal(result.status, 0, f"podman {command}: {result}")
        return result.out


@case
def exit_status_and_streams():
    for status in (0, 1, 42):
        sh(f"exit {status}", status=status)
    result = run("--", "/bin/sh", "-c", "echo out; echo err >&2; echo more")
    equal((result.out, result.err), ("out\nmore\n", "err\n"), "output")
    equal(sh("cat; echo end", "-i", stdin=b"first\nsecond\n"), "first\nsecond\nend\n", "-i")


@case
def status_of_a_missing_program():
    equal(run("--", "/no/such").status, 127, "no such file")
    equal(run("--", "nothing").status, 127, "not in $PATH")
    equal(run("--", "/etc/passwd").status, 126, "not executable")


@case
def terminal():
    result = run("-t", "--", "/bin/sh", "-c", "tty; test -t 0 && test -t 1 && echo all; exit 2")
    equal(result.status, 2, str(result))
    true(re.match(r"/dev/(pts/0|console)\r\nall\r\n", result.out), str(result))


@case
def options_of_run():
    equal(sh("pwd; echo $A-$IMAGE_VARIABLE; hostname; id -u; id -g", "-w", "/etc", "-e", "A=b c", "--hostname", "vessel",
             "-u", "12:34"), "/etc\nb c-set\nvessel\n12\n34\n", "-w, -e, --hostname, -u")
    equal(sh("touch /x 2>&1; stat -c %a /t; touch /t/x && echo t", "--read-only", "--tmpfs", "/t:size=4m,mode=1750"),
          "touch: /x: Read-only file system\n1750\nt\n", "--read-only and --tmpfs")
    equal(sh("cat /proc/sys/kernel/msgmax", "--sysctl", "kernel.msgmax=5000"), "5000\n", "--sysctl")
    equal(sh("ulimit -n", "--ulimit", "nofile=100:200"), "100\n", "--ulimit")
    equal(sh("ls -ln /dev/other | cut -d' ' -f1; echo x >/dev/other", "--device", "/dev/zero:/dev/other:rw"),
          "crw-rw-rw-\n", "--device")


@case
def limits():
    result = run("--memory", "64m", "--memory-swap", "64m", "--", "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
    true(result.status in (137, 1), str(result))
    result = run("--pids-limit", "20", "--", "/bin/sh", "-c", "for i in $(seq 60); do sleep 5 & done; echo unreached")
    true("can't fork" in result.err and "unreached" not in result.out, str(result))


@case
def capabilities_and_seccomp():
    equal(sh("chown 1 /tmp 2>&1; grep CapEff /proc/self/status", "--cap-drop", "ALL"),
          "chown: /tmp: Operation not permitted\nCapEff:\t0000000000000000\n", "--cap-drop")
    equal(sh("mkdir /m; mount -t tmpfs x /m && echo mounted", "--cap-add", "SYS_ADMIN"), "mounted\n", "--cap-add")
    profile = os.path.join(workspace.directory, "profile.json")
    with open(profile, "w") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
    equal(sh("grep '^Seccomp:' /proc/self/status; mkdir /x 2>&1", "--security-opt", "seccomp=" + profile, status=1),
          "Seccomp:\t2\nmkdir: can't create directory '/x': Operation not supported\n", "a profile")


@case
def volume():
    folder = os.path.join(workspace.directory, "volume")
    os.makedirs(folder)
    with open(os.path.join(folder, "in"), "w") as file:
        file.write("from the host\n")
    equal(sh("cat /v/in; echo from inside >/v/out", "-v", folder + ":/v"), "from the host\n", "inside")
    with open(os.path.join(folder, "out")) as file:
        equal(file.read(), "from inside\n", "outside")
    sh("touch /v/new", "-v", folder + ":/v:ro", status=1)


@case
def detached_exec_logs_stop_wait():
    with Detached(script="echo started; trap 'echo stopping; exit 3' TERM; while :; do sleep 0.1; done") as container:
        until(lambda: container("logs", container.name) == "started\n", "no logs")
        equal(container("exec", container.name, "/bin/sh", "-c", "echo hi; pwd"), "hi\n/\n", "exec")
        result = podman("exec", "-u", "12", "-w", "/etc", container.name, "/bin/sh", "-c", "id -u; pwd; echo e >&2; exit 11")
        equal((result.status, result.out, result.err), (11, "12\n/etc\n", "e\n"), "exec's options")
        true("/bin/sh -c" in container("exec", container.name, "ps"), "the shell is not in ps")
        equal(container("inspect", "--format", "{{.State.Status}}", container.name), "running\n", "inspect")
        began = time.monotonic()
        container("stop", "-t", "20", container.name)
        true(time.monotonic() - began < 15, "stop waits for its time limit")
        equal(container("wait", container.name), "3\n", "exit status")
        equal(container("logs", container.name), "started\nstopping\n", "logs after the end")
        container("start", container.name)
        container("kill", container.name)
        equal(container("wait", container.name), "137\n", "exit status after kill")


@case
def copying_in_and_out_of_a_running_container():
    """Podman enters the mount namespace of the container's pid and writes below "/"."""
    # So a path that both have: with the host's namespace it would be the host's file.
    name = "/tmp/" + podman.parent
    source = os.path.join(workspace.directory, "copied")
    with open(source, "w") as file:
        file.write("copied in\n")
    with Detached() as container:
        container("cp", source, f"{container.name}:{name}")
        true(not os.path.exists(name), "it is on the host")
        equal(container("exec", container.name, "cat", name), "copied in\n", "inside")
        container("exec", container.name, "/bin/sh", "-c", "echo made inside >/etc/made")
        target = os.path.join(workspace.directory, "from")
        container("cp", container.name + ":/etc/made", target)
        with open(target) as file:
            equal(file.read(), "made inside\n", "copied out")


@case
def pause_and_unpause():
    with Detached(script="i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done") as container:
        until(lambda: len(container("logs", container.name)) > 4, "it does not run")
        container("pause", container.name)
        before = steady(lambda: container("logs", container.name))
        equal(container("inspect", "--format", "{{.State.Status}}", container.name), "paused\n", "inspect")
        container("unpause", container.name)
        until(lambda: len(container("logs", container.name)) > len(before), "it does not go on")


@case
def stats():
    with Detached(script="while :; do :; done") as container:
        time.sleep(1)
        text = container("stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}", container.name).strip()
        memory, pids = text.split("|")
        true(re.match(r"[\d.]+[kMG]?B / ", memory) and not memory.startswith("0B"), f"memory: {text}")
        true(int(pids) >= 1, f"pids: {text}")


@case
def nothing_is_left():
    equal(podman("ps", "-aq").out, "", "containers")
    if lib.OURS:
        left = [path for parent in lib.cgroups_named(podman.parent) for path, _, _ in os.walk(parent)
                if re.search(r"/libpod-[0-9a-f]{64}", path)]
        equal(left, [], "cgroups")


def main():
    problem = podman.start() if os.geteuid() == 0 else "must be root"

    def close():
        podman.stop()
        workspace.close()

    if problem:
        close()
        print(f"skip podman: {problem}")
        print("[ TOTALS ] podman_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        return
    lib.main(cases, close)


if __name__ == "__main__":
    sys.exit(main())
