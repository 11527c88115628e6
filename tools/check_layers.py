#!/usr/bin/env python3
"""Holds the layering of the source tree as data and checks every #include against it.

A folder may include its own headers, those of the folders it names here, and those of everything
that these may include; nothing else. Also checked: which file may include which third-party
library, and the header guards. Files past the size limit are listed, but do not fail.

    tools/check_layers.py [--table]     # --table prints the table as Markdown
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Lowest first: folder -> what it may include, besides what those may. A folder without a row of its
# own has the row of the folder above it.
LAYERS = {
    "abi": "",
    "base": "abi",
    "confine": "base",
    "auth": "base",
    "time": "base",
    "platform": "base",
    "platform/fake": "platform",
    "platform/stub": "platform confine",
    "platform/ptrace": "platform platform/stub confine",
    "platform/trap": "platform platform/stub confine",
    "platform/testing": "platform/ptrace platform/trap",
    "platform/kvm": "platform confine",
    "gofer/protocol": "base",
    "sentry/protocol": "base",
    # File systems: none knows another, but for a tmpfs below devices and what the sentry gives
    # names to.
    "vfs": "auth time",
    "vfs/tmpfs": "vfs",
    "vfs/dev": "vfs vfs/tmpfs",
    "vfs/pipe": "vfs",
    "vfs/anon": "vfs",
    "vfs/inotify": "vfs",
    "vfs/host": "vfs",
    "vfs/tty": "vfs",
    "vfs/gofer": "vfs gofer/protocol",
    "vfs/overlay": "vfs",
    "vfs/proc": "vfs",
    "vfs/sys": "vfs vfs/proc",
    "vfs/cgroup": "vfs vfs/proc",
    "netstack": "vfs",
    "netstack/port": "base time",
    "netstack/link": "base",
    "netstack/tcp": "base time",
    "netstack/inet": "netstack netstack/port netstack/tcp netstack/link",
    "netstack/unix": "netstack",
    "netstack/netlink": "netstack",
    "netstack/packet": "netstack netstack/link",
    # The table of socket families, which stands above them.
    "netstack/sockets": "netstack/unix netstack/netlink",
    # The parts of a task; none knows Task.
    "sentry/mm": "vfs platform",
    "sentry/signal": "sentry/mm",
    "sentry/futex": "sentry/mm",
    "sentry/time": "vfs",
    "sentry/ipc": "sentry/mm",
    "sentry/vdso": "vfs",
    "sentry/loader": "sentry/mm sentry/vdso",
    "sentry/kernel": "sentry/mm sentry/signal sentry/futex sentry/time sentry/ipc sentry/loader "
                     "vfs/tmpfs vfs/dev vfs/pipe vfs/anon vfs/inotify vfs/tty vfs/proc netstack "
                     "netstack/unix netstack/sockets",
    "sentry/procfs": "sentry/kernel vfs/sys vfs/cgroup",
    "sentry/debug": "sentry/kernel",
    "syscalls": "sentry/kernel sentry/procfs",
    "sentry/boot": "syscalls sentry/protocol sentry/procfs sentry/debug confine platform/ptrace "
                   "platform/trap platform/kvm vfs/gofer vfs/host vfs/overlay netstack/inet "
                   "netstack/netlink netstack/packet",
    # The processes around the sentry link none of its objects.
    "gofer/server": "gofer/protocol",
    "gofer": "gofer/server confine",
    "runsc/oci": "base sentry/protocol",
    "runsc/cgroup": "runsc/oci",
    "runsc/sandbox": "base confine sentry/protocol gofer/protocol",
    "runsc/container": "runsc/oci runsc/cgroup runsc/sandbox",
    "runsc/cmd": "runsc/container",
    "runsc": "runsc/cmd",
    # Guests know nothing of the product.
    "test/util": "",
    "test/syscalls": "test/util",
    "test/security": "test/util",
    "test/cli": "runsc/cmd runsc/sandbox sentry/boot gofer",
    "benchmarks": "",
}

# Single files that may include more: the one place that links the entry points, and headers that
# hold nothing but such an entry point.
FILES = {
    "runsc/main.cc": "gofer/main.h sentry/boot/main.h sentry/boot/boot.h",
    "runsc/sandbox/start_bench.cc": "sentry/boot/fake_kernel.h sentry/boot/open_platform.h",
}

# Tests (*_test.cc, test_*.cc, *_bench.cc, testing.h, testing/) may include in addition, wherever
# they stand. Anything else that a test needs from above its folder stands in FILES or TESTS.
EVERY_TEST = "platform/fake vfs/testing sentry/mm/testing vfs/tmpfs"
TESTS = {
    "confine": "base",
    "gofer/protocol": "gofer/server",
    "platform/stub": "confine",
    "runsc/sandbox": "gofer sentry/boot",
    "runsc/container": "gofer sentry/boot",
    "netstack/unix": "vfs/pipe",
    "vfs/gofer": "gofer/server",
    "vfs": "vfs/pipe vfs/dev vfs/anon",
    "sentry": "vfs/pipe vfs/dev vfs/anon",
}

# Third party: what an #include looks like -> which files may have it.
LIBRARIES = {
    "libseccomp": (r"<seccomp\.h>", r".*filter[^/]*\.cc"),
    "xbyak": (r"[<\"]xbyak/", r"platform/.*"),
    "nlohmann-json": (r"[<\"]nlohmann/", r"runsc/oci/parse\.cc"),
    "CLI11": (r"[<\"]CLI/", r"runsc/cmd/args\.cc"),
    "lwIP": (r"[<\"]lwip/", r"netstack/port/.*"),
    "protobuf": (r"[<\"]google/protobuf/|\.pb\.h\"", r"(sentry/(protocol|boot)|runsc|test/cli)/.*"),
    "linux/kvm.h": (r"<linux/kvm\.h>", r"platform/kvm/.*"),
    "googletest": (r"[<\"]g(test|mock)/",
                   r"(test/(util|syscalls)/.*|.*(_test|test_[^/]*)\.(cc|h)|.*/testing/.*|.*testing\.h|"
                   r".*_test_util\.h|.*_(bench|fuzzer)\.cc)"),
}

SIZE_LIMIT = 500  # Lines; tables, generated files and abi/ excepted.
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<][^">]+[">])')


def row(folder, table):
    """The row of `folder` or of the nearest folder above it that has one."""
    while folder and folder not in table:
        folder = os.path.dirname(folder)
    return folder


def closure(folder):
    """All folders whose headers `folder` may include."""
    seen, todo = set(), [folder]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += LAYERS.get(name, "").split()
    return seen


def is_test(path):
    name = os.path.basename(path)
    return bool(re.search(r"_test\.|_test_util\.|^test_|_bench\.|_fuzzer\.|^testing\.h$|^fake_", name)
                or "/testing/" in path)


def allowed(path, header):
    """Whether `path` may include the project's `header`."""
    folder, target = row(os.path.dirname(path), LAYERS), row(os.path.dirname(header), LAYERS)
    if folder == target or header in FILES.get(path, "").split():
        return True
    reachable = closure(folder)
    if is_test(path):
        extra = EVERY_TEST.split() + TESTS.get(row(folder, TESTS), "").split()
        if any(header.startswith(name + "/") for name in extra):
            return True
        for name in extra:
            reachable |= closure(name) if name in LAYERS else set()
    return target in reachable


