#!/usr/bin/env python3
"""Makes, once, the Debian root file system that the integration tests use, and prints its path.

It lies outside the repository, in $CAISSON_ROOT_CACHE (or /var/cache/caisson/debian-root), and is
made again when something that the tests use is missing in it. Tests mount it read-only.
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess
import sys

RELEASE = "bookworm"
PACKAGES = ("bash coreutils findutils grep sed gawk tar gzip perl python3 libpython3-stdlib gcc libc6-dev "
            "sqlite3 procps util-linux mount strace gdb-minimal").split()
NEEDED = ("bash ls find grep sed gawk tar gzip perl python3 gcc sqlite3 ps top free mount setsid strace gdb").split()
DEFAULT = "/var/cache/caisson/debian-root"


def mirror():
    """The mirror that this machine's own package sources name."""
    for path in glob.glob("/etc/apt/sources.list.d/*.sources"):
        with open(path) as file:
            match = re.search(r"^URIs:\s*(\S+)", file.read(), re.M)
        if match:
            return match[1]
    for path in ["/etc/apt/sources.list"] + glob.glob("/etc/apt/sources.list.d/*.list"):
        if os.path.exists(path):
            with open(path) as file:
                match = re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", file.read(), re.M)
            if match:
                return match[1]
    return None


def complete(root, needed=NEEDED):
    return all(os.path.exists(os.path.join(root, "usr/bin", name)) for name in needed)


def remove(tree):
    """rm -rf that never follows a mount: what was left by a killed debootstrap may have a /proc in it."""
    subprocess.run(["rm", "-rf", "--one-file-system", tree], stdin=subprocess.DEVNULL, check=True)


def make(root, packages, needed):
    source = mirror()
    if source is None:
        raise RuntimeError("no package source in /etc/apt")
    partial = root + ".new"
    remove(partial)
    # In namespaces of its own: its mounts and processes end with it, however it ends.
    result = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
         "debootstrap", "--variant=minbase", "--include=" + ",".join(packages), RELEASE, partial, source],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200)
    if result.returncode != 0:
        tail = result.stdout.decode(errors="replace").strip().split("\n")[-5:]
        raise RuntimeError("debootstrap: " + " | ".join(tail))
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
        remove(os.path.join(partial, leftover))
    if not complete(partial, needed):
        raise RuntimeError("the new root lacks programs that the tests need")
    remove(root)
    os.rename(partial, root)


def debian_root(root=None, packages=PACKAGES, needed=NEEDED):
    """The path of the root; makes it if it is not there. Raises RuntimeError if that is impossible."""
    root = root or os.environ.get("CAISSON_ROOT_CACHE", DEFAULT)
    os.makedirs(os.path.dirname(root), exist_ok=True)
    with open(root + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete(root, needed):
            return root
        if shutil.which("debootstrap") is None:
            raise RuntimeError("no debootstrap")
        if os.geteuid() != 0:
            raise RuntimeError("debootstrap needs root")
        try:
            make(root, packages, needed)
        except (OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"debootstrap: {error}") from error
        return root


if __name__ == "__main__":
    try:
        print(debian_root())
    except RuntimeError as problem:
        sys.exit(f"debian_root: {problem}")
