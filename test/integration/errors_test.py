#!/usr/bin/env python3
"""What goes wrong: bad bundles, processes of the sandbox that die, guests that take all they can get.

After each case nothing of it may be left: no process, no mount, no cgroup, no state.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import uuid

import debian_root
import lib
from lib import equal, true, until

workspace = lib.Workspace()
root = os.path.join(workspace.directory, "busybox")
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


def check_nothing_left(name):
    states = os.path.join(workspace.state, os.path.basename(lib.RUNTIME))
    true(not os.path.exists(os.path.join(states, name)), "state is left")
    until(lambda: lib.cgroups_named(name) == [], f"cgroups are left: {lib.cgroups_named(name)}", 5)
    equal(lib.mounts_below(workspace.directory), [], "mounts are left")


def fails(config, *texts, status=None, prepare=None):
    """create must fail with each of `texts` in its message, and leave nothing."""
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle(root, config if isinstance(config, dict) else None)
    if isinstance(config, str):
        workspace.write(bundle, config)
    if prepare:
        prepare(bundle)
    for command in ("create", "run"):
        result = workspace.call(command, "--bundle", bundle, name)
        if result.status in (0, "timeout"):
            workspace.delete(name)
        true(result.status not in (0, "timeout"), f"{command}: {result}")
        if status is not None:
            equal(result.status, status, f"{command}: exit status, {result}")
        for text in texts:
            true(text in result.err, f"{command}: no {text!r} in {result.err!r}")
        true("terminate called" not in result.err and "Check failed" not in result.err, result.err)
        check_nothing_left(name)
    shutil.rmtree(bundle)


def edited(**changes):
    config = lib.spec(args=["/bin/sleep", "1"])
    for path, value in changes.items():
        at = config
        *parents, last = path.split("__")
        for part in parents:
            at = at.setdefault(part, {})
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return config


# Bundles.

@case
def config_missing():
    fails(None, "config.json")


@case
def config_empty():
    fails("", "config.json")


@case
def config_is_not_json():
    fails('{"ociVersion": "1.0.2", "process": {', "config.json")


@case
def config_is_a_list():
    fails("[1, 2]", "config.json")


@case
def config_with_wrong_types():
    for path, value in (("process__args", "sh"), ("process__args", [1, 2]), ("root__path", 7), ("mounts", {"a": 1}),
                        ("process__user__uid", -1), ("process__user__uid", "0"), ("linux__namespaces", "pid"),
                        ("process__env", [None]), ("hostname", ["x"]), ("process__rlimits", [{"type": 3}])):
        name = "it-" + uuid.uuid4().hex[:10]
        bundle = workspace.bundle(root, edited())
        config = edited(**{path: value})
        if path != "root__path":
            config["root"]["path"] = root
        workspace.write(bundle, json.dumps(config))
        result = workspace.call("create", "--bundle", bundle, name)
        true(result.status == 1 and result.err, f"{path} = {value!r}: {result}")
        check_nothing_left(name)
        shutil.rmtree(bundle)


@case
def sysctl_of_no_namespace():
    for name, value in (("kernel.panic", "1"), ("vm.swappiness", "1"), ("no.such.thing", "1"), ("kernel.shmmax", "much")):
        fails(edited(linux__sysctl={name: value}), name)


@case
def config_is_deeply_nested():
    fails('{"a":' * 100000, "config.json")


@case
def config_is_a_directory():
    fails(None, "config.json", prepare=lambda bundle: os.mkdir(os.path.join(bundle, "config.json")))


@case
def no_process():
    fails(edited(process=None), "process")


@case
def no_arguments():
    fails(edited(process__args=[]), "args")


@case
def root_missing():
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle("/nonexistent/root", edited())
    result = workspace.call("create", "--bundle", bundle, name)
    true(result.status == 1 and "/nonexistent/root" in result.err, str(result))
    check_nothing_left(name)


@case
def root_is_a_file():
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle("/etc/passwd", edited())
    result = workspace.call("create", "--bundle", bundle, name)
    true(result.status == 1 and "/etc/passwd" in result.err, str(result))
    check_nothing_left(name)


@case
def bundle_missing():
    result = workspace.call("create", "--bundle", "/nonexistent/bundle", "it-none")
    true(result.status == 1 and "/nonexistent/bundle" in result.err, str(result))
    check_nothing_left("it-none")


@case
def bad_ids():
    bundle = workspace.bundle(root, edited())
    for name in ("../x", "a/b", "", ".", "..", "a b", "x" * 2000):
        result = workspace.call("create", "--bundle", bundle, name)
        true(result.status not in (0, "timeout"), f"{name!r}: {result}")
    check_nothing_left("x")
    true(not os.path.exists(os.path.join(workspace.directory, "x")), "it has left the state directory")


@case
def bind_source_missing():
    config = edited()
    config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "/nonexistent/src",
                             "options": ["rbind"]})
    fails(config, "/nonexistent/src")


@case
def unknown_mount_type():
    config = edited()
    config["mounts"].append({"destination": "/mnt", "type": "nosuchfs", "source": "none"})
    fails(config, "nosuchfs")


# The program. The texts are those that engines turn into exit codes 126 and 127.

@case
def program_missing():
    fails(edited(process__args=["/bin/nothing"]), "no such file or directory")


@case
def program_not_in_path():
    fails(edited(process__args=["nothing"]), "executable file not found in $PATH")


@case
def program_not_executable():
    fails(edited(process__args=["/etc/passwd"]), "permission denied")


@case
def program_is_a_directory():
    fails(edited(process__args=["/etc"]), "permission denied")


@case
def program_executable_for_others_only():
    path = os.path.join(root, "bin/only-root")
    shutil.copy(os.path.join(root, "bin/busybox"), path)
    os.chmod(path, 0o700)
    fails(edited(process__args=["/bin/only-root"], process__user={"uid": 1, "gid": 1},
                 process__capabilities={}), "permission denied")


def run_script(content, *texts):
    """Fails at create or, for what only execve(2) sees, as the container's process."""
    path = os.path.join(root, "bin/script")
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o755)
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle(root, edited(process__args=["/bin/script"]))
    result = workspace.call("run", "--bundle", bundle, name)
    true(result.status not in (0, "timeout"), str(result))
    true(any(text in result.err.lower() for text in texts), str(result))
    workspace.delete(name)
    check_nothing_left(name)


