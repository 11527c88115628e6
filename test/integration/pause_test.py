#!/usr/bin/env python3
"""pause and resume, with a freezer and without, and thawed by somebody else: no call is lost or made twice."""

import os
import tempfile
import time

import box
import lib
from box import Container, edited, workspace
from lib import equal, true, until

cases = []
PLATFORMS = ("trap", "trap-notify-off", "ptrace")


def case(function):
    cases.append((function.__name__, function))
    return function


class Shared:
    """A directory of the host's that the container has as /shared."""

    def __init__(self, script):
        self.path = tempfile.mkdtemp(prefix="shared-", dir=workspace.directory)
        self.config = edited(process__args=["/bin/sh", "-c", script])
        self.config["mounts"].append({"destination": "/shared", "type": "bind", "source": self.path, "options": ["bind", "rw"]})

    def lines(self, name="out"):
        try:
            with open(os.path.join(self.path, name)) as file:
                return file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []


def runs(container, shared, what):
    count = len(shared.lines())
    until(lambda: len(shared.lines()) > count, what)


def stands(shared, what):
    count = len(shared.lines())
    time.sleep(0.2)
    equal(len(shared.lines()), count, what)


def command(container, *args):
    result = workspace.call(*args, container.name)
    equal(result.status, 0, f"{args}: {result.err}")


# Every number is one write(2); subshells keep forking new processes, whose calls are not patched yet.
COUNT = ("i=0; exec >>/shared/out; while :; do echo $i; i=$((i+1)); (echo $i); i=$((i+1)); "
         "j=0; while [ $j -lt 20 ]; do echo $i; i=$((i+1)); j=$((j+1)); done; done")


@case
def every_write_is_made_once():
    for platform in PLATFORMS:
        lib.RUNTIME_OPTIONS[:] = ["--platform=" + platform]
        shared = Shared(COUNT)
        with Container(shared.config, run=True) as container:
            for i in range(25):
                runs(container, shared, f"{platform}: it does not run")
                command(container, "pause")
                equal(container.status(), "paused", "status")
                if i % 8 == 0:
                    stands(shared, f"{platform}: it runs while paused")
                command(container, "resume")
            runs(container, shared, f"{platform}: it does not run in the end")
            command(container, "pause")
            lines = shared.lines()
            equal(lines, [str(i) for i in range(len(lines))], f"{platform}: what was written")


@case
def without_a_freezer():
    for platform in PLATFORMS:
        lib.RUNTIME_OPTIONS[:] = ["--platform=" + platform, "--ignore-cgroups"]
        shared = Shared(COUNT)
        with Container(shared.config, run=True) as container:
            for _ in range(5):
                runs(container, shared, f"{platform}: it does not run")
                command(container, "pause")
                stands(shared, f"{platform}: it runs while paused")
                equal(container.status(), "paused", "status")
                command(container, "resume")
                equal(container.status(), "running", "status")
            lines = shared.lines()
            equal(lines, [str(i) for i in range(len(lines))], f"{platform}: what was written")


def refused(container, why, *args):
    result = workspace.call(*args)
    true(result.status != 0 and why in result.err, f"{args}: {result}")


@case
def without_a_freezer_a_pause_is_one_too():
    lib.RUNTIME_OPTIONS[:] = ["--ignore-cgroups"]
    with Container(edited(process__args=["/bin/sleep", "1000"]), run=True) as container:
        refused(container, "not paused", "resume", container.name)
        command(container, "pause")
        equal(container.status(), "paused", "status")
        refused(container, "already paused", "pause", container.name)
        refused(container, "paused", "exec", container.name, "/bin/true")
        command(container, "resume")
        refused(container, "not paused", "resume", container.name)
        result = workspace.call("exec", container.name, "/bin/true")
        equal(result.status, 0, f"exec: {result.err}")


@case
def busy_and_sleeping_processes_come_back():
    lib.RUNTIME_OPTIONS[:] = []
    shared = Shared("(while :; do :; done) & (while :; do :; done) & sleep 2; echo slept >/shared/out; "
                    "while :; do echo on >>/shared/out; sleep 0.1; done")
    with Container(shared.config, run=True) as container:
        for _ in range(10):
            command(container, "pause")
            command(container, "resume")
        until(lambda: shared.lines()[:1] == ["slept"], "the sleeper")
        runs(container, shared, "it does not run")


@case
def thawed_by_somebody_else():
    lib.RUNTIME_OPTIONS[:] = []
    shared = Shared(COUNT)
    with Container(shared.config, run=True) as container:
        runs(container, shared, "it does not run")
        command(container, "pause")
        stands(shared, "it runs while paused")
        thawed = False
        for folder in lib.cgroups_named(container.name):
            for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if os.path.exists(os.path.join(folder, name)):
                    with open(os.path.join(folder, name), "w") as file:
                        file.write(text)
                    thawed = True
        true(thawed, "no freezer found")
        runs(container, shared, "it does not run when thawed by hand")
        result = workspace.call("resume", container.name)
        true(result.status != 0 and "not paused" in result.err, str(result))
        command(container, "pause")
        command(container, "resume")
        runs(container, shared, "it does not run again")


if __name__ == "__main__":
    box.main(cases)
