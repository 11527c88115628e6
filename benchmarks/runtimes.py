"""What the benchmarks run on: the host's kernel, Caisson's platforms, and the runtimes that are installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test/integration"))
import lib  # noqa: E402


class Failed(Exception):
    pass


class Workspace:
    """The roots that all runtimes share: a small one with the guest, and Debian's with /opt/bench bound into it."""

    def __init__(self, build, debian):
        self.directory = tempfile.mkdtemp(prefix="caisson-bench-")
        self.cgroups = []
        os.chmod(self.directory, 0o755)
        self.tools = self.path("opt-bench")
        self.small = self.path("root")
        self.work = self.path("work")
        self.debian = debian
        programs = os.path.join(build, "bin/bench")
        for folder in ("bin", "proc", "dev", "sys", "tmp", "work", "lib64", "lib"):
            os.makedirs(os.path.join(self.small, folder))
        shutil.copy(os.path.join(programs, "bench_guest"), os.path.join(self.small, "bin/guest"))
        shutil.copy(os.path.join(programs, "bench_true"), os.path.join(self.small, "bin/true"))
        for library in libraries(os.path.join(programs, "bench_guest")):
            target = os.path.join(self.small, library.lstrip("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(library, target)
            # `time` runs in Debian's root, which has the rest; there the guest's own directory is its RPATH.
            if "libbenchmark" in library:
                shutil.copy(library, self.tools)
        shutil.copy(os.path.join(programs, "bench_guest"), os.path.join(self.tools, "guest"))
        shutil.copy(os.path.join(programs, "bench_true"), os.path.join(self.tools, "true"))
        shutil.copy(os.path.join(ROOT, "benchmarks/apps.sh"), self.tools)
        with open(os.path.join(self.tools, "data"), "wb") as file:
            for _ in range(64):
                file.write(os.urandom(1 << 20))
        if debian:
            os.makedirs(os.path.join(debian, "opt/bench"), exist_ok=True)

    def path(self, name):
        path = os.path.join(self.directory, name)
        os.makedirs(path, exist_ok=True)
        return path

    def close(self):
        for folder in self.cgroups:
            try:
                os.rmdir(folder)
            except OSError as error:
                print(f"{folder}: {error}", file=sys.stderr)
        subprocess.run(["rm", "-rf", "--one-file-system", self.directory], check=False)


def libraries(program):
    output = subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    return re.findall(r"(?:=>\s*|^\s*)(/\S+)", output, re.M)


def checked(command, timeout, environment=None):
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=timeout, env=environment)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end in {timeout} s") from error
    if result.returncode != 0:
        raise Failed(f"status {result.returncode}: {result.stderr.decode(errors='replace').strip()[-300:]}")
    return result.stdout.decode()


ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C",
               "LD_LIBRARY_PATH": "/opt/bench"}


class Native:
    """The host's own kernel: a mount namespace and chroot, no container."""

    name = "native"

    def __init__(self, space):
        self.space = space
        # Cgroups of its own, as containers have: shares of the CPU and accounting of memory cost all the same.
        for line in open("/proc/self/cgroup"):
            _, controllers, path = line.strip().split(":", 2)
            for name in {"cpu", "memory"} & set(controllers.split(",")):
                folder = f"/sys/fs/cgroup/{name}{path.rstrip('/')}/bench-native-{os.getpid()}"
                try:
                    os.mkdir(folder)
                    space.cgroups.append(folder)
                except OSError:
                    pass

    def execute(self, args, debian=False, timeout=120, environment=()):
        root = self.space.debian if debian else self.space.small
        mounts = ["mount -t tmpfs tmpfs tmp", "mount -t proc proc proc", "mount --rbind /dev dev"]
        if debian:
            mounts.append(f"mount --bind {self.space.tools} opt/bench")
        else:
            mounts.append(f"mount --bind {self.space.work} work")
        join = "".join(f"echo 0 >{folder}/cgroup.procs && " for folder in self.space.cgroups)
        script = f"{join}cd {root} && {' && '.join(mounts)} && exec chroot . \"$@\""
        return checked(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *args], timeout,
                       {**ENVIRONMENT, **dict(environment)})