@case
def bad_interpreter():
    run_script(b"#!/no/such/interpreter\n", "no such file or directory")


@case
def not_a_program():
    run_script(b"neither ELF nor script\n", "exec format error")


@case
def truncated_elf():
    with open(os.path.join(root, "bin/busybox"), "rb") as file:
        run_script(file.read(64), "exec format error", "input/output", "eio")


@case
def interpreter_that_loops():
    run_script(b"#!/bin/script\n", "too many levels of symbolic links")


@case
def cwd_missing_is_made_or_refused():
    # runc makes it; whatever is done, nothing hangs and nothing is left.
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle(root, edited(process__cwd="/etc/passwd/x"))
    result = workspace.call("run", "--bundle", bundle, name)
    true(result.status not in (0, "timeout") and result.err, str(result))
    workspace.delete(name)
    check_nothing_left(name)


# Ids and the order of commands.

class Container:
    """One that is created from a bundle; `with` removes it and checks that nothing is left."""

    def __init__(self, config, run=False):
        self.name = "it-" + uuid.uuid4().hex[:10]
        config["root"]["path"] = root
        self.bundle = workspace.bundle(root, None)
        workspace.write(self.bundle, json.dumps(config))
        self.process = None
        if run:
            self.process = subprocess.Popen(workspace.command("run", "--bundle", self.bundle, self.name),
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, start_new_session=True)
            until(lambda: self.status() == "running", "it does not start")
        else:
            result = workspace.call("create", "--bundle", self.bundle, self.name)
            equal(result.status, 0, result.err)
        self.pids = set(self.processes().values()) | set(self.cgroup_pids())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.pids |= set(self.cgroup_pids())
        result = workspace.call("delete", "--force", self.name)
        if self.process is not None:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                if kind is None:
                    raise AssertionError("run does not end") from None
        if kind is None:
            equal(result.status, 0, result.err)
            until(lambda: not any(map(lib.alive, self.pids)),
                  f"processes are left: {[pid for pid in self.pids if lib.alive(pid)]}", 10)
            check_nothing_left(self.name)
        shutil.rmtree(self.bundle)

    def state(self):
        result = workspace.call("state", self.name)
        return json.loads(result.out) if result.status == 0 else None

    def status(self):
        state = self.state()
        return state and state["status"]

    def processes(self):
        """The monitor's, the sentry's and the gofer's pid, by name."""
        path = os.path.join(workspace.state, os.path.basename(lib.RUNTIME), self.name, "state.json")
        with open(path) as file:
            state = json.load(file)
        return {kind: state[kind]["pid"] for kind in ("monitor", "sentry", "gofer") if kind in state}

    def cgroup_pids(self):
        found = []
        for path in lib.cgroups_named(self.name):
            try:
                with open(os.path.join(path, "cgroup.procs")) as file:
                    found += [int(pid) for pid in file.read().split() if pid != "0"]
            except OSError:
                pass
        return found


