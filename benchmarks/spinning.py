#!/usr/bin/env python3
"""Is spinning ever a loss? Busy guest threads on trap, with spinning and with `trap-spin-off`, in turns.

    benchmarks/spinning.py [--rounds N] [--only WORKLOAD...] [--build DIR] [--output DIR]

Each workload of benchmarks/guest/threads.cc with 1, 2, 4 and 8 threads, and a loop of system calls, run
alone, beside a busy process on each CPU, and held on one CPU. Two figures for each: the throughput of
spinning in that of no spinning (to be at least 0.9) and the CPU time that an operation costs stub and
sentry together, from the cgroup's account (at most 1.1). Medians of the rounds' ratios, and between
which of the sorted ratios the true median lies with 95 % confidence. And how many of the hand-offs found the
other side awake: where that is none, spinning changes nothing and a ratio is the noise of the machine. Writes
spinning.md.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import runtimes

WORKLOADS = [*(f"{kind}/{n}" for kind in ("mutex", "barrier", "pool") for n in (1, 2, 4, 8)), "getppid"]
CONDITIONS = ("alone", "busy neighbours", "one CPU")
SUBJECTS = ("trap", "trap-spin-off")


class CpuAccount:
    """A cgroup whose descendants' CPU time is known, on v1, v2 and hybrid hosts."""

    def __init__(self):
        mount, path = "/sys/fs/cgroup", ""
        for line in open("/proc/self/cgroup"):
            _, controllers, where = line.strip().split(":", 2)
            if "cpuacct" in controllers.split(","):
                mount, path = f"{mount}/{controllers}" if os.path.isdir(f"{mount}/{controllers}") else f"{mount}/cpuacct", where
                break
            if not controllers:
                path = where
        self.name = f"{path.rstrip('/')}/caisson-spinning-{os.getpid()}"
        self.folder = mount + self.name
        os.makedirs(self.folder, exist_ok=True)

    def used(self):
        """ns."""
        try:
            with open(f"{self.folder}/cpuacct.usage") as file:
                return int(file.read())
        except FileNotFoundError:
            with open(f"{self.folder}/cpu.stat") as file:
                return 1000 * int(file.readline().split()[1])

    def close(self):
        os.rmdir(self.folder)


def confidence(ratios):
    """The bounds of the median at 95 %: order statistics, of which with few rounds even the outermost is not enough."""
    n, ordered = len(ratios), sorted(ratios)
    # P(the median lies below the k-th of n) is that of fewer than k heads in n throws.
    probability, k, choose = 0.0, 0, 1
    while True:
        probability += choose / 2 ** n
        if probability > 0.025 or k >= n // 2:
            break
        choose = choose * (n - k) // (k + 1)
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def measure(subject, account, workload, cpu, seconds):
    """(ns, ns of CPU time) of an operation."""
    before, started = account.used(), time.monotonic()
    output = subject.execute(["/bin/guest", f"--benchmark_filter=^{workload}(/real_time)?$", "--benchmark_format=json",
                              f"--benchmark_min_time={seconds}"], timeout=60, pinned=cpu)
    elapsed = (time.monotonic() - started) * 1e9
    per_operation = json.loads(output)["benchmarks"][0]["real_time"]
    # What the program did before it measured was the same work.
    return per_operation, (account.used() - before) / elapsed * per_operation


def awake(subject, workload, cpu):
    """Of the hand-offs of a workload, the share that found the other side awake."""
    subject.pinned = cpu
    command = subject.arguments(["/bin/guest", f"--benchmark_filter=^{workload}(/real_time)?$", "--benchmark_min_time=30"])
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.5)
        text = subprocess.run([*subject.prefix(), "metrics", subject.id], capture_output=True, text=True, timeout=30,
                              check=True).stdout
        counts = {kind: int(n) for kind, n in re.findall(r'handoffs_total{.*kind="(\w+)"} (\d+)', text)}
        spins = counts["patched_spin"]
        return spins / max(1, spins + counts["patched_bell"] + counts["notifications"] + counts["traps"])
    finally:
        subject.call("kill", subject.id, "KILL")
        process.wait(timeout=30)
        subject.call("delete", "--force", subject.id)