class Runtime:
    """An OCI runtime: each execution is a `run` of a container."""

    def __init__(self, name, command, space):
        self.name, self.command, self.space = name, command, space
        self.directory = space.path(name.replace(" ", "-"))
        self.serial = 0

    def arguments(self, args, debian=False, environment=()):
        self.serial += 1
        environment = {**ENVIRONMENT, **dict(environment)}
        config = lib.spec(args=list(args), env=[f"{key}={value}" for key, value in environment.items()])
        config["root"] = {"path": self.space.debian if debian else self.space.small, "readonly": True}
        bind = lambda source, to, mode: {"destination": to, "type": "bind", "source": source,  # noqa: E731
                                         "options": ["bind", mode]}
        config["mounts"].append(bind(self.space.tools, "/opt/bench", "ro") if debian else
                                bind(self.space.work, "/work", "rw"))
        bundle = os.path.join(self.directory, f"bundle-{self.serial}")
        os.makedirs(bundle)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(config, file)
        self.id = f"bench-{os.getpid()}-{self.serial}"
        return self.prefix() + ["run", "--bundle", bundle, self.id]

    def prefix(self):
        return [*self.command, "--root", os.path.join(self.directory, "state")]

    def call(self, *args):
        subprocess.run([*self.prefix(), *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)

    def execute(self, args, debian=False, timeout=120, environment=()):
        command = self.arguments(args, debian, environment)
        name = self.id
        try:
            return checked(command, timeout)
        finally:
            if os.path.exists(os.path.join(self.directory, "state", name)):
                self.call("delete", "--force", name)

    def run_true(self):
        """Nanoseconds of `run` of a static true, from exec to exit."""
        command = self.arguments(["/bin/true"])
        started = time.monotonic()
        # No timeout: Python would look for the end every now and then instead of waiting for it.
        status = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).wait()
        if status != 0:
            raise Failed(f"run: status {status}")
        return (time.monotonic() - started) * 1e9

    def idle(self, count, seconds):
        """(PSS in MiB, context switches a second, CPU ns a minute, processes), each of one of `count` idle sandboxes."""
        sandboxes = []
        try:
            for _ in range(count):
                command = self.arguments(["/bin/true", "sleep"])
                sandboxes.append((self.id, subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
                time.sleep(0.5 if count > 1 else 0)
            time.sleep(3)
            pids = descendants([process.pid for _, process in sandboxes], self.directory)
            pss = sum(pss_of(pid) for pid in pids) / 1024
            switches, cpu = activity_of(pids)
            time.sleep(seconds)
            after = activity_of(pids)
            return (pss / count, (after[0] - switches) / seconds / count, (after[1] - cpu) * 60 / seconds / count,
                    len(pids) / count)
        finally:
            for name, process in sandboxes:
                self.call("kill", name, "KILL")
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self.call("delete", "--force", name)


def descendants(roots, mark):
    """The processes below `roots` to any depth, and those whose command line contains `mark` with what is below them."""
    parents, found = {}, set(roots)
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{name}/cmdline") as file:
                if mark in file.read():
                    found.add(int(name))
        except OSError:
            pass
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return sorted(found)
        found |= more


def pss_of(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
    except (OSError, TypeError):
        return 0


def activity_of(pids):
    """(context switches, ns of CPU time) of all threads of these processes so far."""
    switches = cpu = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/status") as file:
                    switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", file.read())))
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    cpu += int(file.read().split()[0])
        except OSError:
            pass
    return switches, cpu


def installed(space, caisson, wanted=None):
    """All that can run here, native first. A platform that Caisson does not have is left out."""
    found = [Native(space)]
    named = [name.removeprefix("caisson ") for name in wanted or () if name.startswith("caisson ")]
    for platform in dict.fromkeys(["ptrace", "trap", "kvm", *named]):  # As trap-spin-off.
        runtime = Runtime(f"caisson {platform}", [caisson, f"--platform={platform}"], space)
        try:
            runtime.execute(["/bin/true"], timeout=30)
            found.append(runtime)
        except Failed as error:
            print(f"no {platform}: {str(error)[:200]}", file=sys.stderr)
    peers = (("runsc", ["--platform=ptrace", "--ignore-cgroups", "--network=none"]), ("runc", []),
             ("crun", []))
    for name, options in peers:
        path = shutil.which(name)
        if path is None or os.path.samefile(path, caisson):
            continue
        # crun refuses a host with both cgroup versions: hide the second from it.
        hide = ["unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup/unified && exec "$@"', "sh"]
        prefix = hide if name == "crun" and os.path.isdir("/sys/fs/cgroup/unified") else []
        runtime = Runtime("gvisor ptrace" if name == "runsc" else name, [*prefix, path, *options], space)
        try:
            runtime.execute(["/bin/true"], timeout=30)
            found.append(runtime)
        except Failed as error:
            print(f"{name} does not run here: {error}", file=sys.stderr)
    return [runtime for runtime in found if not wanted or runtime.name in wanted]
