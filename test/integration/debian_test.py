#!/usr/bin/env python3
"""A Debian root: bash, coreutils, perl, python3, gcc and others against the same run on the host's kernel."""

import re
import shutil
import sys

import debian_root
import lib
from lib import true

workspace = lib.Workspace()
cases = []

BASH = {
    "bash_pipelines": "set -o pipefail; seq 1000 | grep 9 | sort -rn | head -3; echo ${PIPESTATUS[@]}; false | true; echo $?; "
                      "diff <(seq 3) <(seq 4); wc -l < <(seq 10); seq 3 | tee >(cat >/tmp/t) | wc -l; until [ $(cat /tmp/t 2>/dev/null | wc -l) = 3 ]; do sleep 0.02; done; cat /tmp/t",
    "bash_here_documents": "cat <<A; cat <<-'B'; cat <<<\"string $((1+1))\"\n$HOME `echo x`\nA\n\tverb $x\n\tB\n",
    "bash_traps": "trap 'echo exit $?' EXIT; trap 'echo int' INT; trap 'echo err' ERR; kill -INT $$; false; (trap 'echo sub' EXIT; exit 3); "
                  "trap 'echo chld' CHLD; sleep 0.01; trap 'echo usr2; exit 4' USR2; kill -USR2 $$; echo not here",
    "bash_wait_and_jobs": "sleep 0.2 & a=$!; (exit 5) & b=$!; wait $b; echo $?; wait $a; echo $?; wait 12345; echo $?; "
                          "(sleep 0.1; exit 7) & wait -n; echo $?; sleep 5 & kill %1; wait %1; echo $?",
    "bash_arrays_and_expansion": "a=(x 'y z' w); declare -A m=([k]=v [l]=u); echo ${#a[@]} \"${a[1]}\" ${m[k]} ${!m[@]} | tr ' ' '\\n' | sort; "
                                 "s=/usr/lib/x.tar.gz; echo ${s##*/} ${s%.*} ${s/lib/LIB} ${s^^} ${s:4:3}; printf '%q %(%Y)T\\n' 'a b' 0",
    "bash_coprocess": "coproc C { while read l; do echo \"<$l>\"; done; }; echo one >&${C[1]}; read -u ${C[0]} x; echo $x; "
                      "eval \"exec ${C[1]}>&-\"; wait $C_PID; echo $?",
    "bash_read_timeout": "read -t 0.2 x < <(sleep 1; echo late); echo $((($? > 128))); read -n 3 y <<<abcdef; echo $y; mapfile -t l < <(seq 3); echo ${l[2]}",
    "bash_ulimit_and_signals": "(ulimit -t 1; ulimit -t); (ulimit -f 1; head -c 10000 /dev/zero >/tmp/f; echo $?); stat -c %s /tmp/f; "
                               "bash -c 'kill -SEGV $$'; echo $?; bash -c 'ulimit -c 0; kill -ABRT $$'; echo $?; kill -l 9",
    "bash_globs": "cd /usr/share; shopt -s extglob nullglob; echo d*c b*e; echo @(doc|man)?(s); cd /tmp; touch a1 b2 .c; echo * .[a-z]* [!a]*; echo nothing*",
    "bash_redirections": "exec {fd}>/tmp/x; echo a >&$fd; exec {fd}>&-; cat /tmp/x; echo b &>/tmp/y; cat /tmp/y; { echo o; echo e >&2; } 2>&1 >/dev/null; "
                         "cat /nonexistent 2>&1 | head -1; : >/tmp/z; set -C; echo 1 >/tmp/z; echo $?",
    "bash_exec_and_status": "(exec /bin/false); echo $?; (exec /nonexistent); echo $?; (exec /etc/passwd); echo $?; bash -c 'exec -a name sh -c \"echo \\$0\"'",
    "bash_dev_tcp_has_no_network": "(exec 3<>/dev/tcp/127.0.0.1/9) 2>/dev/null; echo $?",
    "bash_fork_storm": "for i in {1..150}; do (exit $((i % 3))) & p[i]=$!; done; n=0; for i in {1..150}; do wait ${p[i]} || n=$((n+1)); done; echo $n",
    "bash_recursion": "f() { (( $1 == 0 )) && { echo bottom; return; }; f $(($1 - 1)); }; f 500; g() { [ $1 = 0 ] || (g $(($1-1))); }; g 30; echo $?",
    "ls": "cd /usr; ls -lA --time-style=+%s | awk '{print $1,$2,$3,$4,$7}'; ls -R /etc | wc -l; ls -i /etc/passwd | awk '{print ($1 > 0)}'; ls /nothing",
    "ls_sizes": "ls -l /usr/bin | awk '{n += $5} END {print n, NR}'; du -s --apparent-size -B1 /usr/lib/gcc | cut -f1",
    "cp_a": "cp -a /etc /tmp/etc; diff -r --no-dereference /etc /tmp/etc && echo same; cd /tmp/etc; find . -printf '%m %U %G %y %T@ %l %p\\n' | sort | md5sum; "
            "cd /etc; find . -printf '%m %U %G %y %T@ %l %p\\n' | sort | md5sum",
    "coreutils_files": "cd /tmp; mkdir -p a/b; touch -d 2001-02-03T04:05:06.789Z a/f; stat -c '%y %a %h %F %s' a/f; stat -c '%a %h %F' a; ln -sr a/f l; readlink l; cp --sparse=always a/f g; "
                       "mv -n g a/f; echo $?; mv -T a c; rm -rf c; ls -A; install -D -m 600 /etc/passwd x/y/z; stat -c %a x x/y/z; rmdir -p x/y; echo $?",
    "coreutils_text": "cd /etc; head -2 passwd; tail -n +18 passwd; cut -d: -f1,7 passwd | sort | uniq -c | sort -rn | head -3; tr a-z A-Z <hostname; nl passwd | tail -1; "
                      "paste -sd+ <(seq 10) | cat; seq 5 | shuf --random-source=/etc/passwd | sort -n | fmt; join <(seq 3) <(seq 2 4); expand <<<$'a\\tb'; fold -w 3 <<<abcdef",
    "coreutils_sums": "cd /usr/bin; sha256sum bash perl | cut -c1-20; b2sum ls | cut -c1-20; cksum cat; md5sum -c <(md5sum ls cat); base64 -w0 /etc/hostname; factor 360",
    "coreutils_misc": "nproc; arch; logname 2>&1; id; groups; who; users; tty; pwd; env -i A=1 env; printenv HOME; nice; nohup true; timeout 0.2 sleep 3; echo $?; "
                      "stdbuf -o0 echo hi; date -u -d @0 +%c; sync; truncate -s 1G /tmp/big; stat -c '%s %b' /tmp/big; mktemp -u | wc -c",
    "tail_follow": "cd /tmp; : >f; : >out; tail -f f >out & for i in 1 2 3; do sleep 0.15; echo line $i; done >>f; until [ $(wc -l <out) = 3 ]; do sleep 0.02; done; "
                   "kill $!; wait $!; echo $?; cat out",
    "dd_and_seek": "cd /tmp; dd if=/dev/zero of=f bs=64k count=40 status=none; dd if=f of=g bs=1000 skip=3 seek=5 status=none; stat -c %s g; cmp -n 100 f g; "
                   "dd if=/dev/urandom bs=1M count=4 status=none | tee h | md5sum | cut -c33-; cmp h h && echo equal; fallocate -l 1M i; fallocate -p -o 4096 -l 8192 i; stat -c %s i",
    "find": "find /etc -maxdepth 1 -type f -name '*.conf' -printf '%f %s %m\\n' | sort; find /usr/include -name 'std*.h' | sort | head; "
            "find /usr/lib -type l | wc -l; find /usr -xdev -type d | wc -l; find /tmp -empty; find / -xdev -perm -4000 -type f | sort; find /usr/bin -newer /etc/passwd | wc -l",
    "find_exec": "cd /tmp; mkdir d; for i in {1..30}; do echo $i >d/$i; done; find d -type f -exec cat {} + | sort -n | tail -1; find d -name '1?' -delete; ls d | wc -l; "
                 "find d -type f -print0 | xargs -0 -P 4 -n 5 cat | wc -l; find d -inum $(stat -c %i d/5)",
    "grep": "grep -rn 'define EINVAL' /usr/include | sort | head -3; grep -c . /etc/passwd; grep -oE '[0-9]+' /etc/group | sort -n | tail -1; grep -P '^r\\w+t' /etc/passwd; "
            "grep -q zzz /etc/passwd; echo $?; grep x /nonexistent; echo $?; zgrep -c . /etc/passwd",
    "sed": "sed -n '/root/,+2p;$=' /etc/passwd; cd /tmp; cp /etc/passwd p; sed -i.bak -E 's/^([a-z]+):x:([0-9]+)/\\2:\\1/' p; head -3 p; ls p*; sed -e '1!G;h;$!d' <(seq 4); sed 'w /tmp/w' <<<x; cat w",
    "awk": "awk -F: '{s += $3; a[$7]++} END {print s; n = asorti(a, k); for (i = 1; i <= n; i++) print k[i], a[k[i]]}' /etc/passwd; "
           "gawk 'BEGIN {print strftime(\"%F\", 0, 1), length(ENVIRON) > 2; \"id -u\" | getline u; print u; print \"sorted\" | \"sort\"; close(\"sort\"); exit system(\"exit 3\")}'",
    "tar": "cd /tmp; tar cf u.tar -C /usr/share doc/bash doc/perl 2>&1; tar tf u.tar | wc -l; mkdir o; tar xpf u.tar -C o; diff -r o/doc/bash /usr/share/doc/bash && echo same; "
           "tar czf e.tgz /etc 2>&1; tar tzf e.tgz | wc -l; tar xzOf e.tgz etc/passwd | head -1; tar cf s.tar --sparse --xattrs /etc/passwd 2>&1; tar df s.tar -C /; echo $?",
    "gzip": "cd /tmp; cp /usr/bin/perl p; gzip -k p; gzip -l p.gz | awk 'NR==2 {print $2}'; gzip -dc p.gz | cmp - p && echo same; gunzip -t p.gz; echo $?; "
            "head -c 5000 p.gz | gzip -dc | wc -c; echo $?",
    "perl": "perl -e 'print \"$^O $0 @ARGV\\n\"; print join(\",\", map {$_*2} 1..5), \"\\n\"; open(F, \"<\", \"/etc/passwd\"); my @l = <F>; print scalar(@l), \"\\n\"; exit 3' a b",
    "perl_fork_and_pipes": "perl -e 'pipe(R, W); if (my $p = fork) {close W; print while <R>; waitpid($p, 0); print $? >> 8, \"\\n\"} else {close R; print W \"child\\n\"; exit 6}'; "
                           "perl -e '$SIG{ALRM} = sub {print \"alarm\\n\"; exit 2}; alarm 1; sleep 10'; echo $?; perl -e 'print `echo sub`; system(\"exit 4\"); print $? >> 8, \"\\n\"'",
    "perl_files": "perl -MFile::Temp=tempfile -MFcntl=:flock -MCwd -e 'my ($f, $n) = tempfile(); flock($f, LOCK_EX) or die; print $f \"x\" x 9; close $f; print -s $n, \" \", (stat $n)[2], \" \", getcwd(), \"\\n\"; "
                  "unlink $n; opendir(D, \"/etc\"); print join(\" \", grep {/^pass/} sort readdir D), \"\\n\"; mkdir \"/tmp/x\" or die; rename \"/tmp/x\", \"/tmp/y\"; print -d \"/tmp/y\", $!+0, \"\\n\"'",
    "perl_sockets": "perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Local => \"/tmp/s\", Listen => 1) or die $!; if (fork) {my $c = $s->accept; print scalar <$c>; wait} "
                    "else {my $c = IO::Socket::UNIX->new(Peer => \"/tmp/s\"); print $c \"hello\\n\"}'",
    "sqlite3": "cd /tmp; sqlite3 t.db 'pragma journal_mode=wal; create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all select i+1 from n where i<2000) "
               "insert into t select i, hex(i) from n; select count(*), sum(length(b)) from t;'; sqlite3 t.db 'begin; delete from t where a % 2; rollback; select count(*) from t; pragma integrity_check;'; ls",
    "sqlite3_concurrent": "cd /tmp; sqlite3 t.db 'create table t(a)'; for i in 1 2 3 4; do (for j in {1..10}; do sqlite3 -cmd '.timeout 20000' t.db \"insert into t values($i)\"; done) & done; wait; sqlite3 t.db 'select count(*) from t'",
    "gcc_hello": "cd /tmp; cat >h.c <<'C'\n#include <stdio.h>\nint main(int argc, char **argv) { printf(\"hello %s %d\\n\", argv[1], argc); return 42; }\nC\n"
                 "gcc -Wall -O2 -o h h.c && ./h world; echo $?; gcc -static -o s h.c && ./s static; echo $?; ls h s; gcc -c h.c && nm h.o | awk '{print $NF}'",
    "gcc_errors": "cd /tmp; echo 'int main() { return x; }' >b.c; gcc b.c; echo $?; gcc nothing.c; echo $?",
    "gcc_libraries": "cd /tmp; echo 'int twice(int x) {return 2*x;}' >l.c; echo '#include <stdio.h>\n#include <dlfcn.h>\nint main() {void *h = dlopen(\"/tmp/libl.so\", RTLD_NOW); "
                     "int (*f)(int) = dlsym(h, \"twice\"); printf(\"%d\\n\", f(21)); return dlclose(h);}' | sed 's/\\\\n/\\n/g' >m.c; gcc -shared -fPIC -o libl.so l.c; gcc -o m m.c -ldl && ./m; ar rc l.a l.c; ar t l.a",
    "gcc_threads": "cd /tmp; printf '#include <pthread.h>\\n#include <stdio.h>\\nstatic pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static long n; static __thread int t;\\n"
                   "static void *f(void *p) {for (int i = 0; i < 20000; i++) {pthread_mutex_lock(&m); n++; t++; pthread_mutex_unlock(&m);} return (void *)(long)t;}\\n"
                   "int main() {pthread_t th[8]; long s = 0; for (int i = 0; i < 8; i++) pthread_create(&th[i], 0, f, 0); for (int i = 0; i < 8; i++) {void *r; pthread_join(th[i], &r); s += (long)r;} "
                   "printf(\"%%ld %%ld\\\\n\", n, s); return 0;}\\n' >t.c; gcc -O1 -pthread -o t t.c && ./t && ./t",
    "interpreter_missing": "cd /tmp; printf '#!/no/such/interpreter\\n' >s; chmod +x s; ./s; echo $?; printf '#!\\n' >e; chmod +x e; ./e; echo $?; : >z; chmod +x z; ./z; echo $?",
    "mount_and_proc": "cat /proc/self/mounts | awk '{print $2}' | sort | grep -v -e console -e '^/proc/\\|^/sys/'; mount -t tmpfs t /mnt; echo $?; umount /proc; echo $?",
    "setsid_and_groups": "setsid bash -c 'ps -o pid=,pgid=,sid= -p $$ | awk \"{print (\\$1 == \\$2), (\\$2 == \\$3)}\"'; bash -ic 'sleep 20 & ps -o pgid= -p $! | grep -c .; kill $!' 2>/dev/null",
    "ps_tree": "sleep 50 & until [ \"$(ps -o comm= -p $!)\" = sleep ]; do sleep 0.02; done; ps -eo stat,user,args --no-headers >/tmp/ps.out; grep -v 'ps -eo' /tmp/ps.out | sed 's/^R+\\? /S /'; ps -o comm= -p 1; kill $!",
    "pgrep_pkill": "sleep 77 & until pgrep -x sleep >/dev/null; do :; done; pgrep -f '^sleep 77' | wc -l; pkill -x sleep; wait $!; echo $?",
    "capsh_like": "grep -E '^Cap' /proc/self/status; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; cat /proc/sys/kernel/cap_last_cap",
    "su_and_setpriv": "setpriv --reuid=1000 --regid=1000 --clear-groups bash -c 'id; touch /etc/x; grep CapEff /proc/self/status; cat /etc/shadow'; setpriv --no-new-privs grep NoNew /proc/self/status",
    "unshare_is_refused_without_rights": "setpriv --reuid=1000 --bounding-set=-all unshare --mount true; echo $?",
    "flock_and_locks": "cd /tmp; (flock 9; echo first; : >held; sleep 0.3; echo first done) 9>l & until [ -e held ]; do sleep 0.02; done; flock l echo second; wait; flock -n l true; echo $?",
    "ipcs": "ipcmk -M 4096 | sed 's/[0-9]*$//'; ipcs -m | grep -c 4096; ipcrm --all=shm; ipcs -m | grep -c 4096; ipcmk -Q >/dev/null; ipcs -q | grep -c '^0x'",
    "locale_and_ldd": "locale 2>/dev/null | head -2; ldd /bin/cat | sed 's/ (0x.*//;s/0x.*//'; getconf PAGESIZE; getconf _NPROCESSORS_ONLN; getconf ARG_MAX; ldconfig -p | wc -l",
    "dpkg_query": "dpkg-query -W -f='${Status}\\n' bash; dpkg -L bash | head -3; dpkg -S /bin/bash",
    "xattrs_and_acls": "cd /tmp; touch f; python3 -c 'import os; os.setxattr(\"f\", \"trusted.x\", b\"1\")' 2>&1 | tail -1; python3 -c 'import os; print(os.listxattr(\"f\"))'",
}

