#!/usr/bin/env python3
"""A busybox root: the shell and its applets, against the same run on the host's own kernel."""

import os
import re
import shutil
import subprocess
import sys

import lib
from lib import true

workspace = lib.Workspace()
roots = [os.path.join(workspace.directory, name) for name in ("busybox", "busybox-native")]
root = roots[0]
cases = []

# Name -> script whose output, errors and status must be the same.
SAME = {
    "exit_status": "exit 7",
    "stdout_and_stderr": "echo out; echo err >&2; printf 'no newline'",
    "status_of_a_signal": "sh -c 'kill -TERM $$'; echo $?; sh -c 'kill -SEGV $$'; echo $?",
    "pipeline": "seq 1 2000 | grep 7 | sort -rn | head -5 | tr 7 x",
    "pipeline_status": "false | true; echo $?; true | false; echo $?",
    "sigpipe": "yes | head -3; yes | (sleep 0; true); echo $?",
    "long_pipeline": "echo x | cat | cat | cat | cat | cat | cat | cat | cat | cat | cat | wc -c",
    "big_pipe": "head -c 3000000 /dev/zero | tr '\\0' a | md5sum",
    "here_document": "x=5; cat <<A\nvalue $x $(echo sub)\nA\ncat <<'B'\n$x\nB",
    "redirections": "cd /tmp; echo a >f; echo b >>f; cat <f; { echo o; echo e >&2; } >g 2>&1; cat g; "
                    "exec 5>h; echo five >&5; exec 5>&-; cat h; echo x >&5; echo $?",
    "loops_and_functions": "f() { for i in $(seq $1); do [ $((i % 2)) = 0 ] && echo $i; done; }; f 10; "
                           "i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo $i",
    "subshells_and_variables": "x=1; (x=2; echo $x); echo $x; export y=3; sh -c 'echo $y $0 $#' a b c",
    "background_and_wait": "sleep 0.1 & wait $!; echo $?; (exit 9) & wait $!; echo $?",
    "trap": "trap 'echo got usr1' USR1; trap 'echo bye' EXIT; kill -USR1 $$; echo after",
    "command_not_found": "nosuchprogram; echo $?; /etc/passwd; echo $?; /nonexistent/x; echo $?",
    "script_with_interpreter": "cd /tmp; printf '#!/bin/sh\\necho script $0 $1\\n' >s; chmod +x s; ./s arg",
    "nested_interpreters": "cd /tmp; printf '#!/bin/sh\\nexec /bin/cat \"$1\"\\n' >a; printf '#!/tmp/a\\nbody\\n' >b; "
                           "chmod +x a b; ./b",
    "ulimit": "ulimit -n; ulimit -n 100; ulimit -n; ulimit -S -c 0; ulimit -c",
    "umask": "cd /tmp; umask 077; touch a; mkdir b; umask 022; touch c; stat -c '%a %n' a b c",
    "environment": "env | sort; echo $PWD; echo $HOME",
    "ls": "cd /etc; ls -la | awk '{print $1,$3,$4,$NF}'; ls -d /bin /etc; ls nothere",
    "find": "find / -xdev -name '*tab*' -o -xdev -type d -maxdepth 1 | sort | grep -v '^/dev\\|^/proc'; "
            "find /etc -type f | sort",
    "mkdir_rm": "cd /tmp; mkdir -p a/b/c; touch a/b/c/d; rmdir a; echo $?; rm -r a; ls -A; mkdir /etc/passwd/x",
    "cp_mv_ln": "cd /tmp; echo 1 >a; cp a b; ln a c; ln -s a d; mv b e; readlink d; cat c d e; stat -c '%h %s %F %n' *",
    "chmod_chown": "cd /tmp; touch a; chmod 4751 a; chown 12:34 a; stat -c '%a %u %g' a; chmod +t .; chmod a=r a; stat -c %a a",
    "touch_dates": "cd /tmp; touch -d '2001-02-03 04:05:06' a; stat -c '%Y %X' a; date -u -r a",
    "sort_uniq_cut": "printf 'b 2\\na 1\\nb 2\\nc 3\\n' | sort | uniq -c; cut -d: -f1,3 /etc/passwd; sort -t: -k3n /etc/passwd",
    "grep": "grep -n root /etc/passwd; grep -c : /etc/passwd; grep -q nothing /etc/passwd; echo $?; grep -r localhost /etc",
    "sed": "sed -n '2,3p' /etc/passwd; echo hello | sed 's/l\\+/L/;y/h/H/'; cd /tmp; cp /etc/group g; sed -i 's/root/tree/' g; cat g",
    "awk": "awk -F: '{n += $3} END {print NR, n}' /etc/passwd; awk 'BEGIN {for (i=0;i<5;i++) printf \"%d \", i*i; print \"\"; "
           "while ((\"echo sub\" | getline x) > 0) print x; exit 3}'",
    "tar": "cd /tmp; mkdir d; echo 1 >d/a; ln -s a d/l; ln d/a d/h; mkfifo d/p; tar cf t.tar d; tar tf t.tar | sort; mkdir o; "
           "tar xf t.tar -C o; ls -l o/d | awk '{print $1,$NF}'; cat o/d/l",
    "gzip": "cd /tmp; head -c 200000 /dev/zero >z; gzip z; gzip -t z.gz; echo $?; gunzip z.gz; wc -c z; cat z | gzip | zcat | md5sum; "
            "echo x | bzip2 | bzcat; echo y | xz -dc; echo $?",
    "dd": "cd /tmp; dd if=/dev/zero of=f bs=1k count=8 2>/dev/null; dd if=f bs=1k skip=2 count=3 2>/dev/null | wc -c; "
          "printf x | dd of=f bs=1 seek=5000 conv=notrunc 2>/dev/null; stat -c %s f; truncate -s 100 f; stat -c %s f",
    "sparse_file": "cd /tmp; dd if=/dev/null of=f bs=1M seek=64 2>/dev/null; stat -c %s f; tail -c 10 f | md5sum",
    "checksums": "md5sum /bin/busybox; sha256sum /etc/passwd; cksum /etc/group; echo abc | sha1sum; echo abc | base64",
    "od_hexdump": "printf 'a\\001\\377z' | od -c; printf abc | hexdump -C; printf '\\0\\n' | xxd",
    "xargs": "seq 10 | xargs -n 3 echo; seq 4 | xargs -I{} echo '<{}>'; find /etc -name passwd -print0 | xargs -0 wc -l",
    "tee_split_paste": "cd /tmp; seq 5 | tee a b | wc -l; split -l 2 a p; ls p*; paste a b | tail -1; cat pac; comm -12 a b | wc -l",
    "expr_test_printf": "expr 3 + 4 '*' 2; [ -f /etc/passwd ] && echo file; [ -d /etc ]; echo $?; test a = b; echo $?; printf '%05d|%-4s|%x\\n' 42 ab 255",
    "diff_patch": "cd /tmp; seq 5 >a; sed s/3/x/ a >b; diff a b; echo $?; diff -u a b | tail -6 >p; cmp a b; echo $?",
    "basename_realpath": "basename /a/b.c .c; dirname /a/b; cd /tmp; mkdir -p x/y; ln -s x/y z; realpath z; readlink -f z/../y; cd z; pwd; pwd -P",
    "id_and_su": "id; id -u; whoami; groups; su nobody -s /bin/sh -c 'id; cat /proc/self/status | grep ^Uid'; su nobody -s /bin/sh -c 'touch /etc/x'; echo $?",
    "permissions_of_nobody": "cd /tmp; mkdir p; chmod 700 p; echo s >p/f; echo t >r; chmod 600 r; su nobody -s /bin/sh -c "
                             "'cat /tmp/p/f; cat /tmp/r; ls /tmp/p; cd /tmp/p; echo x >/tmp/mine; stat -c %U /tmp/mine'",
    "hostname_uname": "hostname; uname -s; uname -m; uname -n; cat /proc/sys/kernel/hostname",
    "nproc": "nproc; grep -c ^processor /proc/cpuinfo",
    "pid_and_ppid": "echo $$ $PPID; sh -c 'echo $PPID'; readlink /proc/self | grep -c .; cat /proc/1/comm",
    "proc_self": "tr '\\0' ' ' </proc/self/cmdline; echo; readlink /proc/self/exe /proc/self/cwd /proc/self/root; ls /proc/self/fd | wc -l; "
                 "grep -E '^(Name|State|PPid|Uid|Gid|NoNewPrivs|CapEff|CapBnd):' /proc/self/status",
    "proc_files": "for f in stat meminfo cpuinfo loadavg uptime version filesystems mounts; do [ -s /proc/$f ] && echo $f || cat /proc/$f >/dev/null && echo; done",
    "mounts": "awk '{print $2,$3}' /proc/mounts | grep -E ' (proc|devpts|sysfs|tmpfs)$' | sort",
    "statfs": "stat -f -c '%T' /proc /sys /dev/pts /tmp; df -P /tmp | awk 'NR==2 {print $6}'",
    "dev": "ls /dev | sort | grep -v -e console -e core; head -c 4 /dev/zero | od -An -c; echo x >/dev/null; echo x >/dev/full; echo $?; "
           "head -c 16 /dev/urandom | wc -c; ls -l /dev/null | awk '{print $1,$5,$6}'; readlink /dev/fd /dev/stdin /dev/ptmx",
    "dev_fd": "echo hello | cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/fd/3 3</etc/hostname",
    "fifo": "cd /tmp; mkfifo p; (echo through the fifo >p) & cat p; wait; (sleep 0.1; echo late) >p & cat <p",
    "mknod": "cd /tmp; mknod n c 1 3; ls -l n | awk '{print $1,$5,$6}'; mknod p p; stat -c %F p",
    "kill_and_ps": "sleep 100 & p=$!; kill -0 $p; echo $?; kill $p; wait $p; echo $?; kill -0 $p 2>/dev/null; echo $?; kill -9 99999; echo $?",
    "signals_ignored": "trap '' TERM; sh -c 'kill -TERM $$; echo survived'; (trap - TERM; sh -c 'kill -TERM $$; echo not'); echo $?",
    "timeout": "timeout 1 true; echo $?; timeout 0.2 sleep 5; echo $?; timeout -s KILL 0.2 sleep 5; echo $?",
    "stdin": "wc -c; read x; echo \"[$x]\"",
    "chroot": "mkdir -p /tmp/r/bin; cp /bin/busybox /tmp/r/bin/; chroot /tmp/r /bin/busybox ls /; chroot /tmp/r /bin/busybox pwd",
    "cpio": "cd /etc; ls | cpio -o -H newc 2>/dev/null | (cd /tmp; cpio -id 2>/dev/null; ls | sort; cmp passwd /etc/passwd; echo $?)",
    "flock": "cd /tmp; flock f sh -c 'flock -n f echo no || echo locked'; flock -n f echo free",
    "sleep_is_not_short": "s=$(date +%s%N); sleep 0.3; e=$(date +%s%N); [ $(( (e - s) / 1000000 )) -ge 300 ] && echo long enough",
    "date": "date -u -d @86400 '+%F %T'; TZ=UTC0 date -d '2020-01-02 03:04:05' +%s",
    "many_files": "cd /tmp; mkdir d; for i in $(seq 600); do : >d/f$i; done; ls d | wc -l; rm d/f1??; ls d | wc -l; rm -r d; ls -A | wc -l",
    "deep_directories": "cd /tmp; for i in $(seq 60); do mkdir d && cd d; done; pwd | wc -c; cd /tmp; find . | wc -l; rm -r d; ls -A",
    "long_arguments": "echo $(seq 20000) | wc -c; x=$(head -c 100000 /dev/zero | tr '\\0' y); sh -c 'echo ${#1}' _ \"$x\"",
    "many_processes": "for i in $(seq 60); do true & done; wait; echo done; for i in $(seq 40); do echo $i & done | sort -n | tail -1",
    "dc_bc": "echo '2 3 + p' | dc; echo '2^100' | bc",
    "symlink_loop": "cd /tmp; ln -s a b; ln -s b a; cat a; echo $?; ls -l a | awk '{print $NF}'; ln -s /nowhere c; cat c; test -L c; echo $?",
    "rename": "cd /tmp; mkdir a b; touch a/x; mv a b/; ls -R b; mv b b/a; echo $?; touch f; mv f b; ls b",
    "unlinked_file_stays_open": "cd /tmp; echo kept >f; exec 4<f; rm f; cat <&4; ls -A",
    "append": "cd /tmp; (echo a >>f) & (echo b >>f) & wait; sort f; exec 3>>f; : >f; echo c >&3; cat f",
    "time_applet": "time -p true 2>&1 | awk '{print $1}'",
    "install_mktemp": "cd /tmp; install -m 640 /etc/passwd p; stat -c %a p; f=$(mktemp); [ -f $f ] && stat -c '%a %s' $f; d=$(mktemp -d); stat -c %a $d",
    "root_is_writable": "echo new >/etc/new-$$; cat /etc/new-$$; rm /etc/new-$$; ls /etc/new-$$",
    "file_in_the_root": "mkdir /home/d-$$; cd /home/d-$$; echo 1 >a; ln a b; ln -s a c; mv a e; cat b e; cat c; chmod 600 b; stat -c '%a %h %s' b; "
                        "truncate -s 5000 b; stat -c %s e; cd /; rm -r /home/d-$$; ls /home",
    "stty_without_terminal": "stty -a; tty; echo $?",
    "setsid_nice": "setsid echo session; nice -n 5 sh -c 'nice'; nohup echo hup 2>/dev/null",
    "uudecode": "echo text | uuencode -m name | uudecode -o /dev/stdout",
    "vi_is_there": "command -v vi; busybox | head -1 | cut -d' ' -f1",
    "strings_on_binary": "strings /bin/busybox | grep -c applet; which sh",
}
# ash tells of an ended job at a moment of its choice.
WITHOUT_STDERR = {"kill_and_ps"}
STDIN = {"stdin": b"one two\nthree\n"}


