#!/usr/bin/env python3
"""A guest that makes random system calls (test/security): the sandbox lives, and ends cleanly.

Seeds: CAISSON_FUZZ_SEEDS, or some fixed ones; with --all in the arguments new ones, for longer. Seconds for
each: CAISSON_FUZZ_SECONDS.
"""

import json
import os
import random
import shutil
import sys

import box
import lib
from box import check_nothing_left, new_name, workspace
from lib import true

ALL = "--all" in sys.argv
PROGRAM = os.path.join(lib.REPOSITORY, "build/release/bin/security/syscall_fuzz")
SECONDS = float(os.environ.get("CAISSON_FUZZ_SECONDS", 60 if ALL else 5))
BAD = ("Sanitizer", "runtime error", "CHECK", "heck failed", "the sandbox ends")
cases = []


def fuzz(seed, seconds=SECONDS):
    root = os.path.join(workspace.directory, "fuzz")
    if not os.path.exists(root):
        os.makedirs(os.path.join(root, "bin"))
        shutil.copy(PROGRAM, os.path.join(root, "bin/syscall_fuzz"))
    config = lib.spec(args=["/bin/syscall_fuzz", hex(seed), str(seconds)],
                      rlimits=[{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}])
    config["root"]["readonly"] = True
    config["process"]["capabilities"] = {kind: lib.CAPABILITIES + ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"]
                                         for kind in ("bounding", "effective", "permitted")}
    config["linux"]["resources"] = {"memory": {"limit": 2 << 30}, "pids": {"limit": 300}}
    name = new_name()
    log = os.path.join(workspace.directory, "log")
    # What the sentry logs has a file of its own: the other one is bounded.
    debug_log = os.path.join(workspace.directory, "debug-log")
    bundle = workspace.bundle(root, config)
    try:
        command = workspace.command("--log", log, "--log-format", "json", "--debug-log", debug_log, "run", "--bundle", bundle, name)
        result = lib.collect(command, b"", seconds * 3 + 60)
    finally:
        workspace.delete(name)
    lines = []
    for path in (debug_log, log):
        with open(path, errors="replace") as file:
            for line in file:
                try:
                    lines.append(json.loads(line).get("msg", ""))
                except ValueError:
                    lines.append(line)
        os.unlink(path)
    # From the first bad line on: what follows is its stack.
    bad = [i for i, line in enumerate(lines) if any(word in line for word in BAD)]
    true(not bad, f"seed {seed:#x}: in the log:\n" + "\n".join(line[:300] for line in lines[bad[0] if bad else 0:][:40]))
    true(result.status == 0 and "syscall_fuzz: alive" in result.out, f"seed {seed:#x}: {str(result)[-2000:]}")
    check_nothing_left(name)
    shutil.rmtree(bundle)


def seeds():
    if "CAISSON_FUZZ_SEEDS" in os.environ:
        return [int(seed, 0) for seed in os.environ["CAISSON_FUZZ_SEEDS"].split(",")]
    return [random.getrandbits(48) for _ in range(5)] if ALL else [1, 2, 3, 4]


for seed in seeds():
    cases.append((f"seed_{seed:#x}", lambda seed=seed: fuzz(seed)))


if __name__ == "__main__":
    if ALL:
        sys.argv.remove("--all")
    box.main(cases)