PYTHON = {
    "python_basics": "import sys, os, platform; print(sys.version_info[:2], sys.argv, os.getcwd(), platform.system(), platform.machine()); print(sum(range(10**6)), sys.getdefaultencoding())",
    "python_subprocess": "import subprocess as s; print(s.run(['sh', '-c', 'echo o; echo e >&2; exit 3'], capture_output=True)); print(s.check_output('seq 5 | tac', shell=True)); "
                         "p = s.Popen(['cat'], stdin=s.PIPE, stdout=s.PIPE); print(p.communicate(b'x' * 200000)[0] == b'x' * 200000, p.returncode)\n"
                         "try: s.run(['sleep', '5'], timeout=0.2)\nexcept s.TimeoutExpired as e: print('timeout', e.cmd)\n"
                         "try: s.run(['/no/such'])\nexcept OSError as e: print(repr(e))\nprint([s.run(['true'], start_new_session=True, close_fds=c).returncode for c in (True, False)])",
    "python_threading": "import threading, queue, time\nq, l, n = queue.Queue(), threading.Lock(), [0]\ndef f(i):\n for _ in range(2000):\n  with l: n[0] += 1\n q.put(i)\n"
                        "t = [threading.Thread(target=f, args=(i,)) for i in range(12)]\n[x.start() for x in t]; [x.join() for x in t]; print(n, sorted(q.queue))\n"
                        "e = threading.Event(); threading.Timer(0.1, e.set).start(); print(e.wait(5)); s = threading.Semaphore(0); print(s.acquire(timeout=0.1)); c = threading.Condition()\n"
                        "def w():\n with c: c.wait(5); print('woken')\nx = threading.Thread(target=w); x.start(); time.sleep(0.1)\nwith c: c.notify()\nx.join()",
    "python_tempfile": "import tempfile, os, stat\nwith tempfile.NamedTemporaryFile() as f: f.write(b'abc'); f.flush(); print(os.stat(f.name).st_size, oct(os.stat(f.name).st_mode)); n = f.name\nprint(os.path.exists(n))\n"
                       "with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').write('y'); print(os.listdir(d))\nwith tempfile.TemporaryFile() as f: f.write(b'z' * 70000); f.seek(0); print(len(f.read()), os.fstat(f.fileno()).st_nlink)",
    "python_os": "import os, time; print(os.getpid(), os.getppid(), os.getuid(), os.getgroups(), os.cpu_count() > 0, os.uname().nodename, os.sysconf('SC_PAGE_SIZE'), os.getpriority(0, 0), os.getpgrp(), os.getsid(0))\n"
                 "r, w = os.pipe(); os.write(w, b'x'); print(os.read(r, 9)); print(sorted(os.listdir('/proc/self/fd'))); os.chdir('/tmp'); os.mkdir('d', 0o700); os.symlink('d', 'l'); os.link('/etc/passwd', 'p') if 0 else None\n"
                 "print(os.lstat('l').st_size, os.stat('d').st_mode, os.access('/etc/shadow', os.W_OK)); open('f', 'w').close(); os.utime('f', ns=(5, 1234567890123456789)); print(os.stat('f').st_mtime_ns); os.truncate('f', 77); print(os.stat('f').st_size)\n"
                 "print([e.name for e in sorted(os.scandir('.'), key=lambda e: e.name)], os.statvfs('/tmp').f_namemax, os.get_blocking(0), os.isatty(0)); pid = os.fork()\nif pid == 0: os._exit(9)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
                 "print(os.sched_getaffinity(0) != set(), len(os.getloadavg()), len(os.urandom(8)), len(os.getrandom(8)), os.times().elapsed > 0); fd = os.memfd_create('m'); print(os.write(fd, b'abc'), os.readlink(f'/proc/self/fd/{fd}'))",
    "python_os_errors": "import os\nfor f in (lambda: os.open('/none', 0), lambda: os.mkdir('/etc'), lambda: os.rmdir('/etc'), lambda: os.open('/etc', os.O_WRONLY), lambda: os.kill(99999, 0), lambda: os.read(99, 1), lambda: os.chdir('/etc/passwd'), "
                        "lambda: os.readlink('/etc'), lambda: os.open('x' * 300, 0), lambda: os.unlink('/etc'), lambda: os.setuid(-2), lambda: os.lseek(os.pipe()[0], 0, 0), lambda: os.waitpid(-1, 0), lambda: os.listdir('/proc/99999'), lambda: os.rename('/none', '/x')):\n"
                        " try: print(f())\n except (OSError, OverflowError) as e: print(type(e).__name__, e)",
    "python_json": "import json; d = json.loads('{\"a\": [1, 2.5, null, true], \"b\": \"\\\\u00e4\"}'); print(d, json.dumps(d, sort_keys=True)); json.dump(list(range(10000)), open('/tmp/j', 'w')); print(sum(json.load(open('/tmp/j'))))",
    "python_sqlite3_memory": "import sqlite3; c = sqlite3.connect(':memory:'); c.execute('create table t(a, b)'); c.executemany('insert into t values (?, ?)', [(i, str(i) * 3) for i in range(5000)]); "
                             "print(c.execute('select count(*), sum(a), max(b) from t').fetchall()); c.rollback(); print(c.execute('select count(*) from t').fetchone())",
    "python_sqlite3_file": "import sqlite3, threading\nc = sqlite3.connect('/tmp/x.db', timeout=30); c.execute('create table t(a)'); c.commit()\ndef f(i):\n d = sqlite3.connect('/tmp/x.db', timeout=30)\n for j in range(10): d.execute('insert into t values (?)', (i * 100 + j,)); d.commit()\n"
                           "t = [threading.Thread(target=f, args=(i,)) for i in range(4)]; [x.start() for x in t]; [x.join() for x in t]; print(c.execute('select count(*), sum(a) from t').fetchall())",
    "python_signals": "import signal, os, time\ngot = []\nsignal.signal(signal.SIGUSR1, lambda n, f: got.append(n)); os.kill(os.getpid(), signal.SIGUSR1); print(got); signal.setitimer(signal.ITIMER_REAL, 0.1); signal.signal(signal.SIGALRM, lambda n, f: got.append(n)); "
                      "signal.pause(); print(got); signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}); os.kill(os.getpid(), signal.SIGUSR2); print(signal.sigpending(), signal.sigwait({signal.SIGUSR2})); "
                      "print(signal.sigtimedwait({signal.SIGUSR2}, 0.05)); signal.signal(signal.SIGUSR1, lambda n, f: None); r, w = os.pipe(); os.fork() or (time.sleep(0.1), os.kill(os.getppid(), signal.SIGUSR1), os.write(w, b'r'), os._exit(0)); print(os.read(r, 1)); os.wait()",
    "python_multiprocessing": "import multiprocessing as m\ndef f(x): return x * x\nif __name__ == '__main__':\n with m.Pool(3) as p: print(p.map(f, range(20)))\n q = m.Queue(); p = m.Process(target=q.put, args=('hi',)); p.start(); print(q.get(), p.join(), p.exitcode); v = m.Value('i', 5); print(v.value)\n"
                              " s = m.shared_memory if hasattr(m, 'shared_memory') else None\n from multiprocessing import shared_memory as h; x = h.SharedMemory(create=True, size=100); x.buf[0] = 7; y = h.SharedMemory(name=x.name); print(y.buf[0]); y.close(); x.close(); x.unlink()",
    "python_asyncio": "import asyncio\nasync def main():\n p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1); print(await p.communicate(b'async')); print(await asyncio.gather(*(asyncio.sleep(0.05, i) for i in range(5))))\n"
                      " s = await asyncio.start_unix_server(lambda r, w: (w.write(b'srv'), w.close()), '/tmp/sock'); r, w = await asyncio.open_unix_connection('/tmp/sock'); print(await r.read()); w.close(); s.close()\n"
                      " try: await asyncio.wait_for(asyncio.sleep(5), 0.1)\n except asyncio.TimeoutError: print('timeout')\nasyncio.run(main())",
    "python_sockets": "import socket, select, os, array; a, b = socket.socketpair(); a.send(b'x'); print(select.select([b], [], [], 1)[0] == [b], b.recv(9)); fd = os.open('/etc/hostname', 0); socket.send_fds(a, [b'f'], [fd]); m, f, _, _ = socket.recv_fds(b, 9, 1); print(m, os.read(f[0], 99)); "
                      "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('\\0abstract'); a.close(); print(b.recv(9)); t = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); t.sendto(b'd', '\\0abstract'); print(s.recvfrom(9)); p = select.epoll(); p.register(s, select.EPOLLIN); print(p.poll(0.05)); "
                      "print(s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), b.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))",
    "python_mmap": "import mmap, os\nm = mmap.mmap(-1, 1 << 20); m[5:9] = b'abcd'; pid = os.fork()\nif pid == 0: m[0:1] = b'c'; os._exit(0)\nos.wait(); print(m[0:1], m[5:9])\nwith open('/tmp/f', 'w+b') as f: f.truncate(10000); n = mmap.mmap(f.fileno(), 0); n[9000:9003] = b'xyz'; n.flush(); f.seek(9000); print(f.read(3)); n.close(); n = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE); n[0] = 65; f.seek(0); print(f.read(1), n[0])\n"
                   "p = mmap.mmap(os.open('/usr/bin/python3', 0), 4096, prot=mmap.PROT_READ); print(p[1:4])",
    "python_pty": "import pty, os\npid, fd = pty.fork()\nif pid == 0: os.execvp('sh', ['sh', '-c', 'tty; stty -a | head -1; read x; echo got $x; exit 5'])\nos.write(fd, b'typed\\n'); out = b''\nwhile 1:\n try: d = os.read(fd, 999)\n except OSError: break\n"
                  " if not d: break\n out += d\nprint(sorted(out.decode().split('\\r\\n')), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "python_resource": "import resource, os; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\nfs = []\ntry:\n while 1: fs.append(os.open('/etc/passwd', 0))\nexcept OSError as e: print(len(fs), e)\n[os.close(f) for f in fs]; u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_maxrss > 1000, u.ru_utime >= 0); "
                       "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\ntry: bytearray(400 << 20)\nexcept MemoryError: print('MemoryError')",
    "python_locks": "import fcntl, os, struct\nf = open('/tmp/l', 'w+'); fcntl.lockf(f, fcntl.LOCK_EX, 10, 5); pid = os.fork()\nif pid == 0:\n g = open('/tmp/l', 'r+')\n try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7); print('taken')\n except OSError as e: print(e.errno)\n"
                    " fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0); os._exit(os.EX_OK)\nprint(os.waitpid(pid, 0)[1]); fcntl.flock(f, fcntl.LOCK_SH); print(fcntl.fcntl(f, fcntl.F_GETFL) & 3, fcntl.fcntl(f, fcntl.F_GETFD))",
    "python_time": "import time; a = time.monotonic(); time.sleep(0.1); d = time.monotonic() - a; print(0.1 <= d < 20, abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 5, time.process_time() >= 0, time.thread_time_ns() >= 0, time.get_clock_info('monotonic').implementation, time.gmtime(0)[:3], time.tzname)",
    "python_modules": "import ssl, hashlib, zlib, bz2, lzma, decimal, ctypes, uuid, socketserver, http.client, xml.etree.ElementTree, email, csv, sched, curses; print(hashlib.sha256(b'x').hexdigest()[:8], ctypes.CDLL(None).getpid(), zlib.crc32(b'x'), len(str(uuid.uuid4())))",
    "python_venv_like_files": "import shutil, os, pathlib; shutil.copytree('/usr/lib/python3/dist-packages', '/tmp/t', symlinks=True, dirs_exist_ok=True); print(len(list(pathlib.Path('/tmp/t').rglob('*')))); shutil.make_archive('/tmp/a', 'zip', '/etc/default'); shutil.unpack_archive('/tmp/a.zip', '/tmp/u'); "
                              "print(sorted(os.listdir('/tmp/u')) == sorted(x for x in os.listdir('/etc/default'))); shutil.rmtree('/tmp/t'); print(os.path.exists('/tmp/t'), shutil.which('sh'))",
    "python_compileall": "import compileall, shutil; shutil.copytree('/usr/lib/python3.11/json', '/tmp/json', ignore=shutil.ignore_patterns('__pycache__')); print(compileall.compile_dir('/tmp/json', quiet=1, workers=2)); import os; print(sorted(os.listdir('/tmp/json/__pycache__')))",
    "python_recursion_and_crash": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import ctypes; ctypes.string_at(0)']).returncode, subprocess.run([sys.executable, '-c', 'import os; os.abort()']).returncode)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
                                  "sys.setrecursionlimit(9000); print(f(8000))\ntry: sys.setrecursionlimit(500); f(1000)\nexcept RecursionError as e: print('RecursionError')",
}


