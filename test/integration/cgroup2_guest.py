"""Containers with limits where all controllers are in cgroup v2: a part of the machine that old_kernel_test.py boots.

Which controllers are where is decided for a whole host, and many hosts of tests have cgroup v1: nothing there shows what
becomes of linux.resources under v2.
"""

import json
import os
import re
import subprocess

import lib
from lib import equal, true

MEMORY = 96 << 20
PIDS = 12
RESOURCES = {
    "limited": {"memory": {"limit": MEMORY, "reservation": MEMORY // 2, "swap": MEMORY},
                "cpu": {"quota": 30000, "period": 100000, "shares": 512, "cpus": "0", "mems": "0"},
                "pids": {"limit": PIDS}, "unified": {"memory.high": str(MEMORY - 4096), "cgroup.max.depth": "3"}},
    "hog": {"memory": {"limit": MEMORY, "swap": MEMORY}},
    "swapless": {"memory": {"limit": MEMORY, "swap": MEMORY - 1}},
}
# One process of many small ones; `sleep` is the container's own, so that a failure of a fork is seen.
FORKS = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i + 1)); done; echo not reached"
SPIN = "i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done"

# What is below `part` runs in the machine, with `say` (old_kernel_test.py).
SCRIPT = """
G=/sys/fs/cgroup/a/b/limited
files() { cd $G && for f in memory.max memory.low memory.swap.max memory.high cpu.max cpu.weight cpuset.cpus cpuset.mems pids.max cgroup.max.depth; do
  [ -e $f ] && echo $f $(cat $f); done; cd /; }
enabled() { cat /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/a/b/cgroup.subtree_control; }
# Of the runtime's processes none is elsewhere.
members() { for p in $(cat $G/cgroup.procs); do cat /proc/$p/cgroup; done | sort | uniq -c | sed 's/^ *//'; }
strangers() { cat /proc/[0-9]*/cgroup | grep -c /a/b/limited; wc -l <$G/cgroup.procs; }
frozen() { grep frozen $G/cgroup.events; runsc state limited | grep status; }
throttled() { [ $(sed -n 's/^nr_throttled //p' $G/cpu.stat) -gt 0 ] && echo throttled; }
stats() { runsc events --stats limited; }
hog() { runsc run --bundle /bundles/hog --keep hog; status=$?; cat /sys/fs/cgroup/hog/memory.events /sys/fs/cgroup/hog/memory.max; return $status; }
gone() { find /sys/fs/cgroup -mindepth 1 -type d ! -path /sys/fs/cgroup/a ! -path /sys/fs/cgroup/a/b; ls /run/caisson; }
say v2.controllers cat /sys/fs/cgroup/cgroup.controllers
say v2.run runsc run --bundle /bundles/limited -d limited
say v2.files files
say v2.enabled enabled
say v2.members members
say v2.strangers strangers
say v2.inside runsc exec limited sh -c "grep MemTotal /proc/meminfo; nproc"
say v2.exec runsc exec limited sh -c "exit 5"
say v2.spin runsc exec limited sh -c 'SPIN'
say v2.throttled throttled
say v2.pause runsc pause limited
say v2.paused frozen
say v2.resume runsc resume limited
say v2.resumed frozen
say v2.forks runsc exec limited sh -c 'FORKS'
say v2.stats stats
say v2.update runsc update --memory 67108864 --memory-swap 67108864 --cpu-quota 50000 --pids-limit 7 --cpu-share 1024 limited
say v2.updated files
say v2.delete runsc delete --force limited
say v2.gone gone
say v2.hog hog
say v2.hog.delete runsc delete hog
say v2.swapless runsc run --bundle /bundles/swapless swapless
say v2.rest gone
"""


def script():
    return SCRIPT.replace("SPIN", SPIN).replace("FORKS", FORKS)