def add_same(name, script):
    cases.append((name, lambda: comparison.same(script, name not in WITHOUT_STDERR, stdin=STDIN.get(name, b""))))


def case(function):
    cases.append((function.__name__, function))
    return function


for pair in SAME.items():
    add_same(*pair)


@case
def ps():
    def check(result):
        lines = result.out.strip().split("\n")
        true(lines[0].split()[:2] == ["PID", "USER"], "no headline")
        true(any(re.match(r"\s*1\s+root\s.*sh -c", line) for line in lines), "the shell is not pid 1")
        true(any("sleep 100" in line for line in lines), "the child is not listed")
        true(3 <= len(lines) <= 8, "it lists what is not in the sandbox")
    comparison.satisfies("sleep 100 & sleep 0.1; ps; kill $!", check)


@case
def top():
    def check(result):
        true(result.status == 0, "it fails")
        true(re.search(r"^Mem: \d+K used, \d+K free", result.out, re.M), "no memory line")
        true(re.search(r"^CPU: .*% idle", result.out, re.M), "no CPU line")
        true(re.search(r"^ +1 .*sh -c", result.out, re.M), "pid 1 is not listed")
    comparison.satisfies("top -b -n1; true", check)


@case
def free():
    def check(result):
        match = re.search(r"^Mem: +(\d+) +(\d+) +(\d+)", result.out, re.M)
        true(match, "no numbers")
        total, used, unused = map(int, match.groups())
        true(0 < used < total and 0 <= unused <= total, "the numbers are not possible")
    comparison.satisfies("free", check)


