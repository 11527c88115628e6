#!/usr/bin/env python3
"""Sandboxes that run for long: what a guest or an operator does again and again leaves nothing behind in sentry, gofer and monitor.

Each case does the same in a sandbox of its own, first as a warm-up, which fills caches, then more often; and then memory,
descriptors and processes are what they were, but for a little. Counts are such that a leak at each event is well above that.
"""

import json
import os
import re
import select
import subprocess

import box
import debian_root
import lib
from box import check_nothing_left, new_name, workspace
from lib import equal, true, until

# What may come beside: heaps of threads that happened to run at once, stubs that are kept ready.
SLACK = {"memory": 1024, "files in memory": 1024, "descriptors": 40, "threads": 24, "processes": 24}  # KiB; numbers.
# A sentry with a sanitizer keeps what was freed.
MEMORY = "CAISSON_MEMORY_FACTOR" not in os.environ
ALL_CAPABILITIES = ["CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_CHROOT "
    "SYS_PTRACE SYS_ADMIN SYS_NICE SYS_RESOURCE MKNOD SETFCAP").split()]
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", file.read(), re.M)}


def descriptors(pid):
    return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]


def files_in_memory(pid):
    """KiB of the memfds that it has open, each once."""
    blocks = {}
    for path in descriptors(pid):
        try:
            if os.readlink(path).startswith("/memfd:"):
                about = os.stat(path)
                blocks[about.st_ino] = about.st_blocks // 2
        except FileNotFoundError:
            pass
    return sum(blocks.values())


def below(pid):
    """How many processes, zombies too, are below it."""
    found = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children = file.read().split()
            found += len(children) + sum(map(below, children))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class Sandbox:
    """One with growth_guest.py in it; `with` removes it."""

    def __init__(self):
        try:
            debian = debian_root.debian_root()
        except RuntimeError as problem:
            raise lib.Skip(str(problem)) from None
        if not lib.OURS:
            raise lib.Skip("there is nothing that could grow")
        self.name = new_name()
        bind = os.path.join(workspace.directory, self.name)
        os.mkdir(bind)
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "growth_guest.py")) as file:
            config = lib.spec(args=["/usr/bin/python3", "-c", file.read()],
                              capabilities={kind: ALL_CAPABILITIES for kind in ("bounding", "effective", "permitted")})
        config["root"]["readonly"] = True
        config["mounts"].append({"destination": "/mnt", "type": "bind", "source": bind, "options": ["bind", "rw"]})
        self.process = subprocess.Popen(workspace.command("run", "--bundle", workspace.bundle(debian, config), self.name),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.expect("ready", "the guest starts")
        with open(os.path.join(workspace.state, os.path.basename(lib.RUNTIME), self.name, "state.json")) as file:
            state = json.load(file)
        self.pids = {kind: state[kind]["pid"] for kind in ("sentry", "gofer", "monitor")}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        workspace.call("delete", "--force", self.name)
        lib.end(self.process, 20)
        self.process.stdin.close()
        self.process.stdout.close()
        if kind is None:
            check_nothing_left(self.name)

    def expect(self, wanted, what):
        true(select.select([self.process.stdout], [], [], 120)[0], f"{what}: no answer")
        equal(self.process.stdout.readline().decode().strip(), wanted, what)

    def do(self, activity, count):
        self.process.stdin.write(f"{activity} {count}\n".encode())
        self.process.stdin.flush()
        self.expect("done", f"{activity} {count} times")

    def sizes(self):
        found = {("sentry", "files in memory"): files_in_memory(self.pids["sentry"]),
                 ("sentry", "processes"): below(self.pids["sentry"])}
        for kind, pid in self.pids.items():
            about = status(pid)
            found[kind, "memory"] = about["RssAnon"] + about["VmSwap"] if MEMORY else 0
            found[kind, "descriptors"] = len(descriptors(pid))
            found[kind, "threads"] = about["Threads"]
        return found

    def stays(self, work, warm_up, times, slack=None):
        """work(n) does it n times. Growth is looked at until it is none: processes and threads end after their parents have
        heard of it, and a sentry that is busy may need its time; what has leaked does not go."""
        work(warm_up)
        before = self.sizes()
        work(times)
        seen = {}

        def grown():
            seen.update({f"{kind}'s {what}": f"{size} after {before[kind, what]}" for (kind, what), size in self.sizes().items()})
            return {(kind, what) for (kind, what), size in self.sizes().items()
                    if size - before[kind, what] > (slack or {}).get(what, SLACK[what])}

        try:
            until(lambda: not grown(), "", 15)
        except AssertionError:
            what = ", ".join(f"{kind}'s {what}" for kind, what in sorted(grown()))
            raise AssertionError(f"{what} grown in {times} rounds: {seen}") from None


def again_and_again(activities, slack=None):
    """`activities`: how often each, the warm-up first."""
    with Sandbox() as sandbox:
        for activity, (warm_up, times) in activities.items():
            sandbox.stays(lambda count, activity=activity: sandbox.do(activity, count), warm_up, times, slack)


@case
def processes():
    again_and_again({"process": (80, 640), "dump_core": (3, 50)})


@case
def programs():
    again_and_again({"program": (24, 360)})


@case
def threads():
    again_and_again({"thread": (60, 600), "threads_end": (9, 90)})


@case
def sockets_in_messages():
    again_and_again({"sockets": (800, 3200), "socket_cycles": (1000, 3000)}, {"memory": 3072})


@case
def files_to_wait_for():
    again_and_again({"waiting": (100, 1500), "terminal": (40, 320)})


@case
def names_on_a_tmpfs():
    again_and_again({"names": (100, 1200)})


@case
def names_on_the_host():
    again_and_again({"host_names": (40, 400)})


@case
def names_that_are_missing():
    """A cache that has an end: 16384 names of each file system."""
    again_and_again({"missing_names": (20000, 20000)})


@case
def memory_of_all_kinds():
    again_and_again({"memory": (100, 1000)})


@case
def timers_and_attributes():
    again_and_again({"timers": (200, 3000)})


@case
def mounts():
    again_and_again({"mounts": (20, 200)})


@case
def namespaces():
    again_and_again({"namespaces": (60, 240)})


@case
def files_of_proc():
    again_and_again({"proc_files": (8, 100)})


@case
def processes_from_outside():
    """exec in the background, in the foreground, and killed there."""
    with Sandbox() as sandbox:
        def work(count):
            for i in range(count):
                if i % 16 == 0:
                    process = subprocess.Popen(workspace.command("exec", sandbox.name, "/bin/sleep", "0.1"), stdin=subprocess.DEVNULL)
                    process.kill()
                    process.wait()
                else:
                    equal(workspace.call("exec", *["--detach"][:i % 2], sandbox.name, "/bin/true").status, 0, "exec")
            # What nobody waits for is its first process's.
            sandbox.do("orphans", 1)

        sandbox.stays(work, 60, 200, {"memory": 512})


@case
def looks_from_outside():
    with Sandbox() as sandbox:
        def work(count):
            for _ in range(count):
                for command in (["ps"], ["events", "--stats"], ["pause"], ["resume"], ["debug", "--histograms", "on"], ["metrics"],
                                ["debug", "--histograms", "off"], ["debug", "--stacks"], ["state"], ["kill", "CONT"]):
                    at = command[1:] if command[0] != "kill" else []
                    tail = command[1:] if command[0] == "kill" else []
                    equal(workspace.call(command[0], *at, sandbox.name, *tail).status, 0, str(command))

        sandbox.stays(work, 3, 12)


if __name__ == "__main__":
    box.main(cases)