def make(bundles):
    for name, resources in RESOURCES.items():
        root = os.path.join(bundles, name, "rootfs")
        subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
        # The size of what the guest takes is bounded by itself too.
        # Not a file: files in memory end below the limit (ENOSPC).
        args = ["/bin/sh", "-c", "head -c 400m /dev/zero | tail -c 400m >/dev/null" if name == "hog" else "sleep 600"]
        config = lib.spec(args=args)
        config["linux"].update(resources=resources, cgroupsPath="/a/b/limited" if name == "limited" else "/" + name)
        with open(os.path.join(bundles, name, "config.json"), "w") as file:
            json.dump(config, file)


def cases(said):
    def output(name, status=0):
        text, actual = said(name)
        equal(actual, status, f"status of {name}, which said {text!r}")
        return text

    def pairs(name):
        return dict(line.split(" ", 1) for line in output(name).splitlines())

    def controllers():
        have = output("v2.controllers").split()
        for name in ("cpuset", "cpu", "memory", "pids"):
            true(name in have, f"no {name} among {have}: the case shows nothing")

    def limits():
        controllers()
        output("v2.run")
        equal(pairs("v2.files"), {
            "memory.max": str(MEMORY), "memory.low": str(MEMORY // 2), "memory.swap.max": "0",
            "memory.high": str(MEMORY - 4096), "cpu.max": "30000 100000", "cpu.weight": "20", "cpuset.cpus": "0",
            "cpuset.mems": "0", "pids.max": str(PIDS * 4 + 64), "cgroup.max.depth": "3"}, "limits")
        root, parent = output("v2.enabled").splitlines()
        equal(set(parent.split()), set(root.split()), "controllers that the parent hands on")

    def members():
        count, path = output("v2.members").split()
        equal(path, "0::/a/b/limited", "cgroup")
        true(int(count) >= 3, f"{count} processes: monitor, sentry and gofer at least")
        everywhere, there = output("v2.strangers").split()
        equal(everywhere, there, "processes that name the cgroup, and those in it")

    def inside():
        equal(re.sub(" +", " ", output("v2.inside")).splitlines(), [f"MemTotal: {MEMORY >> 10} kB", "1"], "limits, seen inside")
        output("v2.exec", 5)

    def throttling():
        output("v2.spin")
        equal(output("v2.throttled"), "throttled\n", "cpu.stat")

    def freezer():
        for verb, number, status in (("pause", 1, "paused"), ("resume", 0, "running")):
            output("v2." + verb)
            text = output(f"v2.{verb}d")
            true(f"frozen {number}\n" in text and f'"{status}"' in text, text)

    def pids():
        text = output("v2.forks", 2)
        true("can't fork" in text and "not reached" not in text, text)

    def stats():
        data = json.loads(output("v2.stats"))["data"]
        equal(data["memory"]["usage"]["limit"], MEMORY, "memory limit")
        equal(data["pids"]["limit"], PIDS, "pids limit")
        for path in (("memory", "usage", "usage"), ("cpu", "usage", "total"), ("cpu", "throttling", "throttledPeriods"),
                     ("cpu", "throttling", "throttledTime"), ("memory", "raw", "anon")):
            value = data
            for key in path:
                value = value[key]
            true(value > 0, f"{path}: {value}")

    def update():
        output("v2.update")
        files = pairs("v2.updated")
        equal({key: files[key] for key in ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cpu.weight")},
              {"memory.max": str(64 << 20), "memory.swap.max": "0", "cpu.max": "50000 100000", "pids.max": "92",
               "cpu.weight": "39"}, "updated limits")

    def delete():
        output("v2.delete")
        equal(output("v2.gone"), "", "left of cgroups and state")

    def out_of_memory():
        text = output("v2.hog", 137)
        true(re.search(r"^oom_kill [1-9]", text, re.M) and str(MEMORY) in text.split(), text)
        output("v2.hog.delete")

    def refusal():
        text, status = said("v2.swapless")
        true(status == 1 and "the swap limit is below the memory limit" in text, f"{status}: {text}")
        equal(output("v2.rest"), "", "left of cgroups and state")

    return [("cgroup2_" + function.__name__, function) for function in (
        limits, members, inside, throttling, freezer, pids, stats, update, delete, out_of_memory, refusal)]
