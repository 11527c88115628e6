#!/usr/bin/env python3
"""Makes, once, the Debian root with the programs of the application rows, and prints its path.

It lies outside the repository, in $CAISSON_BENCH_ROOT (or /var/cache/caisson/bench-root). Every runtime
mounts it read-only. Nothing is installed on the host.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "test/integration"))
import debian_root  # noqa: E402

PACKAGES = ("bash coreutils findutils mawk gcc libc6-dev git nodejs python3 redis-server redis-tools fio sqlite3 "
            "tar gzip procps").split()
NEEDED = "bash find gcc git node python3 redis-server redis-benchmark fio sqlite3 awk".split()
DEFAULT = "/var/cache/caisson/bench-root"


def bench_root():
    """The path of the root; makes it if it is not there. Raises RuntimeError if that is impossible."""
    return debian_root.debian_root(os.environ.get("CAISSON_BENCH_ROOT", DEFAULT), PACKAGES, NEEDED)


if __name__ == "__main__":
    try:
        print(bench_root())
    except RuntimeError as problem:
        sys.exit(f"benchmarks/root.py: {problem}")