def case(function):
    cases.append((function.__name__, function))
    return function


def interactive_bash():
    return lib.Terminal(workspace, root(), lib.spec(
        args=["/bin/bash", "--norc", "-i"],
        env=["PATH=/usr/bin:/bin", "PS1=ready> ", "HOME=/root", "TERM=dumb", "LC_ALL=C"]))


@case
def bash_job_control_on_a_terminal():
    stopped = "until jobs | grep -q Stopped; do sleep 0.05; done"
    terminal = interactive_bash()
    try:
        terminal.expect("ready> ")
        terminal.send("set +o emacs; stty -echo\n")
        terminal.expect("ready> ")
        terminal.press("tty; stty size\n", r"/dev/(pts/0|console)\n24 80\n")
        terminal.send("sh -c 'echo started; exec sleep 100'\n")
        terminal.expect("started\n")
        terminal.press("\x1a", r"\[1\]\+  Stopped +sh -c")
        terminal.expect("ready> ")
        terminal.send("jobs; bg\n")
        terminal.expect(r"\[1\]\+  Stopped +sh -c [^\n]*\n\[1\]\+ sh -c [^\n]* &")
        terminal.expect("ready> ")
        terminal.send("fg\n")
        terminal.expect(r"sh -c [^\n]*\n")
        terminal.press("\x03", "ready> ")
        terminal.send("echo status $?\n")
        terminal.expect("status 130")
        terminal.send(f"cat & {stopped}; jobs\n")
        terminal.expect(r"\[1\]\+  Stopped +cat")
        terminal.send(f"kill %1; wait; stty tostop; (echo background) & {stopped}; jobs; stty -tostop; fg\n")
        terminal.expect(r"Stopped +\( ?echo background ?\)")
        terminal.expect("background\n")
        terminal.send("sh -c 'echo go; cat'\n")
        terminal.expect("go\n")
        terminal.send("typed line\n")
        terminal.expect("typed line\n")
        terminal.send("\x04")
        terminal.expect("ready> ")
        terminal.send("trap 'echo WINCH' WINCH\n")
        terminal.expect("ready> ")
        terminal.resize(50, 132)
        terminal.press("stty size\n", "50 132")
        terminal.send("exit 17\n")
        lib.equal(terminal.finish(), 17, "exit status")
    finally:
        terminal.close()


