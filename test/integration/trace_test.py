#!/usr/bin/env python3
"""strace(1) and gdb(1) inside a container, against the same on the host's kernel."""

import shutil
import sys

import debian_root
import lib

workspace = lib.Workspace()
cases = []

# Addresses, numbers of processes (and the alignment behind them: the threads of the native runtime take pids of the
# container), and what depends on time.
CLEAN = ("sed -E 's/0x[0-9a-f]{4,}/PTR/g; s/([Pp]rocess|pid|LWP) [0-9]+/\\1 N/g; s/si_pid=[0-9]+/N/; "
         "s/(si_[us]time)=[0-9]+( .\\* [0-9.]+ s .\\/)?/\\1=0/g; s/^[0-9]+ +//; s/\\) += /) = /'")

TARGET = r"""
cat >/tmp/t.c <<'C'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
struct pair { int number; const char *text; };
volatile int counter, go;
static int level(int n, struct pair *p) {
  if (n == 0) {
    char *nowhere = 0;
    counter = p->number;
    if (p->number == 7) *nowhere = 1;
    return 1;
  }
  return level(n - 1, p) + 1;
}
static void *worker(void *number) {
  while (!go) usleep(1000);
  return number;
}
static void on_user(int signo) { counter += 100; }
int main(int argc, char **argv) {
  struct pair p = {argc > 1 ? atoi(argv[1]) : 0, "some text"};
  signal(SIGUSR1, on_user);
  if (p.number == 2) {
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, worker, (void *)i);
    usleep(50000);
    level(1, &p);
    go = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  }
  if (p.number == 3) {
    if (fork() == 0) _exit(level(2, &p));
    int status;
    wait(&status);
    printf("child %d\n", WEXITSTATUS(status));
  }
  if (p.number == 4) raise(SIGUSR1);
  if (p.number == 5) {
    close(creat("ready", 0600));
    while (!go) usleep(1000);
  }
  int r = level(3, &p);
  printf("end %d %d\n", r, counter);
  return r;
}
C
cd /tmp && gcc -g -O0 -pthread -o t t.c || exit 99
GDB="gdb -nx -batch -iex 'set debuginfod enabled off' -iex 'set style enabled off' -iex 'set width 0'"
"""


def gdb(number, *commands, clean=CLEAN, prefix=""):
    arguments = " ".join(f"-ex '{command}'" for command in commands)
    return TARGET + f"{prefix} eval $GDB {arguments!r} --args ./t {number} 2>&1 | grep -v libthread_db | {clean}"


STRACE = {
    "files": f"strace -o /tmp/o -e trace=%file,exit_group cat /etc/hostname >/dev/null; echo $?; {CLEAN} /tmp/o",
    "calls": f"strace -o /tmp/o sh -c 'echo x; exit 3' >/dev/null; echo $?; {CLEAN} /tmp/o | sed -E 's/\\(.*\\) += .*//' | uniq",
    "results": "strace -o /tmp/o -e trace=read,write,close,dup2,openat,lseek sh -c 'read x </etc/hostname; echo abc >/tmp/f; cat /none' 2>/dev/null; echo $?; "
               f"{CLEAN} /tmp/o | grep -v ELF",
    "follow": "strace -qq -f -o /tmp/o -e trace=execve,exit_group sh -c 'ls / | cat; (exit 4)' >/dev/null; echo $?; "
              f"{CLEAN} /tmp/o | sed -E 's/( <unfinished|\\) += ).*//; s/ +$//' | grep -v -e resumed -e SIGCHLD | sort",
    "follow_one_file_each": "cd /tmp; strace -qq -ff -o /tmp/o -e trace=clone,fork,vfork,exit_group sh -c 'ls / | sort | tail -1; true & wait' >/dev/null; echo $?; ls o.* | wc -l; "
                            f"cat o.* | grep -o '^[a-z0-9_]*' | sort | uniq -c",
    "threads": TARGET + "strace -qq -f -o /tmp/o -e trace=exit,exit_group ./t 2; echo $?; " + CLEAN + " /tmp/o | grep -o '^exit[a-z_]*' | sort",
    "signals": "strace -o /tmp/o -e trace=kill,rt_sigreturn,pause -e signal=all bash -c 'trap \"echo got\" USR1; kill -USR1 $$; kill -TERM $$'; echo $?; "
               f"{CLEAN} /tmp/o | sed -E 's/(si_pid=|kill\\()[0-9]+/\\1N/'",
    "count": "strace -c -o /tmp/o cat /etc/hostname; awk '$NF ~ /^(openat|read|write|execve|mmap|fadvise64|newfstatat)$/ {print $4, $NF}' /tmp/o | sort",
    "inject": "strace -o /tmp/o -e inject=write:error=ENOSPC -e trace=write cat /etc/hostname; echo $?; cat /tmp/o | head -1; strace -o /tmp/o -e inject=exit_group:signal=KILL true; echo $?",
    "attach": "sleep 4 & until grep -q sleep /proc/$!/comm; do sleep 0.02; done; strace -o /tmp/o -p $! 2>/dev/null; echo $?; tail -2 /tmp/o; wait $!; echo $?",
    "attach_group_stop": "bash -c 'kill -STOP $$; exit 5' & p=$!; until grep -q '^State:.T' /proc/$p/status; do sleep 0.02; done; "
                         "strace -o /tmp/o -e trace=exit_group -p $p 2>/dev/null & until grep -q 'TracerPid:.[1-9]' /proc/$p/status; do sleep 0.02; done; "
                         "sleep 0.2; kill -CONT %1; wait %1; echo $?; wait; "
                         f"{CLEAN} /tmp/o | sed -E 's/si_pid=[0-9]+/N/'",
    "detach_by_signal": "sleep 4 & sleep 0.1; timeout -s INT 0.4 strace -o /tmp/o -p $! 2>/dev/null; grep TracerPid /proc/$!/status; wait $!; echo $?",
    "tracer_killed": "strace -o /tmp/o sleep 50 & until p=$(pgrep -x sleep); do :; done; kill -KILL $!; wait $!; sleep 0.1; grep TracerPid /proc/$p/status; echo ${p:+found}",
    "other_backends": "strace --seccomp-bpf -qq -f -o /tmp/o -e trace=execve,chdir sh -c 'cd /etc; ls >/dev/null'; echo $?; " + CLEAN + " /tmp/o; "
                      "strace -qq -DD -o /tmp/o -e trace=chdir sh -c 'cd /etc'; echo $?",
    "paths_and_fds": "strace -y -o /tmp/o -e trace=read -P /etc/hostname cat /etc/hostname /etc/passwd >/dev/null; echo $?; " + CLEAN + " /tmp/o",
}

