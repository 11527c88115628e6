#!/usr/bin/env python3
"""Guests that take what they can get: memory, processes, threads, descriptors, the CPU.

Each has its limit, the sandbox and its neighbours live on, and nothing is left at the end.
"""

import os
import time

import box
import debian_root
import lib
from box import Container, check_nothing_left, edited, new_name, workspace
from lib import equal, true

# A mebibyte of the guest's memory limits, and of what it takes against them: a sentry with a sanitizer is several times as
# large, with its shadow and quarantine, and one that fits no limit says nothing about them.
MIB = int(os.environ.get("CAISSON_MEMORY_FACTOR", 1)) << 20
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


# Guests that take what they can get.

def in_debian(script, limits=None, timeout=90, host_files=None, **process):
    """Runs a Python program in a Debian root; returns the result, with nothing left of it."""
    try:
        debian = debian_root.debian_root()
    except RuntimeError as problem:
        raise lib.Skip(str(problem)) from None
    config = lib.spec(args=["/usr/bin/python3", "-c", script], **process)
    config["root"]["readonly"] = True
    if limits:
        config["linux"]["resources"] = limits
    name = new_name()
    result = workspace.run(debian, config, timeout=timeout, name=name,
                           prefix=["prlimit", f"--nofile={host_files}:{host_files}"] if host_files else [])
    true(result.status != "timeout", f"it hangs: {result}")
    check_nothing_left(name)
    return result


def in_busybox(script, limits):
    """Runs a shell script in a busybox root; returns the result, with nothing left of it."""
    config = lib.spec(args=["/bin/sh", "-c", script])
    config["linux"]["resources"] = limits
    name = new_name()
    result = workspace.run(box.root, config, timeout=60, name=name)
    true(result.status != "timeout", f"it hangs: {result}")
    check_nothing_left(name)
    return result


@case
def guest_exhausts_memory():
    result = in_debian(f"M = {MIB}\nimport os\npid = os.fork()\nif pid == 0:\n x = bytearray(M) * 400; x[::4096] = b'y' * len(x[::4096]); os._exit(0)\n"
                       "print(os.waitpid(pid, 0)[1] & 127)", {"memory": {"limit": 150 * MIB}})
    # The kernel takes the child, which is the largest; a kill of the whole container is fair too.
    true((result.status, result.out) == (0, "9\n") or result.status == 137, str(result))


@case
def guest_exhausts_memory_as_its_only_process():
    result = in_debian(f"x = bytearray({MIB}) * 400", {"memory": {"limit": 150 * MIB}})
    equal(result.status, 137, f"exit status, {result}")


@case
def guest_exhausts_address_space():
    result = in_debian("import mmap\nl = []\ntry:\n while len(l) < 70000: l.append(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 1 + (len(l) & 2)))\nexcept OSError as e: print(e.errno)\nprint(len(l) > 30000)")
    equal((result.status, result.out.split("\n")[-2:]), (0, ["True", ""]), str(result))


@case
def guest_exhausts_shared_memory_objects():
    result = in_debian("import mmap, os\nl = []\ntry:\n while len(l) < 50000: l.append(mmap.mmap(-1, 4096)); l[-1][0] = 1\nexcept OSError as e: pass\nprint(len(l) > 500)\n"
                       "for m in l: m.close()\nprint(os.system('true'), len(mmap.mmap(-1, 8192)))")
    equal((result.status, result.out), (0, "True\n0 8192\n"), str(result))


@case
def guest_exhausts_processes():
    result = in_debian("import os, time, signal\nl = []\ntry:\n for i in range(200):\n  p = os.fork()\n  if p == 0: time.sleep(60); os._exit(0)\n  l.append(p)\nexcept OSError as e: print(e.errno)\n"
                       "print(5 <= len(l) <= 40)\nfor p in l: os.kill(p, 9)\nfor p in l: os.waitpid(p, 0)\nprint(os.waitstatus_to_exitcode(os.system('true')))", {"pids": {"limit": 40}})
    equal((result.status, result.out), (0, "11\nTrue\n0\n"), str(result))


