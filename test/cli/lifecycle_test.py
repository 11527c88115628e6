#!/usr/bin/env python3
"""create, start, run, exec, kill, delete, state, list, wait."""
import json
import os
import signal
import subprocess

import harness
from harness import RunscTest, alive, await_true


class Lifecycle(RunscTest):
    def test_create_start_kill_delete(self):
        pid_file = os.path.join(self.dir, "pid")
        self.create("c", "--pid-file", pid_file)
        state = self.state("c")
        self.assertEqual((state["id"], state["status"], state["bundle"]),
                         ("c", "created", self.bundle))
        self.assertEqual(state["rootfs"], os.path.join(self.bundle, "rootfs"))
        self.assertEqual(state["owner"], "root")
        with open(pid_file) as f:
            self.assertEqual(int(f.read()), state["pid"])
        self.ok("start", "c")
        self.assertEqual(self.status("c"), "running")
        self.fails("start", "c", text="cannot start an already running container")
        self.fails("delete", "c", text="is not stopped: running")
        self.ok("kill", "c", "KILL")
        self.await_status("c", "stopped")
        self.assertEqual(self.state("c")["pid"], 0)
        self.assertFalse(alive(state["pid"]))
        self.fails("kill", "c", text="container not running")
        self.ok("kill", "--all", "c", "9")
        self.fails("start", "c", text="cannot start a container that has stopped")
        self.fails("exec", "c", "true", text="container not running", code=255)
        self.ok("delete", "c")
        self.fails("state", "c", text="does not exist")

    def test_duplicate_id(self):
        self.create("c")
        self.fails("create", "--bundle", self.bundle, "c", text="already exists")
        self.assertEqual(self.status("c"), "created")

    def test_created_one_is_deleted_without_force(self):
        self.create("c")
        pid = self.state("c")["pid"]
        self.ok("delete", "c")
        self.assertFalse(alive(pid))

    def test_running_one_is_deleted_with_force(self):
        self.create("c")
        pid = self.state("c")["pid"]
        self.ok("start", "c")
        self.ok("delete", "--force", "c")
        self.assertFalse(alive(pid))

    def test_signals_by_name_and_number(self):
        for name in ("15", "TERM", "SIGTERM", "sigterm"):
            self.create("c")
            self.ok("start", "c")
            self.ok("kill", "c", name)
            self.await_status("c", "stopped")
            self.ok("delete", "c")
        self.create("c")
        self.fails("kill", "c", "SIGNOPE", text="unknown signal")
        self.fails("kill", "c", "65", text="unknown signal")

    def test_full_state_directory(self):
        self.write_spec()
        os.makedirs(self.root)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "tmpfs", self.root],
                       check=True)
        try:
            r = self.fails("create", "--bundle", self.bundle, "c", text="no space left on device")
            self.assertIn('container "c"', r.err)
            self.assertEqual(os.listdir(self.root), [])
        finally:
            subprocess.run(["umount", self.root], check=True)

    def test_bad_pid_file_undoes_everything(self):
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "--pid-file", "/nonexistent/pid", "c",
                   text="writing the pid file")
        self.assertEqual(os.listdir(self.root), [])

    def test_damaged_state_needs_force(self):
        os.makedirs(os.path.join(self.root, "c"))
        with open(os.path.join(self.root, "c", "state.json"), "w") as f:
            f.write("{")
        self.fails("delete", "c", text="state.json")
        self.assertEqual(self.runsc("list", "-q").out, "")
        self.ok("delete", "--force", "c")

    def test_list(self):
        self.create("a")
        self.create("b")
        self.assertEqual(self.ok("list", "-q"), "a\nb\n")
        rows = json.loads(self.ok("list", "--format", "json"))
        self.assertEqual([(r["id"], r["status"]) for r in rows],
                         [("a", "created"), ("b", "created")])
        lines = self.ok("list").splitlines()
        self.assertEqual(lines[0].split(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"])
        self.assertEqual(lines[1].split()[0], "a")

    def test_annotations_are_in_the_state(self):
        self.spec["annotations"] = {"k": "v"}
        self.create("c")
        self.assertEqual(self.state("c")["annotations"], {"k": "v"})

    def creating(self):
        """A create that sits in a hook; its process."""
        self.spec["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "100"],
                                            "timeout": 60}]}
        self.write_spec()
        p = subprocess.Popen(self.command("create", "--bundle", self.bundle, "c"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_true(lambda: self.runsc("state", "c").code == 0 and self.state("c")["pid"] > 0,
                   "no monitor")
        return p

    def test_delete_of_what_a_killed_create_left(self):
        p = self.creating()
        state = self.state("c")
        self.assertEqual(state["status"], "creating")
        p.kill()
        p.wait()
        await_true(lambda: self.status("c") == "stopped", "it is not seen to be dead")
        self.fails("start", "c", text="stopped")
        self.ok("delete", "--force", "c")
        self.assertFalse(alive(state["pid"]))

    def test_forced_delete_of_a_create_that_hangs(self):
        p = self.creating()
        self.ok("delete", "--force", "c")
        self.assertEqual(os.listdir(self.root), [])
        p.kill()
        p.wait()

    def test_dead_processes_leave_nothing(self):
        for victim in ("monitor", "sentry", "gofer"):
            self.create("c")
            self.ok("start", "c")
            with open(os.path.join(self.root, "c", "state.json")) as f:
                pids = {k: v["pid"] for k, v in json.load(f).items()
                        if k in ("monitor", "sentry", "gofer")}
            os.kill(pids[victim], signal.SIGKILL)
            self.await_status("c", "stopped")
            self.ok("delete", "c")
            self.assertEqual([k for k, v in pids.items() if alive(v)], [])


class Run(RunscTest):
    def run_(self, *args, options=(), **kwargs):
        self.write_spec(args=list(args))
        return self.runsc("run", "--bundle", self.bundle, *options, "c", **kwargs)

    def test_exit_status(self):
        for status in (0, 1, 42, 255):
            self.assertEqual(self.run_("exit", str(status)).code, status)
            self.assertEqual(os.listdir(self.root), [])

    def test_status_of_a_signal(self):
        self.assertEqual(self.run_("signal", "11").code, 128 + 11)

    def test_output(self):
        self.assertEqual(self.run_("echo", "hello").out, "hello")

    def test_keep(self):
        self.run_("exit", "0", options=["--keep"])
        self.assertEqual(self.status("c"), "stopped")

    def test_detach(self):
        self.run_("sleep", options=["--detach"])
        self.assertEqual(self.status("c"), "running")

    def test_signals_are_passed_on(self):
        self.write_spec(args=["sleep"])
        p = subprocess.Popen(self.command("run", "--bundle", self.bundle, "c"))
        await_true(lambda: self.runsc("state", "c").code == 0 and self.status("c") == "running",
                   "it does not run")
        p.send_signal(signal.SIGUSR1)
        self.assertEqual(p.wait(20), 7)
        self.assertEqual(os.listdir(self.root), [])

    def test_sandbox_that_dies_is_137(self):
        self.assertEqual(self.run_("abort").code, 137)

    def test_wait(self):
        self.create("c")
        self.ok("start", "c")
        waiting = self.start_wait("c")
        self.ok("kill", "c", "USR1")
        self.assertEqual(self.finish_wait(waiting), {"id": "c", "exitStatus": 7})
        self.ok("delete", "c")

    def test_wait_after_the_end(self):
        for signal_name, status in (("USR1", 7), ("KILL", 137)):
            self.create("c")
            self.ok("start", "c")
            self.ok("kill", "c", signal_name)
            self.await_status("c", "stopped")
            for _ in range(2):
                self.assertEqual(json.loads(self.ok("wait", "c")), {"id": "c", "exitStatus": status})
            self.ok("delete", "c")
        self.fails("wait", "c", text="does not exist")

    def test_wait_after_the_monitors_death(self):
        self.create("c")
        self.ok("start", "c")
        os.kill(self.state("c")["pid"], signal.SIGKILL)
        self.await_status("c", "stopped")
        self.assertEqual(json.loads(self.ok("wait", "c"))["exitStatus"], 137)

    def test_signal_0_asks_whether_it_runs(self):
        self.create("c")
        self.ok("kill", "c", "0")
        self.ok("start", "c")
        self.ok("kill", "c", "0")
        self.assertEqual(self.status("c"), "running")
        self.ok("kill", "c", "KILL")
        self.await_status("c", "stopped")
        self.fails("kill", "c", "0", text="container not running")

    def test_the_pids_mount_namespace_shows_the_containers_root_only(self):
        """`podman cp` enters it and writes below "/"."""
        with open(os.path.join(self.bundle, "rootfs", "mark"), "w") as f:
            f.write("of the container")
        pid_file = os.path.join(self.dir, "exec.pid")
        self.create("c")
        self.ok("start", "c")
        self.ok("exec", "--detach", "--pid-file", pid_file, "c", "sleep")
        with open(pid_file) as f:
            pids = [self.state("c")["pid"], int(f.read())]
        for pid in pids:
            self.assertEqual(os.listdir(f"/proc/{pid}/root"), os.listdir(os.path.join(self.bundle, "rootfs")))
            with open(f"/proc/{pid}/root/mark") as f:
                self.assertEqual(f.read(), "of the container")
            with open(f"/proc/{pid}/mountinfo") as f:
                self.assertEqual(len(f.readlines()), 1)


class Exec(RunscTest):
    def setUp(self):
        super().setUp()
        self.create("c")
        self.ok("start", "c")

    def test_status_and_output(self):
        self.assertEqual(self.ok("exec", "c", "echo", "hi"), "hi")
        self.assertEqual(self.runsc("exec", "c", "exit", "9").code, 9)

    def test_arguments_that_look_like_options(self):
        self.assertEqual(self.ok("exec", "--env", "A=b", "c", "echo", "--cwd"), "--cwd")
        self.assertEqual(self.ok("exec", "c", "echo", "-x=y"), "-x=y")
        self.assertEqual(self.ok("exec", "-e", "A=b", "--cwd=/", "c", "echo", "list"), "list")

    def test_ids_and_programs_that_look_like_commands(self):
        self.create("list")
        self.ok("start", "list")
        self.assertEqual(self.ok("exec", "list", "echo", "ps"), "ps")
        self.fails("exec", "list", "notfound", "ps", text="executable file not found", code=255)
        self.ok("kill", "list", "KILL")

    def test_missing_program(self):
        self.fails("exec", "c", "notfound", text="executable file not found in $PATH", code=255)

    def test_process_file_and_detach(self):
        path = os.path.join(self.dir, "process.json")
        pid_file = os.path.join(self.dir, "exec.pid")
        with open(path, "w") as f:
            json.dump({"cwd": "/", "args": ["sleep"], "user": {"uid": 0, "gid": 0}}, f)
        self.ok("exec", "--process", path, "--detach", "--pid-file", pid_file, "c")
        with open(pid_file) as f:
            pid = int(f.read())
        self.assertTrue(alive(pid))
        os.kill(pid, signal.SIGTERM)
        await_true(lambda: not alive(pid), "the exec's monitor lives on")

    def test_bad_process_file(self):
        path = os.path.join(self.dir, "process.json")
        with open(path, "w") as f:
            f.write('{"cwd": "relative", "args": ["true"]}')
        self.fails("exec", "--process", path, "c", text="process.cwd", code=255)
        self.fails("exec", "--process", "/nonexistent", "c", text="/nonexistent", code=255)


class Descriptors(RunscTest):
    def test_preserved_ones_must_be_open(self):
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "--preserve-fds", "1", "c",
                   text="descriptor 3 (of 1) is not open")

    def test_preserved_ones_are_taken(self):
        self.write_spec(args=["exit", "0"])
        r, w = os.pipe()
        code = subprocess.call(
            ["sh", "-c", f'exec 3<&{r}; exec "$@"', "sh",
             *self.command("run", "--bundle", self.bundle, "--preserve-fds=1", "c")],
            pass_fds=[r])
        self.assertEqual(code, 0)
        os.close(r)
        os.close(w)

    def test_stdout_is_let_go_in_the_foreground(self):
        self.write_spec(args=["sleep"])
        p = subprocess.Popen(self.command("run", "--bundle", self.bundle, "c"),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        await_true(lambda: self.runsc("state", "c").code == 0 and self.status("c") == "running",
                   "it does not run")
        await_true(lambda: os.readlink(f"/proc/{p.pid}/fd/1") == "/dev/null",
                   "runsc keeps its standard output open")
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.communicate()[0], b"")
        self.assertEqual(p.returncode, 128 + 15)


if __name__ == "__main__":
    harness.main()
