#!/usr/bin/env python3
"""Arguments, errors, logs and what is printed."""
import json
import os
import subprocess

import harness
from harness import RunscTest


class GlobalOptions(RunscTest):
    def test_version_names_the_spec(self):
        out = self.ok("--version")
        self.assertIn("runsc version ", out)
        self.assertIn("spec: 1.", out)

    def test_both_forms_of_a_value(self):
        for form in (["--log-format", "json"], ["--log-format=json"], ["-log-format=json"]):
            self.assertEqual(json.loads(self.ok("list", "-f=json", globals_=form)), [])

    def test_unknown_option_is_an_error(self):
        self.fails("create", "--no-such-option", "x", text="--no-such-option")

    def test_unknown_command_is_an_error(self):
        self.fails("frobnicate", text="frobnicate")

    def test_features_without_globals(self):
        p = subprocess.run([harness.RUNSC, "features"], capture_output=True, check=True)
        features = json.loads(p.stdout)
        self.assertIn("createRuntime", features["hooks"])
        self.assertTrue(features["linux"]["seccomp"]["enabled"])

    def test_checkpoint_and_restore_say_that_they_are_not_there(self):
        self.fails("checkpoint", "--image-path", "/x", "--leave-running", "c",
                   text="checkpoint is not supported yet")
        self.fails("restore", "--image-path", "/x", "--bundle", "/y", "c",
                   text="restore is not supported yet")

    def test_options_of_runc_and_gvisor_are_taken(self):
        self.ok("list", globals_=["--rootless=false", "--debug=false", "--platform=ptrace",
                                  "--network", "none", "--overlay2=none", "--file-access=shared"])


class Log(RunscTest):
    def log(self, *args, globals_=()):
        path = os.path.join(self.dir, "log.json")
        r = self.runsc(*args, globals_=["--log", path, "--log-format", "json", *globals_])
        with open(path) as f:
            return r, [json.loads(line) for line in f]

    def test_last_line_is_the_error(self):
        r, lines = self.log("start", "nobody")
        self.assertEqual(r.code, 1)
        self.assertEqual(lines[-1]["level"], "error")
        self.assertIn("does not exist", lines[-1]["msg"])
        self.assertIn("time", lines[-1])

    def test_exists_before_arguments_are_checked(self):
        r, lines = self.log("create", "--bogus", "x")
        self.assertNotEqual(r.code, 0)
        self.assertIn("--bogus", lines[-1]["msg"])

    def test_exists_where_nothing_fails(self):
        r, lines = self.log("list")
        self.assertEqual((r.code, lines), (0, []))

    def test_text_by_default(self):
        path = os.path.join(self.dir, "log")
        self.runsc("state", "nobody", globals_=["--log", path])
        with open(path) as f:
            self.assertIn("error container \"nobody\" does not exist", f.read())

    def test_that_cannot_be_opened_is_an_error(self):
        self.fails("list", globals_=["--log", "/nonexistent/log"], text="/nonexistent/log")


class Ids(RunscTest):
    def test_bad_ones_are_refused(self):
        self.write_spec()
        for bad in ("../x", "a/b", ".", "..", "a b", "x" * 256, "a\n"):
            r = self.runsc("create", "--bundle", self.bundle, bad)
            self.assertEqual(r.code, 1, bad)
            self.assertIn("container id", r.err)
        self.assertFalse(os.path.exists(os.path.join(self.dir, "x")))

    def test_bad_ones_are_refused_by_every_command(self):
        for command in ("start", "state", "kill", "delete", "ps", "events", "wait", "pause"):
            self.fails(command, "../bundle", text="invalid container id")
        self.assertTrue(os.path.isdir(self.bundle))

    def test_unknown_ones(self):
        for command in ("start", "state", "kill", "delete", "ps", "events", "pause", "resume",
                        "wait", "update"):
            self.fails(command, "nobody", text="does not exist")
        self.fails("exec", "nobody", "true", text="does not exist", code=255)
        self.ok("delete", "--force", "nobody")