@case
def bash_line_editing_on_a_terminal():
    terminal = interactive_bash()
    try:
        terminal.expect("ready> ")
        terminal.send("echo abd\x7fc\x01\x05 end\n")
        terminal.expect("\nabc end\nready> ")
        terminal.send("echo first\n")
        terminal.expect("\nfirst\n")
        terminal.expect("ready> ")
        terminal.send("\x10\n")  # ^P: the line before.
        terminal.expect("\nfirst\nready> ")
        terminal.send("echo /etc/pass\t\n")
        terminal.expect("\n/etc/passwd\nready> ")
        terminal.send("\x04")
        lib.equal(terminal.finish(), 0, "exit status")
    finally:
        terminal.close()


@case
def hangup_ends_the_shell():
    terminal = interactive_bash()
    try:
        terminal.expect("ready> ")
        lib.os.close(terminal.master)
        terminal.master = lib.os.open("/dev/null", lib.os.O_RDONLY)
        lib.until(lambda: terminal.process.poll() is not None, "it does not end with its terminal")
    finally:
        terminal.close()


@case
def ps_top_free_of_procps():
    def check(result):
        true(result.status == 0, "it fails")
        true(re.search(r"^USER +PID +%CPU", result.out, re.M), "no headline of ps")
        true(re.search(r"^root +1 .*bash -c", result.out, re.M), "pid 1 is not the shell")
        true(re.search(r"^top - .* up ", result.out, re.M), "no headline of top")
        true(re.search(r"^Tasks: +\d+ total", result.out, re.M), "no tasks in top")
        true(re.search(r"^Mem: +\d+", result.out, re.M), "no memory in free")
        true(re.search(r"^Name:\s+bash", result.out, re.M), "no status")
    both().satisfies("set -e; ps aux; TERM=dumb top -bn1; free -m; vmstat; uptime; grep Name /proc/1/status; w", check)