@case
def guest_is_a_fork_bomb():
    result = in_debian("import os, time\nend = time.time() + 3\nwhile time.time() < end:\n try: os.fork()\n except OSError: time.sleep(0.01)\nos._exit(3)", {"pids": {"limit": 60}})
    equal(result.status, 3, f"exit status, {result}")


@case
def guest_exhausts_descriptors():
    result = in_debian("import os\nl = []\ntry:\n while len(l) < 100000: l.append(os.open('/etc/passwd', 0))\nexcept OSError as e: print(e.errno)\nprint(len(l) > 3900)\n"
                       "for f in l: os.close(f)\nprint(len(os.listdir('/usr/bin')) > 100)",
                       rlimits=[{"type": "RLIMIT_NOFILE", "soft": 4000, "hard": 4000}])
    equal((result.status, result.out), (0, "24\nTrue\nTrue\n"), str(result))


@case
def guest_exhausts_descriptors_of_every_kind():
    script = ("import os, socket, select\nl = []\ndef f(i):\n k = i % 6\n if k == 0: return os.pipe()\n if k == 1: return socket.socketpair()\n if k == 2: return select.epoll()\n"
              " if k == 3: return os.memfd_create('x')\n if k == 4: return os.open('/tmp', os.O_TMPFILE | os.O_RDWR)\n return os.open('/usr/bin/' + n[i // 6 % len(n)], 0)\nn = sorted(os.listdir('/usr/bin'))\n"
              "try:\n for i in range(100000): l.append(f(i))\nexcept OSError as e: print(e.errno)\nprint(len(l) > 700, flush=True); os._exit(4)")
    result = in_debian(script)
    equal((result.status, result.out), (4, "24\nTrue\n"), str(result))


@case
def guest_exhausts_descriptors_of_the_sentry():
    """The guest's limit is higher than what the host gives the sentry: an error, and the sandbox lives on."""
    script = ("import mmap, os\nl = []\ntry:\n while len(l) < 20000:\n  f = os.memfd_create('x'); os.ftruncate(f, 4096); l.append(mmap.mmap(f, 4096)); l[-1][0] = 1\n"
              "except OSError as e: print(e.errno in (12, 23, 24, 28) or e)\nprint(len(l) > 500); l.clear()\n"
              "os.closerange(3, 50000); print(os.system('true'), len(os.listdir('/usr/bin')) > 100)")
    result = in_debian(script, host_files=4000, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1 << 20, "hard": 1 << 20}])
    equal((result.status, result.out), (0, "True\nTrue\n0 True\n"), str(result))


@case
def guest_exhausts_threads_without_a_limit():
    result = in_debian("import threading\ne = threading.Event(); l = []\nthreading.stack_size(65536)\ntry:\n for i in range(1000):\n  t = threading.Thread(target=e.wait); t.start(); l.append(t)\n"
                       "except RuntimeError as x: pass\nprint(len(l) > 200); e.set(); [t.join() for t in l]; print(threading.active_count())", {"memory": {"limit": 4 << 30}})
    equal((result.status, result.out), (0, "True\n1\n"), str(result))


@case
def guest_exhausts_threads():
    result = in_debian("import threading\ne = threading.Event(); l = []\nthreading.stack_size(65536)\ntry:\n for i in range(1000):\n  t = threading.Thread(target=e.wait); t.start(); l.append(t)\nexcept RuntimeError as x: print(x)\n"
                       "print(10 < len(l) < 120); e.set(); [t.join() for t in l]; print(threading.active_count())", {"pids": {"limit": 120}})
    equal((result.status, result.out), (0, "can't start new thread\nTrue\n1\n"), str(result))


@case
def guest_fills_a_tmpfs():
    result = in_debian("import os\nf = open('/dev/shm/x', 'wb', buffering=0); n = 0\ntry:\n while n < 1 << 30: n += f.write(b'z' * 65536)\nexcept OSError as e: print(e.errno, n >> 20)\n"
                       "os.unlink('/dev/shm/x'); f.close(); print(open('/dev/shm/y', 'wb').write(b'w' * 100000))")
    equal((result.status, result.out), (0, "28 64\n100000\n"), str(result))


SMALL = {"memory": {"limit": 128 * MIB, "swap": 128 * MIB}}


