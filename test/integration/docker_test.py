#!/usr/bin/env python3
"""A real dockerd (Debian's docker.io) with runsc as a runtime, in namespaces and a data root of its own.

No registry is used: the image is `docker import` of a busybox root. CAISSON_RUNTIME=runc tests the test.
"""

import fcntl
import io
import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time

import lib
from lib import equal, true, until

IMAGE = "caisson-test"
PREFIX = "caisson-docker-"
workspace = lib.Workspace(PREFIX)
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


class Engine:
    """dockerd, from start() to stop(). Nothing of it touches a dockerd of the machine."""

    def __init__(self):
        self.directory = workspace.directory
        self.host = "unix://" + os.path.join(self.directory, "docker.sock")
        self.environment = dict(os.environ, DOCKER_HOST=self.host,
                                DOCKER_CONFIG=os.path.join(self.directory, "client"))
        self.parent = PREFIX + str(os.getpid())
        self.process = None

    def start(self):
        """Returns None, or why it is not possible."""
        for program in ("dockerd", "docker", "containerd", "unshare", "setpriv"):
            if shutil.which(program) is None:
                return f"no {program}"
        self.remove_abandoned()
        runtime = {"path": shutil.which(lib.RUNTIME) or lib.RUNTIME, "runtimeArgs": lib.RUNTIME_OPTIONS}
        config = os.path.join(self.directory, "daemon.json")
        with open(config, "w") as file:
            json.dump({"runtimes": {"tested": runtime}}, file)
        for name in ("data", "exec", "client"):
            os.makedirs(os.path.join(self.directory, name))
        self.log = os.path.join(self.directory, "dockerd.log")
        script = ("ip link set lo up; mount -t tmpfs tmpfs /run; exec dockerd --config-file {d}/daemon.json --data-root {d}/data "
                  "--exec-root {d}/exec --pidfile {d}/pid -H {host} --cgroup-parent {parent} "
                  "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --userland-proxy=false "
                  ).format(d=self.directory, host=self.host, parent=self.parent)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                # However we end, all of it ends.
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if os.path.exists(os.path.join(self.directory, "docker.sock")) and \
                    self.docker("version", timeout=20).status == 0:
                return self.make_image()
            time.sleep(0.2)
        with open(self.log, errors="replace") as file:
            problems = [line.strip() for line in file if "level=fatal" in line or "level=error" in line or
                        "failed" in line]
        return "dockerd does not start: " + (problems[-1][-300:] if problems else "no message")

    def make_image(self):
        root = os.path.join(self.directory, "busybox")
        subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
        archive = os.path.join(self.directory, "busybox.tar")
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        result = self.docker("import", "--change", "ENV IMAGE_VARIABLE=set", "--change", 'CMD ["/bin/sh"]', archive,
                             IMAGE)
        return None if result.status == 0 else "docker import: " + result.err

    def docker(self, *args, stdin=b"", timeout=90):
        return in_environment(self.environment, ["docker", *args], stdin, timeout)

    def stop(self):
        if self.process is not None:
            for name in self.docker("ps", "-aq").out.split():
                self.docker("rm", "-f", name, timeout=30)
            # The group's first process is unshare, which is the parent of the namespace's init.
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        remove_cgroups(self.parent)

    @staticmethod
    def remove_abandoned():
        """Cgroups of runs that were killed; their processes and mounts ended with their namespaces."""
        names = {name for _, folders, _ in os.walk("/sys/fs/cgroup") for name in folders
                 if re.fullmatch(PREFIX + r"\d+", name)}
        for name in names:
            if not lib.alive(int(name[len(PREFIX):])):
                remove_cgroups(name)


def remove_cgroups(name):
    for path in lib.cgroups_named(name):
        for at, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(at)
            except OSError:
                pass


def in_environment(environment, command, stdin, timeout):
    saved = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        return lib.collect(command, stdin, timeout)
    finally:
        os.environ.clear()
        os.environ.update(saved)


engine = Engine()