@case
def df_and_mount_of_util_linux():
    def check(result):
        true(re.search(r"^tmpfs +\d+ .*/tmp$", result.out, re.M), "no /tmp in df")
        true(re.search(r" on /proc type proc ", result.out), "no /proc in mount")
        true(re.search(r"^/tmp +tmpfs ", result.out, re.M), "no /tmp in findmnt")
    both().satisfies("df; mount; findmnt -ln /tmp", check)


@case
def lscpu_runs():
    both().satisfies("lscpu", lambda result: true(re.search(r"^Architecture: +x86_64", result.out, re.M)
                                                  and re.search(r"^CPU\(s\): +\d", result.out, re.M), "no answer"))


cached = {}


def root():
    if "root" not in cached:
        cached["root"] = debian_root.debian_root()
    return cached["root"]


def both(shell=("/bin/bash", "-c")):
    # Read-only, and so one root serves both runs and many test runs.
    return lib.Comparison(workspace, [root(), root()], shell, readonly=True)


for name, script in BASH.items():
    cases.append((name, lambda script=script: both().same(script, timeout=120)))
for name, script in PYTHON.items():
    cases.append((name, lambda script=script: both(["/usr/bin/python3", "-c"]).same(script, timeout=120)))


def main():
    if shutil.which(lib.REFERENCE) is None:
        sys.exit("debian_test.py: no " + lib.REFERENCE)
    try:
        root()
    except RuntimeError as problem:
        print(f"skip debian_root: {problem}")
        print("[ TOTALS ] debian_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        return
    lib.main(cases, workspace.close)


if __name__ == "__main__":
    main()
