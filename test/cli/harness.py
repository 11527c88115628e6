"""A bundle, a state directory and runsc in one of its own for each test."""
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

RUNSC = None


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


class RunscTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="caisson-cli-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        # Cgroups are the host's: several of these tests may run at a time.
        self.cgroup = "caisson-" + os.path.basename(self.dir)
        self.addCleanup(self.remove_groups)
        self.root = os.path.join(self.dir, "state")
        self.bundle = os.path.join(self.dir, "bundle")
        os.makedirs(os.path.join(self.bundle, "rootfs"))
        self.spec = json.loads(self.template())
        self.spec["process"]["terminal"] = False
        self.spec["process"]["args"] = ["sleep"]
        self.spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/c"

    def tearDown(self):
        if os.path.isdir(self.root):
            for name in os.listdir(self.root):
                self.runsc("delete", "--force", name)
        self.assertEqual(os.listdir(self.root) if os.path.isdir(self.root) else [], [])
        left = [d for p in cgroups_of(self.cgroup) for d in os.listdir(p)
                if os.path.isdir(os.path.join(p, d))]
        self.assertEqual(left, [], "a cgroup is left")

    def remove_groups(self):
        for parent in cgroups_of(self.cgroup):
            remove_group(parent)

    def template(self):
        path = os.path.join(self.dir, "template")
        os.makedirs(path)
        self.runsc("spec", "--bundle", path)
        with open(os.path.join(path, "config.json")) as f:
            return f.read()

    def use_cgroup(self, name):
        """Gives the container that is created next a cgroup of its own."""
        self.spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/{name}"

    def write_spec(self, **process):
        spec = copy.deepcopy(self.spec)
        spec["process"].update(process)
        self.write_config(json.dumps(spec))

    def write_config(self, text):
        with open(os.path.join(self.bundle, "config.json"), "w") as f:
            f.write(text)

    def command(self, *args, globals_=()):
        return [RUNSC, "--root", self.root, *globals_, *args]

    def runsc(self, *args, globals_=(), stdin=subprocess.DEVNULL, timeout=60, **kwargs):
        # Files and not pipes: a monitor that outlives the command has the descriptors too.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            p = subprocess.run(self.command(*args, globals_=globals_), stdin=stdin, stdout=out,
                               stderr=err, timeout=timeout, **kwargs)
            out.seek(0)
            err.seek(0)
            return Result(p.returncode, out.read().decode(), err.read().decode())

    def ok(self, *args, **kwargs):
        r = self.runsc(*args, **kwargs)
        self.assertEqual(r.code, 0, r.err)
        return r.out

    def fails(self, *args, text, code=1, **kwargs):
        r = self.runsc(*args, **kwargs)
        self.assertEqual(r.code, code, r.out + r.err)
        self.assertIn(text, r.err)
        return r

    def create(self, name, *options, **process):
        self.use_cgroup(name)
        self.write_spec(**process)
        return self.ok("create", "--bundle", self.bundle, *options, name)

    def start_wait(self, name):
        """A `wait` that the sentry has heard of; finish_wait gives its result."""
        p = subprocess.Popen(self.command("wait", name), stdout=subprocess.PIPE, text=True)
        # It sleeps once its request is sent; the sentry takes connections in order.
        await_true(lambda: syscall_of(p.pid) in WAITING_CALLS, "wait does not wait")
        self.ok("events", "--stats", name)
        return p

    def finish_wait(self, p):
        out, _ = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 0)
        return json.loads(out)

    def state(self, name):
        return json.loads(self.ok("state", name))

    def status(self, name):
        return self.state(name)["status"]

    def await_status(self, name, wanted):
        await_true(lambda: self.status(name) == wanted, f"{name} is not {wanted}")


WAITING_CALLS = {"7", "271", "47"}  # poll, ppoll, recvmsg.


def syscall_of(pid):
    try:
        with open(f"/proc/{pid}/syscall") as f:
            return f.read().split()[0]
    except OSError:
        return ""


def await_true(predicate, what, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if predicate():
            return
        time.sleep(0.01)
    raise AssertionError(what)


def cgroups_of(name):
    found = []
    for path, dirs, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(path, d) for d in dirs if d == name]
    return found


def remove_group(path):
    for entry in os.listdir(path):
        if os.path.isdir(os.path.join(path, entry)):
            remove_group(os.path.join(path, entry))
    os.rmdir(path)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def main():
    path = os.path.abspath(sys.argv.pop(1))
    sys.modules["harness"].RUNSC = path
    unittest.main(module="__main__")