def run(*args, stdin=b"", timeout=90):
    """docker run --rm of the image; `args` are options, then "--", then the command."""
    at = args.index("--")
    return engine.docker("run", "--rm", "--network=none", "--runtime=tested", *args[:at], IMAGE, *args[at + 1:],
                         stdin=stdin, timeout=timeout)


def sh(script, *options, status=0, **more):
    """The standard output of a shell script in a new container."""
    result = run(*options, "--", "/bin/sh", "-c", script, **more)
    equal(result.status, status, f"status ({result})")
    return result.out


class Detached:
    """A container in the background; `with` removes it."""

    def __init__(self, *args, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        result = engine.docker("run", "-d", "--network=none", "--runtime=tested", *args, IMAGE, "/bin/sh", "-c", script)
        equal(result.status, 0, result.err)
        self.name = result.out.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        result = engine.docker("rm", "-f", self.name)
        equal(result.status, 0, result.err)

    def __call__(self, command, *args, **options):
        result = engine.docker(command, *args, **options)
        equal(result.status, 0, f"docker {command}: {result}")
        return result.out


@case
def exit_status():
    for status in (0, 1, 42, 255):
        sh(f"exit {status}", status=status)
    sh("sh -c 'kill -KILL $$'; exit $?", status=137)
    sh("kill -TERM $$; kill -KILL $$; sleep 0.1; exit 6", status=6)  # Its own signals do not end a pid 1.


@case
def status_of_a_missing_program():
    equal(run("--", "/no/such").status, 127, "no such file")
    equal(run("--", "nothing").status, 127, "not in $PATH")
    equal(run("--", "/etc/passwd").status, 126, "not executable")


@case
def separate_stdout_and_stderr():
    result = run("--", "/bin/sh", "-c", "echo out; echo err >&2; echo more")
    equal((result.out, result.err), ("out\nmore\n", "err\n"), "output")


@case
def much_output():
    equal(len(sh("head -c 3000000 /dev/zero | tr '\\0' x")), 3000000, "bytes")


@case
def stdin():
    equal(sh("cat; echo end", "-i", stdin=b"first\nsecond\n"), "first\nsecond\nend\n", "cat")
    equal(sh("cat; echo end", stdin=b"not passed\n"), "end\n", "without -i")
    equal(sh("wc -c", "-i", stdin=b"x" * 1000000).strip(), "1000000", "a megabyte")


@case
def terminal():
    # The docker client wants a terminal of its own: script(1)'s work, by hand.
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    process = subprocess.Popen(
        ["docker", "run", "--rm", "-it", "--network=none", "--runtime=tested", IMAGE, "/bin/sh", "-c",
         "tty; test -t 0 && test -t 1 && test -t 2 && echo all; until stty size 2>&1 | grep '^[1-9]'; do sleep 0.1; done; read x; echo \"<$x>\"; exit 4"],
        stdin=slave, stdout=slave, stderr=slave, env=engine.environment, start_new_session=True)
    os.close(slave)
    seen = ""
    try:
        sent = False
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            seen += data.decode(errors="replace")
            if not sent and "33 99\r\n" in seen:
                os.write(master, b"typed\n")
                sent = True
        true(sent, f"no answer: {seen!r}")
        equal(process.wait(20), 4, f"status; seen {seen!r}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    true("/dev/pts/0" in seen or "/dev/console" in seen, f"no tty in {seen!r}")
    true("all\r\n" in seen and "<typed>\r\n" in seen, seen)


@case
def terminal_without_input():
    result = run("-t", "--", "/bin/sh", "-c", "tty; echo x >&2; exit 2")
    equal(result.status, 2, str(result))
    true(re.match(r"/dev/(pts/0|console)\r\nx\r\n", result.out), str(result))


@case
def volume():
    folder = os.path.join(workspace.directory, "volume")
    os.makedirs(folder)
    with open(os.path.join(folder, "in"), "w") as file:
        file.write("from the host\n")
    out = sh("cat /v/in; echo from inside >/v/out; mkdir /v/d; ln -s out /v/l; chown 12:34 /v/out; ls /v", "-v", folder + ":/v")
    equal(out, "from the host\nd\nin\nl\nout\n", "inside")
    with open(os.path.join(folder, "out")) as file:
        equal(file.read(), "from inside\n", "outside")
    about = os.stat(os.path.join(folder, "out"))
    equal((about.st_uid, about.st_gid), (12, 34), "owner outside")
    equal(sh("echo x >/v/in; echo $?; touch /v/new 2>&1; cat /v/in", "-v", folder + ":/v:ro"),
          "1\ntouch: /v/new: Read-only file system\nfrom the host\n", "read-only")
    equal(sh("cat /etc/file; stat -c %F /etc/file", "-v", os.path.join(folder, "in") + ":/etc/file"),
          "from the host\nregular file\n", "a file")


@case
def volume_changes_are_seen():
    folder = os.path.join(workspace.directory, "changing")
    os.makedirs(folder)
    with Detached("-v", folder + ":/v", script="while ! [ -e /v/go ]; do sleep 0.05; done; cat /v/go; "
                  "while [ -e /v/go ]; do sleep 0.05; done; echo gone") as container:
        time.sleep(0.5)
        with open(os.path.join(folder, "new"), "w") as file:
            file.write("went\n")
        os.rename(os.path.join(folder, "new"), os.path.join(folder, "go"))
        until(lambda: container("logs", container.name) == "went\n", "a new file is not seen", 20)
        os.unlink(os.path.join(folder, "go"))
        until(lambda: container("logs", container.name) == "went\ngone\n", "a removal is not seen", 20)


@case
def named_volume():
    equal(engine.docker("volume", "create", "kept").status, 0, "volume create")
    sh("echo data >/k/f", "-v", "kept:/k")
    equal(sh("cat /k/f", "-v", "kept:/k"), "data\n", "later")


@case
def working_directory():
    equal(sh("pwd", "-w", "/etc"), "/etc\n", "pwd")
    equal(sh("pwd; touch x; ls", "-w", "/made/for/it"), "/made/for/it\nx\n", "a new one")


@case
def environment():
    equal(sh("echo $A-$B-$IMAGE_VARIABLE-$HOSTNAME", "-e", "A=1", "-e", "B=x y", "--hostname", "h"), "1-x y-set-h\n", "variables")


@case
def user():
    equal(sh("id -u; id -g", "-u", "12:34"), "12\n34\n", "by number")
    equal(sh("id -un; touch /etc/x 2>&1; cat /etc/shadow 2>&1; grep -E '^Cap(Eff|Prm)' /proc/self/status", "-u", "daemon"),
          "daemon\ntouch: /etc/x: Permission denied\ncat: can't open '/etc/shadow': No such file or directory\n"
          "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n", "by name")
    true(sh("id -G", "--group-add", "77").split()[-1] == "77" or "77" in sh("id -G", "--group-add", "77").split(), "groups")


@case
def hostname():
    equal(sh("hostname; cat /etc/hostname; true", "--hostname", "vessel").split()[:2], ["vessel", "vessel"], "hostname")


@case
def read_only():
    equal(sh("touch /x 2>&1; mkdir /etc/y 2>&1; touch /dev/shm/z && echo shm", "--read-only"),
          "touch: /x: Read-only file system\nmkdir: can't create directory '/etc/y': Read-only file system\nshm\n", "read-only")


@case
def tmpfs():
    out = sh("mount | grep ' /t ' | cut -d' ' -f1-5; touch /t/x && dd if=/dev/zero of=/t/y bs=1M count=20 2>/dev/null; echo $?; stat -c %s /t/y; stat -c %a /t",
             "--tmpfs", "/t:size=8m,mode=1750", "--read-only")
    equal(out, "tmpfs on /t type tmpfs\n1\n8388608\n1750\n", "tmpfs")


@case
def memory_limit():
    out = sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
             "sh -c 'dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null'; echo $?", "--memory", "64m", "--memory-swap", "64m",
             timeout=60)
    true(out.strip().split("\n")[-1] in ("137", "1"), f"dd of 300 MiB did not fail: {out!r}")
    # The container's only process: it is killed.
    result = run("--memory", "64m", "--memory-swap", "64m", "--", "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
    true(result.status in (137, 1), str(result))


@case
def pids_limit():
    out = run("--pids-limit", "20", "--", "/bin/sh", "-c", "for i in $(seq 60); do sleep 5 & done; echo unreached")
    true("can't fork" in out.err and "unreached" not in out.out, str(out))
    equal(sh("echo fine", "--pids-limit", "20"), "fine\n", "one that stays below")


@case
def capabilities():
    equal(sh("chown 1 /tmp && echo ok; mount -t tmpfs x /mnt 2>&1 | head -1; hostname x 2>&1; true").split("\n")[0], "ok", "default")
    equal(sh("chown 1 /tmp 2>&1; grep CapEff /proc/self/status", "--cap-drop", "ALL"),
          "chown: /tmp: Operation not permitted\nCapEff:\t0000000000000000\n", "none")
    equal(sh("mkdir /m; mount -t tmpfs x /m && echo mounted", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined"),
          "mounted\n", "one more")


@case
def seccomp_profile():
    equal(sh("grep '^Seccomp:' /proc/self/status"), "Seccomp:\t2\n", "default")
    equal(sh("grep '^Seccomp:' /proc/self/status", "--security-opt", "seccomp=unconfined"), "Seccomp:\t0\n", "unconfined")
    profile = os.path.join(workspace.directory, "profile.json")
    with open(profile, "w") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
    equal(sh("mkdir /x 2>&1; touch /y && echo fine", "--security-opt", "seccomp=" + profile),
          "mkdir: can't create directory '/x': Operation not supported\nfine\n", "our own")


@case
def ulimits_and_init_files():
    equal(sh("ulimit -n; ulimit -c", "--ulimit", "nofile=123:456", "--ulimit", "core=0"), "123\n0\n", "ulimit")
    true("nameserver" in sh("cat /etc/resolv.conf; echo nameserver") and "localhost" in sh("cat /etc/hosts"), "files")


@case
def oom_score_adj():
    equal(sh("cat /proc/1/oom_score_adj", "--oom-score-adj", "200"), "200\n", "what /proc shows")


@case
def shm_size():
    equal(sh("df -k /dev/shm | tail -1 | awk '{print $2}'", "--shm-size", "16m"), "16384\n", "shm-size")


@case
def no_network():
    true("eth0" not in sh("cat /proc/net/dev; ls /sys/class/net"), "an interface shows")


@case
def entrypoint_and_image_command():
    result = engine.docker("run", "--rm", "--network=none", "--runtime=tested", "--entrypoint", "/bin/echo", IMAGE, "a", "b")
    equal((result.status, result.out), (0, "a b\n"), "entrypoint")


@case
def detached_exec_logs_stop_rm():
    with Detached(script="echo started; trap 'echo stopping; exit 3' TERM; while :; do sleep 0.1; done") as container:
        until(lambda: container("logs", container.name) == "started\n", "no logs")
        equal(container("exec", container.name, "/bin/sh", "-c", "echo hi; pwd"), "hi\n/\n", "exec")
        result = engine.docker("exec", container.name, "/bin/sh", "-c", "echo e >&2; exit 11")
        equal((result.status, result.err), (11, "e\n"), "exec's status")
        equal(engine.docker("exec", "-i", container.name, "cat", stdin=b"piped").out, "piped", "exec -i")
        equal(container("exec", "-w", "/etc", "-e", "V=w", "-u", "12", container.name, "/bin/sh", "-c", "pwd; echo $V; id -u"),
              "/etc\nw\n12\n", "exec's options")
        true(engine.docker("exec", container.name, "nothing").status in (126, 127), "exec of nothing")
        true("/bin/sh -c" in container("exec", container.name, "ps"), "the shell is not in ps")
        began = time.monotonic()
        container("stop", "-t", "20", container.name)
        true(time.monotonic() - began < 15, "stop waits for its time limit")
        equal(container("wait", container.name), "3\n", "exit status")
        equal(container("logs", container.name), "started\nstopping\n", "logs after the end")
        state = json.loads(container("inspect", container.name))[0]["State"]
        equal((state["Status"], state["ExitCode"]), ("exited", 3), "inspect")


@case
def detached_exec_in_the_background():
    with Detached() as container:
        container("exec", "-d", container.name, "/bin/sh", "-c", "echo done >/tmp/flag; sleep 100")
        until(lambda: engine.docker("exec", container.name, "cat", "/tmp/flag").out == "done\n", "it does not run")
        true("sleep 100" in container("exec", container.name, "ps"), "it is not in ps")


@case
def top():
    with Detached(script="sleep 1000 & exec sleep 2000") as container:
        until(lambda: "2000" in container("exec", container.name, "ps"), "it does not start")
        out = container("top", container.name)
        true(re.search(r"UID +PID +PPID", out.split("\n")[0]), f"no headline: {out}")
        rows = [line.split(None, 7) for line in out.strip().split("\n")[1:]]
        equal(len(rows), 2, f"processes in {out}")
        pids = [int(row[1]) for row in rows]
        true(all(pid > 0 for pid in pids), out)
        true(all("sleep" in row[7] for row in rows), out)
        out = container("top", container.name, "-o", "pid,comm")
        equal([line.split()[1] for line in out.strip().split("\n")[1:]], ["sleep", "sleep"], "top with options of ps")


@case
def stats():
    with Detached(script="while :; do :; done") as container:
        time.sleep(1)
        line = container("stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}", container.name).strip()
        memory, pids, cpu = line.split("|")
        true(re.match(r"[\d.]+[KMG]iB / ", memory) and not memory.startswith("0B"), f"memory: {line}")
        true(int(pids) >= 1, f"pids: {line}")
        true(float(cpu.rstrip("%")) > 5, f"a busy loop uses no CPU: {line}")


@case
def cp_both_ways():
    source = os.path.join(workspace.directory, "copied")
    with open(source, "w") as file:
        file.write("copied in\n")
    with Detached() as container:
        # A name that was missing, a file that was there, and a directory.
        equal(engine.docker("exec", container.name, "cat", "/tmp/in").status, 1, "before")
        container("cp", source, container.name + ":/tmp/in")
        equal(container("exec", container.name, "cat", "/tmp/in"), "copied in\n", "after")
        with open(source, "w") as file:
            file.write("copied in again, and longer\n")
        container("cp", source, container.name + ":/tmp/in")
        equal(container("exec", container.name, "cat", "/tmp/in"), "copied in again, and longer\n", "replaced")
        container("exec", container.name, "/bin/sh", "-c", "mkdir /out; echo made inside >/out/f; ln -s f /out/l; chmod 640 /out/f")
        target = os.path.join(workspace.directory, "from")
        container("cp", container.name + ":/out", target)
        with open(os.path.join(target, "f")) as file:
            equal(file.read(), "made inside\n", "copied out")
        equal((os.readlink(os.path.join(target, "l")), os.stat(os.path.join(target, "f")).st_mode & 0o777), ("f", 0o640), "link and mode")
        archive = engine.docker("cp", container.name + ":/etc/passwd", "-").out.encode(errors="surrogateescape")
        true("passwd" in tarfile.open(fileobj=io.BytesIO(archive)).getnames(), "cp to standard output")


@case
def pause_and_unpause():
    with Detached(script="i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done") as container:
        until(lambda: len(container("logs", container.name)) > 4, "it does not run")
        container("pause", container.name)
        time.sleep(0.3)
        before = container("logs", container.name)
        time.sleep(0.5)
        equal(container("logs", container.name), before, "output while paused")
        container("unpause", container.name)
        until(lambda: len(container("logs", container.name)) > len(before), "it does not go on")


@case
def kill_with_a_signal():
    with Detached(script="trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done") as container:
        until(lambda: "ready" in container("logs", container.name), "it does not run")
        container("kill", "-s", "USR1", container.name)
        until(lambda: "usr1" in container("logs", container.name), "the signal does not arrive")
        container("kill", container.name)
        equal(container("wait", container.name), "137\n", "exit status")


@case
def restart():
    with Detached("-e", "N=1", script="echo run >>/count; wc -l </count; trap 'exit 0' TERM; while :; do sleep 0.05; done") as container:
        until(lambda: container("logs", container.name) == "1\n", "it does not run")
        container("restart", "-t", "10", container.name)
        until(lambda: container("logs", container.name) == "1\n2\n", "its files are not those of before")


@case
def diff_and_commit():
    with Detached(script="echo new >/etc/made; rm /etc/hostname.gone 2>/dev/null; echo x >>/etc/group; sleep 100") as container:
        until(lambda: "A /etc/made" in container("diff", container.name), "diff does not show the new file")
        true("C /etc/group" in container("diff", container.name), "diff does not show the changed file")
        container("commit", container.name, "committed")
        result = engine.docker("run", "--rm", "--network=none", "--runtime=tested", "committed", "cat", "/etc/made")
        equal(result.out, "new\n", "in the new image")


@case
def attach_to_the_output():
    with Detached(script="sleep 0.5; echo late; exit 5") as container:
        result = engine.docker("attach", "--no-stdin", container.name)
        equal((result.status, result.out), (5, "late\n"), "attach")


@case
def several_at_once():
    processes = [subprocess.Popen(["docker", "run", "--rm", "--network=none", "--runtime=tested", IMAGE, "/bin/sh", "-c",
                                   f"echo {i}; exit {i}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=engine.environment) for i in range(6)]
    for i, process in enumerate(processes):
        out, err = process.communicate(timeout=90)
        equal((process.returncode, out.decode()), (i, f"{i}\n"), err.decode())


@case
def containerd_client():
    """containerd without Docker: ctr, on the containerd that dockerd has started."""
    with open(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children") as file:
        inside = file.read().split()[0]
    archive = os.path.join(workspace.directory, "saved.tar")
    equal(engine.docker("save", "-o", archive, IMAGE).status, 0, "docker save")

    def ctr(*args, stdin=b"", status=0):
        result = lib.collect(["nsenter", "-t", inside, "-m", "-p", "-n", "--", "ctr", "-a",
                              os.path.join(workspace.directory, "exec/containerd/containerd.sock"), "-n", "tests", *args], stdin, 60)
        equal(result.status, status, f"ctr {args}: {result}")
        return result

    ctr("images", "import", archive)
    image = ctr("images", "ls", "-q").out.strip()
    runtime = ["--runc-binary", shutil.which(lib.RUNTIME) or lib.RUNTIME, image]
    result = ctr("run", "--rm", "--env", "A=b", "--cwd", "/etc", *runtime, "one", "/bin/sh", "-c", "echo $A; pwd >&2; exit 4", status=4)
    equal((result.out, result.err), ("b\n", "/etc\n"), "output")
    ctr("run", "-d", *runtime, "two", "/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    shows = lambda: next((line.split()[-1] for line in ctr("tasks", "ls").out.split("\n") if line.startswith("two ")), None)
    equal(shows(), "RUNNING", "status")
    equal(ctr("tasks", "exec", "--exec-id", "e", "two", "/bin/sh", "-c", "echo in; exit 9", status=9).out, "in\n", "exec")
    true("pids.current" in ctr("tasks", "metrics", "two").out, "metrics")
    true(len(ctr("tasks", "ps", "two").out.strip().split("\n")) >= 2, "ps")
    ctr("tasks", "pause", "two")
    equal(shows(), "PAUSED", "status")
    ctr("tasks", "resume", "two")
    ctr("tasks", "kill", "two")
    until(lambda: shows() == "STOPPED", "it does not stop")
    ctr("tasks", "rm", "two")
    ctr("containers", "rm", "two")
    ctr("images", "rm", image)


@case
def nothing_is_left():
    equal(engine.docker("ps", "-aq").out, "", "containers")
    if lib.OURS:
        left = [path for parent in lib.cgroups_named(engine.parent) for path, _, _ in os.walk(parent) if path != parent]
        equal(left, [], "cgroups")


def main():
    problem = engine.start() if os.geteuid() == 0 else "must be root"
    if problem:
        engine.stop()
        workspace.close()
        print(f"skip docker: {problem}")
        print("[ TOTALS ] docker_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        return

    def close():
        engine.stop()
        workspace.close()

    lib.main(cases, close)


if __name__ == "__main__":
    sys.exit(main())
