#!/usr/bin/env python3
"""Compares natively run guest programs with the same in Caisson and, where installed, in another runtime.

All runtimes take turns within each round; the table shows medians over the rounds. Machines differ and
drift, so ratios within one table count, not its nanoseconds.

    benchmarks/run.py [--rounds 9] [--only NAME...] [--peer PROGRAM] [--json FILE]
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test/integration"))
import lib  # noqa: E402

THEMES = ("getpid read_zero pread_4k open_close stat mmap_munmap signal_self page_fault pipe_pingpong "
          "fork_wait fork_exec_wait").split()


class Native:
    name = "native"

    def __init__(self, guest):
        self.guest = guest

    def theme(self, name):
        return float(subprocess.check_output([self.guest, name], timeout=120))


class Runtime:
    """Runs the guest from a bundle whose root holds nothing but it."""

    def __init__(self, name, command, guest):
        self.name, self.command = name, command
        self.directory = tempfile.mkdtemp(prefix="caisson-bench-")
        self.bundle = os.path.join(self.directory, "bundle")
        root = os.path.join(self.bundle, "rootfs")
        for folder in ("bin", "proc", "dev", "sys", "tmp"):
            os.makedirs(os.path.join(root, folder))
        shutil.copy(guest, os.path.join(root, "bin/guest"))
        shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/sleep"))
        self.serial = 0

    def arguments(self, *args):
        self.serial += 1
        config = lib.spec(args=list(args))
        with open(os.path.join(self.bundle, "config.json"), "w") as file:
            json.dump(config, file)
        self.id = f"bench-{os.getpid()}-{self.serial}"
        return [*self.command, "--root", os.path.join(self.directory, "state"), "run", "--bundle", self.bundle, self.id]

    def call(self, *args):
        subprocess.run([*self.command, "--root", os.path.join(self.directory, "state"), *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def theme(self, name):
        result = subprocess.run(self.arguments("/bin/guest", name), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        if result.returncode != 0:
            raise RuntimeError(f"{self.name} {name}: status {result.returncode}: {result.stderr.decode()[-300:]}")
        return float(result.stdout)

    def run_true(self):
        """Milliseconds of `run` of a static true, from exec to exit."""
        arguments = self.arguments("/bin/guest", "true")
        started = time.monotonic()
        subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60, check=True)
        return (time.monotonic() - started) * 1e3

    def idle(self, seconds):
        """(PSS in MiB, context switches a second) of all processes of an idle sandbox, the command line included."""
        before = set(all_pids())
        process = subprocess.Popen(self.arguments("/bin/sleep", "1000"), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            pids = [pid for pid in descendants(process.pid, before)]
            pss = sum(pss_of(pid) for pid in pids) / 1024
            first = sum(switches_of(pid) for pid in pids)
            time.sleep(seconds)
            wakeups = (sum(switches_of(pid) for pid in pids) - first) / seconds
            return pss, wakeups, len(pids)
        finally:
            self.call("kill", self.id, "KILL")
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.call("delete", "--force", self.id)

    def close(self):
        subprocess.run(["rm", "-rf", "--one-file-system", self.directory], check=False)


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def descendants(root, before):
    """Children of `root` to any depth, and what else has come since `before` with a name of the runtime."""
    parents = {pid: parent_of(pid) for pid in all_pids() if pid not in before or pid == root}
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            break
        found |= more
    for pid in parents:
        try:
            with open(f"/proc/{pid}/comm") as file:
                if pid not in found and file.read().startswith(("runsc", "exe")):
                    found.add(pid)
        except OSError:
            pass
    return sorted(found)


def pss_of(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])
    except (OSError, TypeError):
        return 0


def switches_of(pid):
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as file:
                total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", file.read())))
    except OSError:
        pass
    return total


def shown(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(value, other):
    return "–" if value is None or not other else f"{value / other:.2f}×"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    parser.add_argument("--runtime", default=None, help="Caisson's runsc")
    parser.add_argument("--peer", default="/usr/bin/runsc", help="another runtime with gVisor's options; '' for none")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", help="these themes; also: run, sysemu, idle")
    parser.add_argument("--json", help="also write the medians there")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("benchmarks/run.py: must be root")
    guest = os.path.join(options.build, "bin/bench/bench_guest")
    runtime = os.path.abspath(options.runtime or os.path.join(options.build, "bin/runsc"))
    wanted = set(options.only or [*THEMES, "run", "sysemu", "idle"])

    caisson = Runtime("Caisson", [runtime, "--platform=ptrace"], guest)
    sandboxes = [caisson]
    if options.peer and os.path.exists(options.peer) and not os.path.samefile(options.peer, runtime):
        sandboxes.append(Runtime("peer", [options.peer, "--platform=ptrace", "--ignore-cgroups", "--network=none"],
                                 guest))
    subjects = [Native(guest), *sandboxes]
    results = {}  # row -> subject -> [values]

    def note(row, subject, value):
        results.setdefault(row, {}).setdefault(subject, []).append(value)

    try:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for theme in THEMES:
                if theme in wanted:
                    for subject in subjects:
                        note(theme, subject.name, subject.theme(theme))
            if "run" in wanted:
                for sandbox in sandboxes:
                    for _ in range(3):
                        note("run", sandbox.name, sandbox.run_true())
        idle = {}
        if "idle" in wanted:
            for sandbox in sandboxes:
                idle[sandbox.name] = sandbox.idle(5)
    finally:
        for sandbox in sandboxes:
            sandbox.close()

    medians = {row: {name: statistics.median(values) for name, values in columns.items()}
               for row, columns in results.items()}
    version = ""
    if len(sandboxes) > 1:
        version = subprocess.run([options.peer, "--version"], stdout=subprocess.PIPE).stdout.decode().split("\n")[0]
    print(f"\nMedians of {options.rounds} rounds, {os.cpu_count()} CPUs, Linux {os.uname().release.split('-')[0]}"
          + (f"; peer: {version}, --platform=ptrace" if version else ""))
    print("\n| ns an operation | native | Caisson | peer | Caisson / native | Caisson / peer |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for theme in THEMES:
        row = medians.get(theme)
        if row:
            native, ours, peer = (row.get(name) for name in ("native", "Caisson", "peer"))
            print(f"| {theme} | {shown(native)} | {shown(ours)} | {shown(peer)} | {ratio(ours, native)} | "
                  f"{ratio(ours, peer)} |")
    if "run" in medians:
        ours, peer = medians["run"].get("Caisson"), medians["run"].get("peer")
        print(f"| `run` of a static true, ms | – | {shown(ours)} | {shown(peer)} | – | {ratio(ours, peer)} |")
    if idle:
        print("\n| Idle sandbox | Caisson | peer |\n| --- | ---: | ---: |")
        for at, row in enumerate(("PSS, MiB", "context switches a second", "host processes")):
            print(f"| {row} | " + " | ".join(shown(idle[name][at]) if name in idle else "–"
                                             for name in ("Caisson", "peer")) + " |")
    bench = os.path.join(options.build, "bin/platform_getpid_bench")
    if "sysemu" in wanted and os.path.exists(bench):
        output = subprocess.run([bench], stdout=subprocess.PIPE, timeout=600).stdout.decode()
        line = next((line for line in output.split("\n") if line.startswith("getpid:")), "")
        print(f"\nThe platform alone, beside PTRACE_SYSEMU + wait4 + GETREGSET + SETREGSET: {line}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"medians": medians, "idle": idle}, file, indent=1)


if __name__ == "__main__":
    main()