@case
def mount():
    def check(result):
        for line in (r"^\S+ on / type ", r"^proc on /proc type proc \(.*nosuid", r"^devpts on /dev/pts type devpts",
                     r"^tmpfs on /tmp type tmpfs", r"^sysfs on /sys type sysfs \(ro"):
            true(re.search(line, result.out, re.M), f"no {line}")
    comparison.satisfies("mount", check)


@case
def df():
    def check(result):
        true(re.search(r"^\S+ +\d+ +\d+ +\d+ +\d+% /tmp$", result.out, re.M), "no /tmp")
        true(re.search(r"^\S+ +\d+ +\d+ +\d+ +\d+% /$", result.out, re.M), "no /")
    comparison.satisfies("df", check)


@case
def uptime():
    comparison.satisfies("uptime; cat /proc/uptime", lambda result: true(
        re.search(r"up .*load average: [\d.]+, [\d.]+, [\d.]+\n[\d.]+ [\d.]+$", result.out.strip()),
        "not an uptime"))


@case
def entropy_differs():
    comparison.satisfies("a=$(head -c 16 /dev/urandom | md5sum); b=$(head -c 16 /dev/random | md5sum); "
                         "[ \"$a\" != \"$b\" ] && cat /proc/sys/kernel/random/uuid",
                         lambda result: true(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n",
                                                          result.out), "not a uuid"))


