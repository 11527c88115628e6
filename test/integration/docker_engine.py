"""A real dockerd (Debian's docker.io) with runsc as a runtime, in namespaces and a data root of its own.

No registry is used: the image is `docker import` of a busybox root. CAISSON_RUNTIME=runc tests the test.
"""

import json
import os
import shutil
import signal
import subprocess
import time

import lib
from lib import equal

IMAGE = "caisson-test"
PREFIX = "caisson-docker-"
workspace = lib.Workspace(PREFIX)


class Engine:
    """dockerd, from start() to stop(). Nothing of it touches a dockerd of the machine."""

    def __init__(self):
        self.directory = workspace.directory
        self.host = "unix://" + os.path.join(self.directory, "docker.sock")
        self.environment = dict(os.environ, DOCKER_HOST=self.host,
                                DOCKER_CONFIG=os.path.join(self.directory, "client"))
        self.parent = PREFIX + str(os.getpid())
        self.process = None

    def start(self):
        """Returns None, or why it is not possible."""
        for program in ("dockerd", "docker", "containerd", "unshare", "setpriv"):
            if shutil.which(program) is None:
                return f"no {program}"
        lib.remove_abandoned_cgroups(PREFIX)
        runtime = {"path": shutil.which(lib.RUNTIME) or lib.RUNTIME, "runtimeArgs": lib.RUNTIME_OPTIONS}
        config = os.path.join(self.directory, "daemon.json")
        with open(config, "w") as file:
            json.dump({"runtimes": {"tested": runtime}}, file)
        for name in ("data", "exec", "client"):
            os.makedirs(os.path.join(self.directory, name))
        self.log = os.path.join(self.directory, "dockerd.log")
        script = ("ip link set lo up; mount -t tmpfs tmpfs /run; exec dockerd --config-file {d}/daemon.json --data-root {d}/data "
                  "--exec-root {d}/exec --pidfile {d}/pid -H {host} --cgroup-parent {parent} "
                  "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --userland-proxy=false "
                  ).format(d=self.directory, host=self.host, parent=self.parent)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                # However we end, all of it ends.
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if os.path.exists(os.path.join(self.directory, "docker.sock")) and \
                    self.docker("version", timeout=20).status == 0:
                return self.make_image()
            time.sleep(0.2)
        with open(self.log, errors="replace") as file:
            problems = [line.strip() for line in file if "level=fatal" in line or "level=error" in line or
                        "failed" in line]
        return "dockerd does not start: " + (problems[-1][-300:] if problems else "no message")

    def make_image(self):
        root = os.path.join(self.directory, "busybox")
        subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), root], check=True)
        archive = os.path.join(self.directory, "busybox.tar")
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        result = self.docker("import", "--change", "ENV IMAGE_VARIABLE=set", "--change", 'CMD ["/bin/sh"]', archive,
                             IMAGE)
        return None if result.status == 0 else "docker import: " + result.err

    def docker(self, *args, stdin=b"", timeout=90):
        return lib.collect(["docker", *args], stdin, timeout, env=self.environment)

    def stop(self):
        if self.process is not None:
            for name in self.docker("ps", "-aq").out.split():
                self.docker("rm", "-f", name, timeout=30)
            # The group's first process is unshare, which is the parent of the namespace's init.
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        lib.remove_cgroups(self.parent)



engine = Engine()


def run(*args, stdin=b"", timeout=90):
    """docker run --rm of the image; `args` are options, then "--", then the command."""
    at = args.index("--")
    return engine.docker("run", "--rm", "--network=none", "--runtime=tested", *args[:at], IMAGE, *args[at + 1:],
                         stdin=stdin, timeout=timeout)


def sh(script, *options, status=0, **more):
    """The standard output of a shell script in a new container."""
    result = run(*options, "--", "/bin/sh", "-c", script, **more)
    equal(result.status, status, f"status ({result})")
    return result.out


class Detached:
    """A container in the background; `with` removes it."""

    def __init__(self, *args, script="trap 'exit 3' TERM; while :; do sleep 0.1; done"):
        result = engine.docker("run", "-d", "--network=none", "--runtime=tested", *args, IMAGE, "/bin/sh", "-c", script)
        equal(result.status, 0, result.err)
        self.name = result.out.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        result = engine.docker("rm", "-f", self.name)
        equal(result.status, 0, result.err)

    def __call__(self, command, *args, **options):
        result = engine.docker(command, *args, **options)
        equal(result.status, 0, f"docker {command}: {result}")
        return result.out


def nothing_is_left():
    equal(engine.docker("ps", "-aq").out, "", "containers")
    if lib.OURS:
        left = [path for parent in lib.cgroups_named(engine.parent) for path, _, _ in os.walk(parent) if path != parent]
        equal(left, [], "cgroups")


def main(cases):
    """Runs the cases, and after them the check that nothing is left."""
    def close():
        engine.stop()
        workspace.close()

    problem = engine.start() if os.geteuid() == 0 else "must be root"
    if problem:
        close()
        print(f"skip docker: {problem}")
        print("[ TOTALS ] docker: 1 run, 0 passed, 0 failed, 1 skipped")
        return
    lib.main([*cases, ("nothing_is_left", nothing_is_left)], close)