class Config(RunscTest):
    def refused(self, text):
        self.fails("create", "--bundle", self.bundle, "c", text=text)
        self.assertFalse(os.path.exists(os.path.join(self.root, "c")))

    def test_missing(self):
        self.refused("config.json: no such file or directory")

    def test_missing_bundle(self):
        self.fails("create", "--bundle", "/nonexistent", "c", text="/nonexistent")

    def test_malformed(self):
        for text, why in (("", "parse error"), ("{", "parse error"), ("[1]", "expected an object"),
                          ("{} {}", "parse error"), ("{}", "ociVersion: is missing"),
                          ("[" * 100000, "nested more than")):
            self.write_config(text)
            self.refused(why)

    def test_wrong_values(self):
        good = self.spec
        for path, value, why in (
                (["process", "args"], "sh", "process.args: expected an array"),
                (["process", "args"], [1], "process.args[0]: expected a string"),
                (["process", "args"], [], "process.args: must not be empty"),
                (["process", "args"], ["a\0b"], "NUL"),
                (["process", "cwd"], "tmp", "process.cwd: is not an absolute path"),
                (["process", "user"], {"uid": -1}, "process.user.uid: expected a whole number"),
                (["process", "user"], {"uid": 2**32}, "process.user.uid: expected a whole number"),
                (["process", "rlimits"], [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "RLIMIT_X"),
                (["root"], {}, "root.path: is missing"),
                (["ociVersion"], "2.0.0", "not supported"),
                (["mounts"], [{"type": "proc"}], "mounts[0].destination: is missing"),
                (["mounts"], [{"destination": "/x", "type": "nfs"}], "\"nfs\" is not supported"),
                (["linux", "namespaces"], [{"type": "bogus"}], "unknown type"),
                (["linux", "namespaces"], [{"type": "pid", "path": "/p"}], "not supported yet"),
                (["linux", "timeOffsets"], {"boottime": {"secs": 1}}, "linux.timeOffsets"),
                (["linux", "seccomp"], {"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY"),
                (["windows"], {"x": 1}, "windows: another platform"),
                (["hooks"], {"prestart": [{"path": "rel"}]}, "hooks.prestart[0].path"),
        ):
            self.spec = json.loads(json.dumps(good))
            at = self.spec
            for key in path[:-1]:
                at = at.setdefault(key, {})
            at[path[-1]] = value
            self.write_config(json.dumps(self.spec))
            self.refused(why)

    def test_unknown_and_ignored_fields_are_logged(self):
        self.spec["linux"]["frobnicate"] = 1
        self.spec["linux"]["intelRdt"] = {"closID": "x"}
        self.write_spec(args=["exit", "0"])
        path = os.path.join(self.dir, "log")
        self.ok("run", "--bundle", self.bundle, "c", globals_=["--log", path])
        with open(path) as f:
            text = f.read()
        self.assertIn("linux.frobnicate: unknown field", text)
        self.assertIn("linux.intelRdt: ignored", text)

    def test_missing_root(self):
        os.rmdir(os.path.join(self.bundle, "rootfs"))
        self.write_spec()
        self.refused("rootfs: no such file or directory")

    def test_root_that_is_a_file(self):
        os.rmdir(os.path.join(self.bundle, "rootfs"))
        with open(os.path.join(self.bundle, "rootfs"), "w"):
            pass
        self.write_spec()
        self.refused("rootfs: not a directory")

    def test_missing_bind_source(self):
        self.spec["mounts"].append({"destination": "/d", "type": "bind", "source": "/nonexistent",
                                    "options": ["rbind"]})
        self.write_spec()
        self.refused("mount of /d: bind source /nonexistent: no such file or directory")

    def test_missing_program(self):
        self.write_spec(args=["notfound"])
        self.refused("executable file not found in $PATH")
        self.fails("run", "--bundle", self.bundle, "c", text="executable file not found in $PATH")

    def test_terminal_needs_someone_to_have_it(self):
        self.write_spec(terminal=True)
        self.refused("cannot allocate tty")


class SpecCommand(RunscTest):
    def test_does_not_overwrite(self):
        self.write_config("{}")
        self.fails("spec", "--bundle", self.bundle, text="exists")

    def test_is_what_create_takes(self):
        self.spec["process"]["args"] = ["exit", "3"]
        self.write_spec()
        self.assertEqual(self.runsc("run", "--bundle", self.bundle, "c").code, 3)

    def test_is_as_runc_has_it(self):
        self.assertEqual(self.spec["linux"]["maskedPaths"][0], "/proc/acpi")
        self.assertEqual([m["destination"] for m in self.spec["mounts"]],
                         ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys",
                          "/sys/fs/cgroup"])


if __name__ == "__main__":
    harness.main()