GDB = {
    "run_and_end": gdb(1, "run"),
    "crash": gdb(7, "run", "bt", "info registers rip", "p *p", "p counter", "up", "info locals", "kill",
                 clean=CLEAN + " | sed 's/rip .*/rip/'"),
    "breakpoints": gdb(1, "break level if n==0", "run", "bt", "p *p", "next", "next", "p counter", "finish", "info breakpoints", "continue"),
    "steps": gdb(1, "break main", "run", "step", "next", "next", "stepi", "stepi", "x/i $pc", "until", "info source", "kill", clean="grep -c ."),
    "step_over_calls": gdb(0, "break main", "run", "next", "next", "next", "next", "next", "next", "continue"),
    "call_and_change": gdb(1, "break level", "run", "p (int)getpid() > 0", "set var p->number = 41", "p level(0, p)", "delete", "continue"),
    "software_watchpoint": gdb(1, "set can-use-hw-watchpoints 0", "break level if n==0", "run", "watch counter", "continue", "p counter", "delete", "continue"),
    "signals": gdb(4, "handle SIGUSR1 stop print", "run", "p $_siginfo.si_signo", "bt 1", "continue", clean=CLEAN + " | grep -v '^#'"),
    "signal_suppressed": gdb(4, "handle SIGUSR1 nopass stop", "run", "continue"),
    "catch_calls": gdb(0, "catch syscall exit_group", "run", "p $rdi", "p $orig_rax", "continue", clean=CLEAN + " | grep -v _exit"),
    "follow_child": gdb(3, "set follow-fork-mode child", "set detach-on-fork on", "break level if n==0", "run", "bt", "continue", clean=CLEAN + " | grep -v -e Attaching -e Detaching | sort"),
    "catch_fork": gdb(3, "catch fork", "run", "continue", clean="grep -c -e 'Catchpoint 1 (forked' -e 'end 4'"),
    "threads": gdb(2, "break level if n==0", "run", "info threads", "thread apply all bt 1", "continue",
                   clean="grep -c -e 'LWP' -e worker -e 'exited normally'") .replace("-c -e 'LWP'", "-c -e '^Thread'"),
    "attach": TARGET + "./t 5 & until [ -e ready ]; do sleep 0.02; done; eval $GDB -p $! -ex \"'bt -1'\" -ex \"'p p'\" -ex \"'set var go=1'\" -ex detach 2>&1 | grep -A1 -e ' in main' -e number | " + CLEAN + "; wait $!; echo $?",
    "attach_stopped": TARGET + "./t 5 & until [ -e ready ]; do sleep 0.02; done; kill -STOP $!; until grep -q '^State:.T' /proc/$!/status; do sleep 0.02; done; eval $GDB -p $! -ex \"'set var go=1'\" -ex detach >/dev/null 2>&1; kill -CONT $!; wait $!; echo $?",
    "memory": gdb(1, "break level", "run", "x/s p->text", "find p->text, +8, 't'", "p $xmm0.uint128 * 0", "set $rbx = 5", "p $rbx", "info auxv", "generate-core-file /tmp/core", "kill",
                  clean=CLEAN + " | grep -v warning | grep -e '\"' -e '\\$' -e core"),
    "core_read_back": gdb(7, "run", "generate-core-file /tmp/core", "kill", clean="tail -0") + "; eval $GDB -ex bt ./t /tmp/core 2>&1 | " + CLEAN + " | grep '^#'",
}


cached = {}


def root():
    if "root" not in cached:
        cached["root"] = debian_root.debian_root()
    return cached["root"]


def both():
    return lib.Comparison(workspace, [root(), root()], ("/bin/bash", "-c"), readonly=True)


for name, script in STRACE.items():
    cases.append(("strace_" + name, lambda script=script: both().same(script, timeout=60)))
for name, script in GDB.items():
    cases.append(("gdb_" + name, lambda script=script: both().same(script, timeout=60)))


def main():
    if shutil.which(lib.REFERENCE) is None:
        sys.exit("trace_test.py: no " + lib.REFERENCE)
    try:
        root()
    except RuntimeError as problem:
        print(f"skip debian_root: {problem}")
        print("[ TOTALS ] trace_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        return
    lib.main(cases, workspace.close)


if __name__ == "__main__":
    main()