@case
def dmesg_is_the_sandboxes_own():
    if not lib.OURS:
        raise lib.Skip("only the sandbox has a log of its own")
    result = comparison.both("dmesg; uname -a")[0]
    true("Caisson" in result.out, str(result))


@case
def host_is_not_visible():
    """Nothing of the host's processes, names or kernel shows."""
    if not lib.OURS:
        raise lib.Skip("runc shows the host's kernel")
    result = comparison.both("cat /proc/version /proc/cmdline; ls -d /proc/[0-9]* | wc -l; cat /proc/mounts")[0]
    with open("/proc/sys/kernel/osrelease") as file:
        true(file.read().strip() not in result.out, "the host's release shows")
    true(workspace.directory not in result.out, "a host path shows")


@case
def shell_on_a_terminal():
    terminal = lib.Terminal(workspace, root, lib.spec(
        args=["/bin/sh"], env=["PATH=/bin", "PS1=ready> ", "HOME=/root", "TERM=dumb"]))
    try:
        terminal.expect("ready> ")
        terminal.press("tty; stty size; echo $((6*7))\n", r"/dev/(pts/0|console)\n24 80\n42\n")
        terminal.expect("ready> ")
        terminal.resize(40, 100)
        terminal.press("stty size\n", "40 100")
        terminal.send("sh -c 'echo go; cat'\n")
        terminal.expect("\ngo\n")  # Leaving its line editor, the shell throws away what was typed ahead.
        terminal.send("line\n")
        terminal.expect("line\nline\n")
        terminal.press("\x03", "ready> ")
        terminal.send("sh -c 'echo go; exec sleep 100'\n")
        terminal.expect("\ngo\n")
        terminal.press("\x1a", "Stopped")
        terminal.send("kill %1; fg; echo back\n")
        terminal.expect("back\n")
        terminal.send("exit 5\n")
        lib.equal(terminal.finish(), 5, "exit status")
    finally:
        terminal.close()