@case
def guest_allocates_more_file_memory_than_its_limit():
    """The sentry is who allocates it: ENOSPC, before the host's OOM killer looks for somebody."""
    result = in_debian(f"M = {MIB}\nimport os\nf = os.memfd_create('x')\ntry: os.posix_fallocate(f, 0, 200 * M)\nexcept OSError as e: print(e.errno, os.fstat(f).st_blocks)\n"
                       "n = 0\ntry:\n while n < 200 * M: n += os.write(f, b'z' * M)\nexcept OSError as e: print(e.errno, 60 * M < n < 128 * M)\n"
                       "g = open('/tmp/x', 'wb', buffering=0)\ntry: os.posix_fallocate(g.fileno(), 0, 60 * M)\nexcept OSError as e: print(e.errno)\n"
                       "os.ftruncate(f, 0); print(os.posix_fallocate(g.fileno(), 0, 60 * M)); os.close(f); print(os.system('true'))", SMALL)
    equal((result.status, result.out), (0, "28 0\n28 True\n28\nNone\n0\n"), str(result))


@case
def guest_fills_file_memory_through_mappings():
    """Nobody asks the sentry for what a store needs: the host ends who stored. Then there is room again, and what a store
    has taken counts where the sentry allocates."""
    result = in_debian(f"M = {MIB}\nimport mmap, os, time\npid = os.fork()\nif pid == 0:\n f = os.memfd_create('x'); os.ftruncate(f, 200 * M); m = mmap.mmap(f, 200 * M)\n"
                       " for i in range(0, 200 * M, 4096): m[i] = 1\n os._exit(0)\nprint(os.waitpid(pid, 0)[1] & 127)\n"
                       "f = os.memfd_create('y'); os.ftruncate(f, 70 * M); m = mmap.mmap(f, 70 * M)\nfor i in range(0, 70 * M, 4096): m[i] = 1\n"
                       "g = os.memfd_create('z')\ntry: os.posix_fallocate(g, 0, 60 * M)\nexcept OSError as e: print(e.errno)\n"
                       "m.close(); os.close(f); print(os.posix_fallocate(g, 0, 60 * M))", SMALL)
    equal((result.status, result.out), (0, "9\n28\nNone\n"), str(result))


@case
def guest_reads_into_more_memory_than_its_limit():
    """The reader is ended, whose pages the sentry's copy needs, and none of its neighbours."""
    script = (f"i=0; while [ $i -lt 10 ]; do dd if=/dev/zero of=/dev/null bs={300 * MIB} count=1 2>/dev/null; echo $?; i=$((i+1)); done; echo alive")
    result = in_busybox(script, {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
    lines = result.out.split()
    equal((result.status, lines[10:]), (0, ["alive"]), str(result))
    equal([line for line in lines[:10] if line not in ("137", "1")], [], str(result))


@case
def guest_deadlocks_on_its_pipes():
    """What blocks for ever is killed at once."""
    with Container(edited(process__args=["/bin/sh", "-c", "mkfifo /tmp/f; cat /tmp/f"]), run=True) as container:
        time.sleep(0.3)
        equal(workspace.call("kill", container.name, "KILL").status, 0, "kill")
        equal(container.process.wait(10), 137, "exit status")


@case
def guest_spins_and_is_killed():
    with Container(edited(process__args=["/bin/sh", "-c", "trap '' TERM; while :; do :; done"]), run=True) as container:
        time.sleep(0.3)
        equal(workspace.call("kill", container.name, "TERM").status, 0, "kill TERM")
        time.sleep(0.2)
        equal(container.status(), "running", "after an ignored SIGTERM")
        equal(workspace.call("kill", container.name, "KILL").status, 0, "kill KILL")
        equal(container.process.wait(10), 137, "exit status")


@case
def many_sandboxes_at_once():
    count = 8
    containers = []
    try:
        for _ in range(count):
            containers.append(Container(edited(process__args=["/bin/sleep", "100"])))
        for container in containers:
            equal(workspace.call("start", container.name).status, 0, "start")
        listing = workspace.call("list", "-q").out.split()
        equal([container.name for container in containers if container.name not in listing], [], "not in list")
    finally:
        for container in containers:
            workspace.call("delete", "--force", container.name)
    for container in containers:
        check_nothing_left(container.name)


if __name__ == "__main__":
    box.main(cases)