def sources():
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.cc", "*.h", "*.inc"],
                             cwd=ROOT, stdout=subprocess.PIPE)
    names = listing.stdout.decode().split()
    if listing.returncode != 0:  # Not a clone: an unpacked archive.
        names = [os.path.relpath(os.path.join(at, name), ROOT)
                 for at, folders, files in os.walk(ROOT) for name in files
                 if name.endswith((".cc", ".h", ".inc")) and "/build/" not in at + "/"]
    return sorted(set(name for name in names if os.path.exists(os.path.join(ROOT, name))
                      and not name.startswith("cmake/")))


def scripts():
    """Python files and scripts, which the limit on lines is for too."""
    for at, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ("build", ".git")]
        for name in files:
            path = os.path.join(at, name)
            if name.endswith((".py", ".sh")):
                yield os.path.relpath(path, ROOT)
            elif "." not in name and os.path.isfile(path):
                with open(path, "rb") as file:
                    if file.read(2) == b"#!":
                        yield os.path.relpath(path, ROOT)


def check_table():
    """The table itself: only known names, nothing that reaches itself."""
    for folder, names in LAYERS.items():
        for name in names.split():
            if name not in LAYERS:
                yield f"tools/check_layers.py: {folder} names the unknown folder {name}"
            elif folder in closure(name):
                yield f"tools/check_layers.py: {folder} and {name} depend on each other"


def main():
    if "--table" in sys.argv:
        print("| Folder | May include |\n| --- | --- |")
        for folder, names in LAYERS.items():
            print(f"| `{folder}/` | {', '.join(f'`{name}`' for name in names.split()) or '—'} |")
        return 0
    problems = {"table": list(check_table()), "layers": [], "libraries": [], "guards": []}
    long_files = []
    for path in sources():
        with open(os.path.join(ROOT, path), errors="replace") as file:
            lines = file.read().split("\n")
        if row(os.path.dirname(path), LAYERS) == "":
            problems["layers"].append(f"{path}: its folder has no row in tools/check_layers.py")
            continue
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            include = match[1]
            header = include.strip('"<>')
            first = header.split("/")[0]
            if include[0] == '"' and "/" in header and os.path.isdir(os.path.join(ROOT, first)):
                if not allowed(path, header):
                    problems["layers"].append(
                        f"{path}:{number}: {row(os.path.dirname(path), LAYERS)}/ may not include {header}")
            for name, (pattern, files) in LIBRARIES.items():
                if re.search(pattern, include) and not re.fullmatch(files, path):
                    problems["libraries"].append(f"{path}:{number}: {name} may not be included here")
        if path.endswith(".h") and not path.endswith("_pch.h"):
            guard = "CAISSON_" + re.sub(r"[^A-Z0-9]", "_", path.upper()) + "_"
            if f"#ifndef {guard}" not in lines or f"#define {guard}" not in lines:
                problems["guards"].append(f"{path}: the header guard is not {guard}")
        if len(lines) > SIZE_LIMIT and not path.startswith("abi/") and not path.endswith(".inc"):
            long_files.append(f"note: {path} has {len(lines)} lines, the limit is {SIZE_LIMIT}")
    for path in sorted(scripts()):
        with open(os.path.join(ROOT, path), errors="replace") as file:
            count = len(file.read().split("\n"))
        if count > SIZE_LIMIT:
            long_files.append(f"note: {path} has {count} lines, the limit is {SIZE_LIMIT}")
    for line in long_files:
        print(line)
    failed = 0
    for check, found in problems.items():
        for line in found:
            print(line)
        failed += bool(found)
        print(f"{'not ok' if found else 'ok'} check_layers.{check}")
    print(f"[ TOTALS ] check_layers: {len(problems)} run, {len(problems) - failed} passed, "
          f"{failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
