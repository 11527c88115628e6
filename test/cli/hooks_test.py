#!/usr/bin/env python3
"""Hooks: order, state, namespaces, failures, timeouts."""
import json
import os
import time

import harness
from harness import RunscTest


class Hooks(RunscTest):
    def setUp(self):
        super().setUp()
        self.out = os.path.join(self.dir, "out")
        self.spec["hooks"] = {}

    def hook(self, kind, script, **more):
        self.spec["hooks"].setdefault(kind, []).append(
            {"path": "/bin/sh", "args": ["sh", "-c", script], **more})

    def record(self, *kinds):
        for kind in kinds:
            self.hook(kind, f"echo {kind} >> {self.out}")

    def lines(self):
        with open(self.out) as f:
            return f.read().split()

    def test_order(self):
        self.record("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        self.create("c")
        self.assertEqual(self.lines(), ["prestart", "createRuntime", "createContainer"])
        self.ok("start", "c")
        self.assertEqual(self.lines()[3:], ["poststart"])
        self.ok("delete", "--force", "c")
        self.assertEqual(self.lines()[4:], ["poststop"])

    def test_state_on_stdin(self):
        self.hook("prestart", f"cat > {self.out}")
        self.spec["annotations"] = {"a": "b"}
        self.create("c")
        with open(self.out) as f:
            state = json.load(f)
        self.assertEqual((state["id"], state["status"], state["bundle"]),
                         ("c", "creating", self.bundle))
        self.assertEqual(state["annotations"], {"a": "b"})
        self.assertEqual(state["pid"], self.state("c")["pid"])

    def test_runtime_and_container_namespaces(self):
        self.hook("createRuntime", f"readlink /proc/self/ns/net >> {self.out}")
        self.hook("createContainer", f"readlink /proc/self/ns/net >> {self.out}")
        self.create("c")
        runtime, container = self.lines()
        self.assertEqual(runtime, os.readlink("/proc/self/ns/net"))
        self.assertEqual(container, os.readlink(f"/proc/{self.state('c')['pid']}/ns/net"))
        self.assertNotEqual(runtime, container)

    def test_state_can_be_asked_from_a_hook(self):
        self.hook("createRuntime", f"{harness.RUNSC} --root {self.root} state c > {self.out}")
        self.create("c")
        with open(self.out) as f:
            self.assertEqual(json.load(f)["status"], "creating")

    def test_environment(self):
        self.hook("prestart", f"echo $A $HOME > {self.out}", env=["A=1"])
        self.create("c")
        self.assertEqual(self.lines(), ["1"])

    def test_failure_ends_create_and_runs_poststop(self):
        self.hook("createRuntime", "echo this is why >&2; exit 3")
        self.record("poststop")
        self.write_spec()
        r = self.fails("create", "--bundle", self.bundle, "c",
                       text="error running createRuntime hook #0 (/bin/sh): exit status 3")
        self.assertIn("this is why", r.err)
        self.assertEqual(self.lines(), ["poststop"])
        self.assertEqual(os.listdir(self.root), [])

    def test_missing_hook(self):
        self.spec["hooks"]["prestart"] = [{"path": "/nonexistent"}]
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "c", text="/nonexistent")

    def test_timeout(self):
        self.hook("prestart", "sleep 100", timeout=1)
        self.write_spec()
        start = time.monotonic()
        self.fails("create", "--bundle", self.bundle, "c", text="not done after 1 seconds")
        self.assertLess(time.monotonic() - start, 20)

    def test_failing_poststart_and_poststop_are_only_logged(self):
        self.hook("poststart", "exit 1")
        self.hook("poststop", "exit 1")
        self.create("c")
        self.assertIn("poststart hook", self.runsc("start", "c").err)
        self.assertEqual(self.status("c"), "running")
        r = self.runsc("delete", "--force", "c")
        self.assertEqual(r.code, 0)
        self.assertIn("poststop hook", r.err)

    def test_no_descriptors_leak_into_a_hook(self):
        self.hook("prestart", f"ls /proc/self/fd > {self.out}")
        self.create("c")
        self.assertLessEqual(set(self.lines()), {"0", "1", "2", "3"})  # 3 is that of ls.


if __name__ == "__main__":
    harness.main()
