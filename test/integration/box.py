"""Containers that go wrong, for errors_test.py, deaths_test.py, greed_test.py and growth_test.py, and the check that
nothing of them is left."""

import json
import os
import shutil
import signal
import subprocess
import uuid

import lib
from lib import equal, true, until

workspace = lib.Workspace()
root = os.path.join(workspace.directory, "busybox")


def new_name():
    return "it-" + uuid.uuid4().hex[:10]


def check_nothing_left(name, mounts=()):
    """`mounts` are those that belong there."""
    states = os.path.join(workspace.state, os.path.basename(lib.RUNTIME))
    true(not os.path.exists(os.path.join(states, name)), "state is left")
    until(lambda: lib.cgroups_named(name) == [], f"cgroups are left: {lib.cgroups_named(name)}", 5)
    equal(lib.mounts_below(workspace.directory), list(mounts), "mounts are left")
    until(lambda: not lib.processes_with(name), f"processes are left: {lib.processes_with(name)}", 10)


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


class Container:
    """One that is created from a bundle; `with` removes it and checks that nothing is left."""

    def __init__(self, config, run=False):
        self.name = new_name()
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


def main(cases):
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
    lib.main(cases, workspace.close)
