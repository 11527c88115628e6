#!/usr/bin/env python3
"""Compares programs run natively with the same in Caisson and in every other runtime that is installed.

All runtimes take turns within each round; the tables have medians over the rounds. Machines differ and
drift, so the ratios within one table count, not its nanoseconds. Writes results.json, results.md and
index.html.

    benchmarks/run.py [--quick] [--rounds N] [--only ROW|GROUP...] [--on RUNTIME...] [--output DIR]
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time

import report
import root
import rows
import runtimes

ROOT = runtimes.ROOT


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.M)
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"^MemTotal:\s+(\d+)", file.read(), re.M)[1])
    return (f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}), {memory / 2**20:.0f} GiB, "
            f"Linux {os.uname().release.split('-')[0]}")


def versions(subjects):
    result = {}
    for subject in subjects:
        if isinstance(subject, runtimes.Runtime):
            output = subprocess.run([*subject.command, "--version"], stdout=subprocess.PIPE).stdout.decode()
            result[subject.name] = (output.split("\n")[0] + " " + " ".join(word for word in subject.command if word.startswith("--") and subject.name != "crun")).strip()
    return result


class Recorder:
    def __init__(self):
        self.values, self.failures = {}, {}

    def note(self, row, subject, value):
        self.values.setdefault(row, {}).setdefault(subject.name, []).append(value)

    def fail(self, row, subject, error):
        print(f"  {subject.name}: {row}: {error}", file=sys.stderr, flush=True)
        self.failures.setdefault(row, {})[subject.name] = str(error)


def measure_group(recorder, subject, names, minimum):
    """One process that measures all of `names`, or if that fails one for each."""
    todo = [names]
    while todo:
        batch = todo.pop(0)
        pattern = "^(" + "|".join(batch) + ")/real_time$"
        try:
            output = subject.execute(["/bin/guest", f"--benchmark_filter={pattern}", "--benchmark_format=json",
                                      f"--benchmark_min_time={minimum}"], timeout=60 if len(batch) > 1 else 30)
            for item in json.loads(output)["benchmarks"]:
                recorder.note(item["name"].rsplit("/", 1)[0], subject, item["real_time"])
        except (runtimes.Failed, ValueError) as error:
            if len(batch) == 1:
                recorder.fail(batch[0], subject, error)
            else:
                todo = [[name] for name in batch] + todo


def measure_app(recorder, subject, name, quick):
    try:
        output = subject.execute(["/bin/bash", "/opt/bench/apps.sh", name], debian=True,
                                 environment={"REDIS_REQUESTS": "2000" if quick else "20000"}.items(),
                                 timeout=60)
        for line in output.split():
            recorder.note(name, subject, float(line))
        if not output.split():
            raise runtimes.Failed("no output")
    except (runtimes.Failed, ValueError) as error:
        recorder.fail(name, subject, error)


def measure_idle(recorder, subject, seconds, wanted):
    try:
        keys = "idle_pss", "idle_wakeups", "idle_cpu", "idle_processes"
        if wanted & set(keys):
            for key, value in zip(keys, subject.idle(1, seconds)):
                recorder.note(key, subject, value)
        if "idle_pss_20" in wanted:
            recorder.note("idle_pss_20", subject, subject.idle(20, 1)[0])
    except (runtimes.Failed, OSError, subprocess.SubprocessError) as error:
        recorder.fail("idle_pss", subject, error)


def bare_loop(build):
    """(ns of a call through the ptrace platform, ns of a bare SYSEMU loop), measured in turns in one process."""
    program = os.path.join(build, "bin/platform_getpid_bench")
    if not os.path.exists(program):
        return None
    output = subprocess.run([program, "getpid"], stdout=subprocess.PIPE, timeout=120).stdout.decode()
    match = re.search(r"getpid: (\d+) ns, bare SYSEMU loop (\d+) ns", output)
    return [float(match[1]), float(match[2])] if match else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    parser.add_argument("--runtime", help="Caisson's runsc")
    parser.add_argument("--output", default=os.path.join(ROOT, "build/bench"))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under five minutes")
    parser.add_argument("--only", nargs="*", help="rows, or groups: " + " ".join([*rows.GROUPS, "apps", "start"]))
    parser.add_argument("--on", nargs="*", help="runtimes, as 'native' 'caisson ptrace' 'gvisor ptrace' 'runc'")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("benchmarks/run.py: must be root")
    count = options.rounds or (2 if options.quick else 7)
    minimum = 0.02 if options.quick else 0.1
    groups = {**rows.GROUPS, "apps": rows.APPS, "start": rows.START}
    wanted = {row.key for name, group in groups.items() for row in group
              if not options.only or row.key in options.only or name in options.only}
    apps = [row.key for row in rows.APPS if row.key in wanted]
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # What else the machine does disturbs less.
    except OSError:
        pass

    debian = None
    if apps:
        try:
            debian = root.bench_root()
        except RuntimeError as error:
            print(f"no application rows: {error}", file=sys.stderr)
            apps = []
    space = runtimes.Workspace(options.build, debian)
    recorder = Recorder()
    started, load = time.time(), os.getloadavg()[1]
    try:
        subjects = runtimes.installed(space, os.path.abspath(options.runtime or f"{options.build}/bin/runsc"), options.on)
        containers = [subject for subject in subjects if isinstance(subject, runtimes.Runtime)]
        rounds = 0
        for number in range(count):
            if options.quick and number > 0 and time.time() - started > 130:
                break  # A busy machine: one round has to do.
            rounds += 1
            print(f"round {number + 1} of {count}, {time.time() - started:.0f} s", file=sys.stderr, flush=True)
            for group in rows.GROUPS.values():
                for subject in subjects:
                    names = [row.key for row in group if row.key in wanted
                             and subject.name not in recorder.failures.get(row.key, {})]
                    if names:
                        measure_group(recorder, subject, names, minimum)
            for name in apps if not options.quick or number == 0 else ():
                for subject in subjects:
                    if subject.name not in recorder.failures.get(name, {}):
                        measure_app(recorder, subject, name, options.quick)
            if "run" in wanted:
                for _ in range(5):
                    for subject in containers:
                        recorder.note("run", subject, subject.run_true())
        for subject in containers:
            measure_idle(recorder, subject, 3 if options.quick else 60, wanted - ({"idle_pss_20"} if options.quick else set()))
        result = {
            "machine": machine(), "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "rounds": rounds,
            "quick": options.quick, "seconds": round(time.time() - started), "load": [load, os.getloadavg()[1]],
            "subjects": [subject.name for subject in subjects], "versions": versions(subjects),
            "values": recorder.values, "failures": recorder.failures,
            "bare_sysemu": bare_loop(options.build) if not options.only or "getpid" in wanted else None,
        }
    finally:
        space.close()
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "results.json"), "w") as file:
        json.dump(result, file, indent=1)
    markdown = report.markdown(result)
    with open(os.path.join(options.output, "results.md"), "w") as file:
        file.write(markdown)
    with open(os.path.join(options.output, "index.html"), "w") as file:
        file.write(report.html(result))
    print(markdown)
    print(f"{options.output}/index.html", file=sys.stderr)


if __name__ == "__main__":
    main()
