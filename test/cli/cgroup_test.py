#!/usr/bin/env python3
"""Placement, limits, freezing, updates and statistics."""
import json
import os
import subprocess
import unittest

import harness
from harness import RunscTest, cgroups_of

V1 = "/sys/fs/cgroup/memory"


def read(path):
    with open(path) as f:
        return f.read().strip()


@unittest.skipUnless(os.path.isdir(V1) and os.access(V1, os.W_OK), "no writable cgroup v1 here")
class Cgroups(RunscTest):
    def setUp(self):
        super().setUp()
        self.name = f"{self.cgroup}/c"

    def groups(self):
        """Directories of the container's cgroup."""
        return [os.path.join(p, "c") for p in cgroups_of(self.cgroup)
                if os.path.isdir(os.path.join(p, "c"))]

    def file(self, controller, name):
        return f"/sys/fs/cgroup/{controller}/{self.name}/{name}"

    def limits(self, **resources):
        self.spec["linux"]["resources"] = resources

    def test_all_processes_are_in_it(self):
        self.create("c")
        with open(os.path.join(self.root, "c", "state.json")) as f:
            state = json.load(f)
        pids = {str(state[p]["pid"]) for p in ("monitor", "sentry", "gofer")}
        for controller in ("memory", "pids", "freezer", "cpuset"):
            self.assertLessEqual(pids, set(read(self.file(controller, "cgroup.procs")).split()))
        self.ok("delete", "c")
        self.assertEqual(self.groups(), [])

    def test_limits(self):
        self.limits(memory={"limit": 200 << 20}, pids={"limit": 100},
                    cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"})
        self.create("c")
        self.assertEqual(read(self.file("memory", "memory.limit_in_bytes")), str(200 << 20))
        self.assertEqual(read(self.file("pids", "pids.max")), "464")
        self.assertEqual(read(self.file("cpu", "cpu.shares")), "512")
        self.assertEqual(read(self.file("cpu", "cpu.cfs_quota_us")), "50000")
        self.assertEqual(read(self.file("cpuset", "cpuset.cpus")), "0")

    def test_a_limit_that_cannot_be_is_an_error(self):
        self.limits(cpu={"cpus": "4000"})
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", text="cgroup cpuset")
        self.assertEqual(self.groups(), [])

    def test_unified_is_refused_on_v1(self):
        self.limits(unified={"memory.high": "1"})
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", text="linux.resources.unified")

    def test_occupied_cgroup_is_refused(self):
        self.create("c")
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "d", text="has processes in it")
        self.assertEqual(self.status("c"), "created")
        self.assertTrue(self.groups())

    def test_paths_cannot_climb(self):
        self.spec["linux"]["cgroupsPath"] = "/../../../" + self.name
        self.write_spec()
        self.ok("create", "--bundle", self.bundle, "c")
        self.assertTrue(os.path.isdir(f"{V1}/{self.name}"))

    def test_pause_and_resume(self):
        self.create("c")
        self.ok("start", "c")
        self.ok("pause", "c")
        self.assertEqual(self.status("c"), "paused")
        self.assertEqual(read(self.file("freezer", "freezer.state")), "FROZEN")
        self.fails("exec", "c", "exit", "0", text="paused", code=255)
        self.ok("ps", "--format", "json", "c")
        self.ok("resume", "c")
        self.assertEqual(self.status("c"), "running")
        self.fails("resume", "c", text="not paused")

    def test_paused_one_is_killed_and_deleted(self):
        self.create("c")
        self.ok("start", "c")
        self.ok("pause", "c")
        self.ok("kill", "c", "KILL")
        self.await_status("c", "stopped")
        self.ok("delete", "c")
        self.create("c")
        self.ok("start", "c")
        self.ok("pause", "c")
        self.ok("delete", "--force", "c")

    def test_update(self):
        self.limits(memory={"limit": 100 << 20})
        self.create("c")
        self.ok("update", "--memory", str(300 << 20), "--pids-limit", "10", "c")
        self.assertEqual(read(self.file("memory", "memory.limit_in_bytes")), str(300 << 20))
        self.assertEqual(read(self.file("pids", "pids.max")), "104")
        shares = 300
        for form in (["--resources", "-"], ["--resources=-"], ["-r", "-"]):
            shares += 1
            with open(os.path.join(self.dir, "r.json"), "w+") as f:
                json.dump({"cpu": {"shares": shares}}, f)
                f.seek(0)
                self.ok("update", *form, "c", stdin=f)
            self.assertEqual(read(self.file("cpu", "cpu.shares")), str(shares))
        self.fails("update", "--resources", "/nonexistent", "c", text="/nonexistent")

    def test_stats(self):
        self.limits(memory={"limit": 100 << 20}, pids={"limit": 100})
        self.create("c")
        self.ok("start", "c")
        event = json.loads(self.ok("events", "--stats", "c"))
        self.assertEqual((event["type"], event["id"]), ("stats", "c"))
        self.assertEqual(event["data"]["memory"]["usage"]["limit"], 100 << 20)
        self.assertEqual(event["data"]["pids"]["limit"], 100)
        self.assertGreater(event["data"]["cpu"]["usage"]["total"], 0)

    def test_ignore_cgroups(self):
        self.write_spec()
        self.ok("create", "--bundle", self.bundle, "c", globals_=["--ignore-cgroups"])
        self.assertEqual(self.groups(), [])

    def test_systemd_is_refused_clearly(self):
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", globals_=["--systemd-cgroup"],
                   text="--systemd-cgroup is not supported yet")


@unittest.skipUnless(os.path.isdir("/sys/fs/cgroup/unified") and os.geteuid() == 0,
                     "no hybrid hierarchy here to make the others of")
class OtherHierarchies(RunscTest):
    """The commands in a mount namespace whose cgroup mounts are others."""

    def shell(self, script):
        self.write_spec()
        runsc = f"{harness.RUNSC} --root {self.root}"
        script = f"set -e; G={self.cgroup}/c; R='{runsc}'; B={self.bundle}; mount --make-rprivate /; {script}"
        r = subprocess.run(["unshare", "--mount", "sh", "-c", script], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def test_v1_alone(self):
        out = self.shell("umount /sys/fs/cgroup/unified; $R create --bundle $B c </dev/null >/dev/null "
                         "2>&1; cat $(dirname $B)/state/c/state.json; $R delete c")
        paths = json.loads(out)["cgroupPaths"]
        self.assertIn("memory", paths)
        self.assertNotIn("", paths)

    def test_v2_alone(self):
        out = self.shell("umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; "
                         "$R create --bundle $B c </dev/null >/dev/null 2>&1; $R start c; "
                         "cat /sys/fs/cgroup/$G/cgroup.procs; $R pause c; "
                         "cat /sys/fs/cgroup/$G/cgroup.freeze; $R state c | grep status; "
                         "$R resume c; $R delete --force c; test ! -d /sys/fs/cgroup/$G")
        lines = out.split()
        self.assertGreaterEqual(len(lines), 4)
        self.assertIn('"paused",', lines)


if __name__ == "__main__":
    harness.main()