@case
def environment_user_and_cwd_of_the_spec():
    comparison.same("pwd; id; echo $A; umask; cat /proc/self/status | grep -E '^(Groups|CapEff|NoNewPrivs)'",
                    cwd="/etc", user={"uid": 12, "gid": 34, "additionalGids": [56, 78], "umask": 63},
                    env=["PATH=/bin", "A=b c"], noNewPrivileges=True)


@case
def rlimits_of_the_spec():
    comparison.same("ulimit -n; ulimit -Hn; ulimit -c; ulimit -s", rlimits=[
        {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 4 << 20, "hard": 8 << 20}])


@case
def no_capabilities():
    comparison.same("chown 5 /tmp; mknod /tmp/n c 1 3; chroot / true; hostname x; grep CapEff /proc/self/status; "
                    "mkdir /tmp/p; chmod 0 /tmp/p; su nobody -s /bin/sh -c true; echo $?",
                    capabilities={"bounding": [], "effective": [], "permitted": []})


@case
def readonly_root():
    config = lib.spec()
    other = lib.Comparison(workspace, roots, ["/bin/sh", "-c"], readonly=True, config=config)
    other.same("echo x >/etc/x; mkdir /home/y; rm /etc/passwd; touch /tmp/fine; ls /tmp; chmod 777 /etc/group")


@case
def masked_and_readonly_paths():
    config = lib.spec()
    config["linux"]["maskedPaths"] = ["/proc/kcore", "/proc/keys", "/sys/firmware", "/etc/group"]
    config["linux"]["readonlyPaths"] = ["/proc/sys", "/home"]
    other = lib.Comparison(workspace, roots, ["/bin/sh", "-c"], config=config)
    other.same("cat /etc/group; echo $?; ls -A /sys/firmware; echo x >/proc/sys/kernel/hostname; touch /home/x; echo $?")


