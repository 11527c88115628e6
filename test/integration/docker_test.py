#!/usr/bin/env python3
"""docker run and its options, with a real dockerd (docker_engine.py)."""

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import termios
import time

import lib
from docker_engine import IMAGE, Detached, engine, main, run, sh, workspace
from lib import equal, true, until

cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


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
def device_nodes_on_the_root():
    # Docker's default capabilities have CAP_MKNOD. A sandbox makes no device of the host's, and lives on.
    out = sh("mknod /c c 1 3 2>&1; mknod /b b 7 0 2>&1; mknod /p p && echo fifo; mknod /dev/n c 1 3 && echo x >/dev/n; echo alive")
    true(out.endswith("fifo\nalive\n"), out)
    if lib.OURS:
        equal(out.count("Operation not permitted"), 2, out)


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


if __name__ == "__main__":
    main(cases)