@case
def duplicate_id():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        result = workspace.call("create", "--bundle", container.bundle, container.name)
        true(result.status == 1 and "already exists" in result.err, str(result))
        equal(container.status(), "created", "the first one's status")


@case
def commands_on_nothing():
    for command in (["start"], ["kill"], ["state"], ["delete"], ["exec"], ["ps"], ["pause"]):
        extra = ["true"] if command == ["exec"] else []
        result = workspace.call(*command, "it-nothing", *extra)
        true(result.status != 0 and "does not exist" in result.err, f"{command}: {result}")
    equal(workspace.call("delete", "--force", "it-nothing").status, 0, "delete --force of nothing")


@case
def exec_of_what_is_not_there():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        equal(workspace.call("start", container.name).status, 0, "start")
        for args, text in ((["nothing"], "executable file not found in $PATH"),
                           (["/bin/nothing"], "no such file or directory"),
                           (["/etc/passwd"], "permission denied")):
            result = workspace.call("exec", container.name, *args)
            true(result.status not in (0, "timeout") and text in result.err, f"{args}: {result}")
        equal(workspace.call("exec", container.name, "/bin/sh", "-c", "exit 9").status, 9, "exec's status")
        equal(container.status(), "running", "status")


# Each process of a sandbox dies at each stage.

def kill_matrix(stage, victim):
    config = edited(process__args=["/bin/sh", "-c", "sleep 100 & sleep 100 & wait"])
    with Container(config, run=stage == "run") as container:
        if stage == "started":
            equal(workspace.call("start", container.name).status, 0, "start")
        pids = container.processes()
        if victim not in pids:
            raise lib.Skip(f"this runtime has no {victim}")
        until(lambda: stage == "created" or len(container.cgroup_pids()) >= 3 or not container.cgroup_pids(),
              "no guest")
        container.pids |= set(container.cgroup_pids())
        os.kill(pids[victim], signal.SIGKILL)
        until(lambda: container.status() in ("stopped", None), f"it is {container.status()}")
        result = workspace.call("exec", container.name, "/bin/true")
        true(result.status not in (0, "timeout"), "exec after that works")
        if container.process is not None:
            true(container.process.wait(10) not in (0, None), "run has ended with status 0")


for stage in ("created", "started", "run"):
    for victim in ("monitor", "sentry", "gofer"):
        cases.append((f"{victim}_killed_when_{stage}",
                      lambda stage=stage, victim=victim: kill_matrix(stage, victim)))


