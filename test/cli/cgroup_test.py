#!/usr/bin/env python3
"""Placement, limits, freezing, updates and statistics."""
import json
import os
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
        self.name = f"caisson-test-{os.getpid()}"
        self.ids.add(self.name)
        self.spec["linux"]["cgroupsPath"] = "/" + self.name

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
        self.assertEqual(cgroups_of(self.name), [])

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
        self.assertEqual(cgroups_of(self.name), [])

    def test_unified_is_refused_on_v1(self):
        self.limits(unified={"memory.high": "1"})
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", text="linux.resources.unified")

    def test_occupied_cgroup_is_refused(self):
        self.create("c")
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "d", text="has processes in it")
        self.assertEqual(self.status("c"), "created")
        self.assertTrue(cgroups_of(self.name))

    def test_paths_cannot_climb(self):
        self.spec["linux"]["cgroupsPath"] = "/../../../" + self.name
        self.create("c")
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
        self.assertEqual(cgroups_of(self.name), [])

    def test_systemd_is_refused_clearly(self):
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", globals_=["--systemd-cgroup"],
                   text="--systemd-cgroup is not supported yet")


if __name__ == "__main__":
    harness.main()
