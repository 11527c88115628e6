#!/usr/bin/env python3
"""Each process of a sandbox, and the command line, is killed at each stage of create, start and run.

Whatever dies when, every command ends, `delete --force` removes what is left, and afterwards there is no
process, no mount, no cgroup and no state.
"""

import json
import os
import shutil
import signal
import subprocess
import time

import box
import lib
from box import Container, check_nothing_left, edited, new_name, root, workspace
from lib import equal, true, until

ROLES = ("monitor", "sentry", "gofer")
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


def add(name, function, *args):
    cases.append((name, lambda: function(*args)))


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# While nothing happens: created, running after start, running under run.

def kill_at_rest(stage, victim):
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
        kill(pids[victim])
        until(lambda: container.status() in ("stopped", None), f"it is {container.status()}")
        result = workspace.call("exec", container.name, "/bin/true")
        true(result.status not in (0, "timeout"), "exec after that works")
        if container.process is not None:
            true(container.process.wait(10) not in (0, None), "run has ended with status 0")


for stage in ("created", "started", "run"):
    for victim in ROLES:
        add(f"{victim}_killed_when_{stage}", kill_at_rest, stage, victim)


# While a command is at work.

class Running:
    """create or run, which something happens to; finish() checks that it ends and that nothing is left."""

    def __init__(self, command, config):
        self.name = new_name()
        config["root"]["path"] = root
        self.bundle = workspace.bundle(root, None)
        workspace.write(self.bundle, json.dumps(config))
        self.process = subprocess.Popen(workspace.command(command, "--bundle", self.bundle, self.name),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        self.seen = set()

    def pids(self):
        """All processes below the command, and what it left in its cgroup."""
        found = descendants(self.process.pid)
        for path in lib.cgroups_named(self.name):
            try:
                with open(os.path.join(path, "cgroup.procs")) as file:
                    found += [int(pid) for pid in file.read().split() if pid != "0"]
            except OSError:
                pass
        self.seen |= set(found)
        return found

    def finish(self):
        self.pids()
        try:
            # `run` may be so far that the container runs until it is deleted.
            self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
        self.pids()
        result = workspace.call("delete", "--force", self.name)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            kill(self.process.pid)
            self.process.wait()
            raise AssertionError("the command hangs") from None
        equal(result.status, 0, f"delete --force: {result.err}")
        # What create made after that delete, if it was still at work.
        equal(workspace.call("delete", "--force", self.name).status, 0, "the second delete --force")
        until(lambda: not any(map(lib.alive, self.seen)),
              f"processes are left: {[pid for pid in self.seen if lib.alive(pid)]}", 10)
        check_nothing_left(self.name)
        shutil.rmtree(self.bundle)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def descendants(pid):
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def find(command, role):
    """The monitor is the command's child; sentry and gofer are the monitor's, in this order."""
    for monitor in children(command):
        if role == "monitor":
            return monitor
        below = children(monitor)
        at = ("sentry", "gofer").index(role)
        if len(below) > at:
            return below[at]
    return None


def kill_in_command(command, victim):
    """As soon as it exists, and at some later moments until the command is done."""
    struck = 0
    delays = (0, 0.001, 0.004, 0.010, 0.020)
    for delay in delays + delays:  # A second time: who looks while others are at work may come too late.
        if struck == len(delays):
            break
        running = Running(command, edited(process__args=["/bin/sleep", "100"]))
        deadline = time.monotonic() + 10
        pid = None
        while pid is None and running.process.poll() is None and time.monotonic() < deadline:
            pid = find(running.process.pid, victim)
        if pid is not None:
            time.sleep(delay)
            kill(pid)
            struck += 1
        running.finish()
    if lib.OURS:
        true(struck >= 3, f"only {struck} of {2 * len(delays)} were alive to be killed")


for command in ("create", "run"):
    for victim in ROLES:
        add(f"{victim}_killed_during_{command}", kill_in_command, command, victim)


def kill_in_start(victim):
    for delay in (0, 0.001, 0.003, 0.006):
        with Container(edited(process__args=["/bin/sh", "-c", "sleep 100"])) as container:
            pids = container.processes()
            if victim not in pids:
                raise lib.Skip(f"this runtime has no {victim}")
            start = subprocess.Popen(workspace.command("start", container.name), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            container.pids |= set(container.cgroup_pids())
            kill(pids[victim])
            try:
                start.wait(20)
            except subprocess.TimeoutExpired:
                kill(start.pid)
                start.wait()
                raise AssertionError("start hangs") from None
            until(lambda: container.status() == "stopped", f"it is {container.status()}")


for victim in ROLES:
    add(f"{victim}_killed_during_start", kill_in_start, victim)


# At a known moment: a hook does it. Its standard input has the state, with the monitor's pid.

def kill_in_hook(stage, victim):
    which = {"monitor": "kill -9 $pid", "sentry": "set -- $below; kill -9 $1", "gofer": "set -- $below; kill -9 $2"}
    script = ("pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -dc 0-9); "
              "below=$(cat /proc/$pid/task/$pid/children); echo \"$pid $below\" >PATH; " + which[victim])
    config = edited(process__args=["/bin/sleep", "100"])
    trace = os.path.join(workspace.directory, "hook")
    config["hooks"] = {stage: [{"path": "/bin/sh", "args": ["sh", "-c", script.replace("PATH", trace)], "timeout": 10}]}
    running = Running("run", config)
    until(lambda: os.path.exists(trace) and os.stat(trace).st_size > 1, "the hook did not run")
    with open(trace) as file:
        running.seen |= {int(pid) for pid in file.read().split()}
    os.unlink(trace)
    if victim != "monitor" or stage != "poststart":
        try:
            status = running.process.wait(20)
        except subprocess.TimeoutExpired:
            status = 0
        true(status != 0, "run goes on, or ends with 0")
    running.finish()


for stage in ("prestart", "createRuntime", "createContainer"):
    add(f"monitor_killed_by_a_{stage}_hook", kill_in_hook, stage, "monitor")
for victim in ROLES:
    add(f"{victim}_killed_by_a_poststart_hook", kill_in_hook, "poststart", victim)


# The command line itself.

def kill_command(command, step):
    delays = [i * step for i in range(10)]
    for delay in delays:
        running = Running(command, edited(process__args=["/bin/sleep", "100"]))
        time.sleep(delay)
        running.pids()
        kill(running.process.pid)
        running.process.wait()
        running.finish()


add("command_line_killed_during_create", kill_command, "create", 0.006)
add("command_line_killed_during_run", kill_command, "run", 0.008)


@case
def command_line_killed_during_start_and_delete():
    for command in ("start", "delete"):
        for delay in (0, 0.001, 0.003, 0.006):
            with Container(edited(process__args=["/bin/sleep", "100"])) as container:
                process = subprocess.Popen(workspace.command(command, *(["--force"] if command == "delete" else []),
                                                             container.name),
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL)
                time.sleep(delay)
                kill(process.pid)
                process.wait()
                true(container.status() in ("created", "running", "stopped", None), container.status())


# exec has a monitor of its own.

@case
def monitor_of_an_exec_killed():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        equal(workspace.call("start", container.name).status, 0, "start")
        pid_file = os.path.join(workspace.directory, "exec.pid")
        result = workspace.call("exec", "--detach", "--pid-file", pid_file, container.name, "/bin/sleep", "4321")
        equal(result.status, 0, result.err)
        shows = lambda: "4321" in workspace.call("exec", container.name, "/bin/ps").out
        until(shows, "it does not run")
        with open(pid_file) as file:
            kill(int(file.read()))
        os.unlink(pid_file)
        until(lambda: not shows(), "its process lives on")
        equal(container.status(), "running", "the container")


@case
def stub_killed():
    """The host's OOM killer may take a guest process; the others go on."""
    with Container(edited(process__args=["/bin/sh", "-c", "while :; do sleep 0.05 & wait $!; echo $? >/tmp/status; done"])) as container:
        known = set(container.processes().values())
        equal(workspace.call("start", container.name).status, 0, "start")
        until(lambda: workspace.call("exec", container.name, "/bin/cat", "/tmp/status").out == "0\n", "it does not run")
        workspace.call("exec", container.name, "/bin/sh", "-c", "sleep 77 & echo $! >/tmp/pid")
        below = [pid for pid in container.cgroup_pids() if pid not in known and comm(pid) == "sleep"]
        container.pids |= set(container.cgroup_pids())
        for pid in below:
            kill(pid)
        equal(container.status(), "running", "status")
        equal(workspace.call("exec", container.name, "/bin/echo", "fine").out, "fine\n", "exec")


def stopped_and_continued(platform):
    """The host may stop any process of a sandbox, as a debugger or an operator does: timed waits are restarted."""
    saved = list(lib.RUNTIME_OPTIONS)
    if lib.OURS:
        lib.RUNTIME_OPTIONS += ["--platform=" + platform]
    try:
        script = "i=0; while :; do i=$((i+1)); echo $i | cat >/tmp/x; sleep 0.02; cp /tmp/x /tmp/y; mv /tmp/y /tmp/count; done"
        with Container(edited(process__args=["/bin/sh", "-c", script])) as container:
            equal(workspace.call("start", container.name).status, 0, "start")
            count = lambda: int("0" + workspace.call("exec", container.name, "/bin/cat", "/tmp/count").out.strip())
            until(lambda: count() > 0, "it does not run")
            for pid in container.cgroup_pids():
                if not lib.alive(pid):
                    continue
                name = comm(pid)
                try:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.1)  # Long enough for what waits with a time limit to be inside its call.
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    continue
                equal(container.status(), "running", f"status after a stop of {name}")
                before = count()
                until(lambda: count() > before, f"it does not go on after a stop of {name}")
    finally:
        lib.RUNTIME_OPTIONS[:] = saved


for which in ("trap", "trap-notify-off", "ptrace"):
    add(f"each_stopped_and_continued_on_{which.replace('-', '_')}", stopped_and_continued, which)


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    box.main(cases)