class PinnedRuntime(runtimes.Runtime):
    def __init__(self, name, command, space, account):
        super().__init__(name, command, space)
        self.account, self.pinned = account, None

    def execute(self, args, debian=False, timeout=120, environment=(), pinned=None):
        self.pinned = pinned
        return super().execute(args, debian, timeout, environment)

    def arguments(self, args, debian=False, environment=()):
        command = super().arguments(args, debian, environment)
        path = os.path.join(command[command.index("--bundle") + 1], "config.json")
        with open(path) as file:
            config = json.load(file)
        config.setdefault("linux", {})["cgroupsPath"] = f"{self.account.name}/{self.id}"
        with open(path, "w") as file:
            json.dump(config, file)
        return command if self.pinned is None else ["taskset", "-c", str(self.pinned), *command]


def table(ratios, shares, rounds):
    lines = [f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {os.cpu_count()} CPUs; {rounds} rounds; `trap` in `trap-spin-off`: "
             "median of the rounds' ratios, in brackets the bounds of the median at 95 %.", ""]
    lines += ["| | " + " | ".join(f"throughput, {name} | CPU time, {name} | awake, {name}" for name in CONDITIONS) + " |",
              "| --- |" + " ---: |" * (3 * len(CONDITIONS))]
    worst, same = {0: (99.0, ""), 1: (0.0, "")}, []
    for workload in WORKLOADS:
        if (workload, CONDITIONS[0]) not in ratios:
            continue
        cells = []
        for condition in CONDITIONS:
            for which in (0, 1):
                values = [pair[which] for pair in ratios[workload, condition]]
                middle = statistics.median(values)
                low, high = confidence(values)
                cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
                if shares[workload, condition] == 0:
                    same.append(middle)
                elif which == 0 and middle < worst[0][0] or which == 1 and middle > worst[1][0]:
                    worst[which] = (middle, f"{workload}, {condition}")
            cells.append(f"{shares[workload, condition]:.2%}")
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    if worst[0][1]:
        lines += ["", f"Where anybody waited awake, least throughput: {worst[0][0]:.2f} ({worst[0][1]}); most CPU time: {worst[1][0]:.2f} ({worst[1][1]})."]
    if same:
        lines += ["", f"Where nobody did ({len(same) // 2} cases), which is the same as without: {min(same):.2f} to {max(same):.2f}."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(runtimes.ROOT, "build/release"))
    parser.add_argument("--output", default=os.path.join(runtimes.ROOT, "build/bench"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--only", nargs="*", choices=WORKLOADS, default=WORKLOADS)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("benchmarks/spinning.py: must be root")
    space, account = runtimes.Workspace(options.build, None), CpuAccount()
    neighbours = []
    try:
        runsc = os.path.abspath(f"{options.build}/bin/runsc")
        subjects = [PinnedRuntime(name, [runsc, f"--platform={name}"], space, account) for name in SUBJECTS]
        ratios = {(workload, condition): [] for workload in options.only for condition in CONDITIONS}
        shares, started = {}, time.time()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}, {time.time() - started:.0f} s", file=sys.stderr, flush=True)
            for condition in CONDITIONS:
                if condition == "busy neighbours":
                    neighbours = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"])
                                  for cpu in sorted(os.sched_getaffinity(0))]
                cpu = min(os.sched_getaffinity(0)) if condition == "one CPU" else None
                for workload in options.only:
                    # Who comes first alternates: what the first leaves in caches is not the second's gain.
                    order = subjects if number % 2 == 0 else subjects[::-1]
                    values = {subject.name: measure(subject, account, workload, cpu, options.seconds) for subject in order}
                    on, off = (values[name] for name in SUBJECTS)
                    ratios[workload, condition].append((off[0] / on[0], on[1] / off[1]))
                    if number == 0:
                        shares[workload, condition] = awake(subjects[0], workload, cpu)
                while neighbours:
                    process = neighbours.pop()
                    process.kill()
                    process.wait()
        text = table(ratios, shares, options.rounds)
    finally:
        for process in neighbours:
            process.kill()
            process.wait()
        space.close()
        account.close()
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "spinning.md"), "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