@case
def sysctls():
    config = lib.spec()
    config["linux"]["sysctl"] = {
        "kernel.shmmax": "1048576", "kernel.sem": "250 32000 100 128", "kernel.msgmax": "65536", "fs.mqueue.msg_max": "42",
        "net.core.somaxconn": "77", "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    other = lib.Comparison(workspace, roots, ["/bin/sh", "-c"], config=config)
    other.same("cd /proc/sys; cat kernel/shmmax kernel/sem kernel/msgmax fs/mqueue/msg_max net/core/somaxconn "
               "net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range; ipcs -l | grep -i 'max.*seg\\|semmsl'")


@case
def cgroup_shows_the_limits():
    config = lib.spec(args=["/bin/sh", "-c", "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max /proc/self/cgroup; "
                                             "echo 1 >memory.max; grep -c . cgroup.procs"])
    config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]})
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50},
                                    "cpu": {"quota": 50000, "period": 100000}}
    result = workspace.run(roots[0], config)
    lines = result.out.splitlines() if isinstance(result.out, str) else result.out.decode().splitlines()
    lib.equal(lines[:4], ["67108864", "50", "50000 100000", "0::/"], str(result))
    lib.true("Read-only file system" in str(result), str(result))


@case
def bind_mounts():
    folder = os.path.join(workspace.directory, "bound")
    os.makedirs(folder)
    with open(os.path.join(folder, "file"), "w") as file:
        file.write("from the host\n")
    config = lib.spec()
    config["mounts"] += [
        {"destination": "/mnt/rw", "type": "bind", "source": folder, "options": ["rbind", "rw"]},
        {"destination": "/mnt/ro", "type": "bind", "source": folder, "options": ["rbind", "ro"]},
        {"destination": "/etc/hosts", "type": "bind", "source": os.path.join(folder, "file"),
         "options": ["rbind", "ro"]}]
    other = lib.Comparison(workspace, roots, ["/bin/sh", "-c"], config=config)
    other.same("cat /mnt/rw/file /mnt/ro/file /etc/hosts; touch /mnt/ro/x; echo y >/etc/hosts; ls /mnt/rw/file; "
               "d=$(mktemp -d /mnt/rw/XXXXXX); echo in >$d/f; cat $d/f; rm -r $d; echo $?")


@case
def demonstration():
    """What `make run` prints, and the shell that it gives on a terminal."""
    if not lib.OURS:
        raise lib.Skip("it is ours")
    demo = [os.path.join(lib.REPOSITORY, "tools/demo"), lib.RUNTIME]
    plain = lib.collect(demo, b"echo typed\n", 60)
    true(plain.status == 0 and not plain.err, str(plain))
    for command, pattern in (("uname -a", r"Linux caisson .* x86_64"), ("ls /proc", r"cpuinfo"), ("mount", r"on / type"),
                             ("ps", r"PID +USER"), ("dmesg", r"Linux version"), ("id", r"uid=0\(root\)")):
        true(re.search(f"caisson# {re.escape(command)}\n(?:(?!caisson# )[\\s\\S])*{pattern}", plain.out), f"{command}: {plain.out}")
    true(not re.search(r"^\(status|typed", plain.out, re.M), plain.out)
    # script(1) gives it a terminal.
    environment = [name for name in ("CI",) if name in os.environ]
    shell = lib.collect(["env", *(f"-u{name}" for name in environment), "script", "-qec", " ".join(demo), "/dev/null"],
                        b"echo in-the-$((40 + 2)); tty; exit 3\n", 60)
    true(shell.status == 3 and "in-the-42" in shell.out and "/dev/pts/0" in shell.out, str(shell))


def main():
    tool = os.path.join(lib.REPOSITORY, "tools/make_busybox_root")
    for each in roots:
        subprocess.run([tool, each], check=True)
        os.makedirs(os.path.join(each, "mnt/rw"))
        os.makedirs(os.path.join(each, "mnt/ro"))
    lib.main(cases, workspace.close)


comparison = lib.Comparison(workspace, roots, ["/bin/sh", "-c"])
if __name__ == "__main__":
    if shutil.which(lib.REFERENCE) is None:
        sys.exit("busybox_test.py: no " + lib.REFERENCE)
    main()