def kill_during(command, delay):
    """The command line itself dies `delay` seconds into create or run."""
    name = "it-" + uuid.uuid4().hex[:10]
    bundle = workspace.bundle(root, edited(process__args=["/bin/sleep", "100"]))
    config_path = os.path.join(bundle, "config.json")
    true(os.path.exists(config_path), "no config")
    process = subprocess.Popen(workspace.command(command, "--bundle", bundle, name), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(delay)
    process.kill()
    process.wait()

    def pids():
        found = []
        for path in lib.cgroups_named(name):
            with open(os.path.join(path, "cgroup.procs")) as file:
                found += [int(pid) for pid in file.read().split() if pid != "0"]
        return found

    left = pids()
    result = workspace.call("delete", "--force", name)
    equal(result.status, 0, result.err)
    until(lambda: not any(map(lib.alive, left)), "processes are left", 10)
    check_nothing_left(name)
    shutil.rmtree(bundle)


@case
def command_line_killed_during_create():
    for step in range(12):
        kill_during("create", step * 0.006)


@case
def command_line_killed_during_run():
    for step in range(12):
        kill_during("run", step * 0.008)


@case
def sentry_killed_during_start():
    for step in range(6):
        with Container(edited(process__args=["/bin/sh", "-c", "sleep 100"])) as container:
            start = subprocess.Popen(workspace.command("start", container.name), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(step * 0.003)
            pids = container.processes()
            os.kill(pids.get("sentry", pids.get("monitor", container.state()["pid"])), signal.SIGKILL)
            try:
                start.wait(20)
            except subprocess.TimeoutExpired:
                start.kill()
                start.wait()
                raise AssertionError("start hangs") from None
            until(lambda: container.status() == "stopped", f"it is {container.status()}")


# Guests that take what they can get.

def in_debian(script, limits=None, timeout=90, **process):
    """Runs a Python program in a Debian root; returns the result, with nothing left of it."""
    try:
        debian = debian_root.debian_root()
    except RuntimeError as problem:
        raise lib.Skip(str(problem)) from None
    config = lib.spec(args=["/usr/bin/python3", "-c", script], **process)
    config["root"]["readonly"] = True
    if limits:
        config["linux"]["resources"] = limits
    result = workspace.run(debian, config, timeout=timeout)
    true(result.status != "timeout", f"it hangs: {result}")
    check_nothing_left("none")
    return result


@case
def guest_exhausts_memory():
    result = in_debian("import os\npid = os.fork()\nif pid == 0:\n x = bytearray(1 << 20) * 400; x[::4096] = b'y' * len(x[::4096]); os._exit(0)\n"
                       "print(os.waitpid(pid, 0)[1] & 127)", {"memory": {"limit": 150 << 20}})
    # The kernel takes the child, which is the largest; a kill of the whole container is fair too.
    true((result.status, result.out) == (0, "9\n") or result.status == 137, str(result))


@case
def guest_exhausts_memory_as_its_only_process():
    result = in_debian("x = bytearray(1 << 20) * 400", {"memory": {"limit": 150 << 20}})
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
def guest_exhausts_threads():
    result = in_debian("import threading\ne = threading.Event(); l = []\nthreading.stack_size(65536)\ntry:\n for i in range(1000):\n  t = threading.Thread(target=e.wait); t.start(); l.append(t)\nexcept RuntimeError as x: print(x)\n"
                       "print(10 < len(l) < 120); e.set(); [t.join() for t in l]; print(threading.active_count())", {"pids": {"limit": 120}})
    equal((result.status, result.out), (0, "can't start new thread\nTrue\n1\n"), str(result))


@case
def guest_fills_a_tmpfs():
    result = in_debian("import os\nf = open('/dev/shm/x', 'wb', buffering=0); n = 0\ntry:\n while n < 1 << 30: n += f.write(b'z' * 65536)\nexcept OSError as e: print(e.errno, n >> 20)\n"
                       "os.unlink('/dev/shm/x'); f.close(); print(open('/dev/shm/y', 'wb').write(b'w' * 100000))")
    equal((result.status, result.out), (0, "28 64\n100000\n"), str(result))


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
    check_nothing_left("none")


def main():
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
    lib.main(cases, workspace.close)


if __name__ == "__main__":
    main()
