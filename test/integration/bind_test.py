#!/usr/bin/env python3
"""Bind mounts: what is swapped behind or inside them never leads out of their source; links and renames between them.

Directories are exchanged with symbolic links that lead out, on the host while the guest opens files below them, and by
the guest itself. Nothing outside of the source may be read, changed or made. Whether the races are raced is shown by a
process on the host that walks the same paths: it does get out.
"""

import os
import subprocess
import sys
import tempfile

import debian_root
import lib
from lib import equal, true

workspace = lib.Workspace()
SECONDS = 4
SECRET = "a secret of the host"
cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


# Exchanges pairs of names until it is killed: renameat2(2), RENAME_EXCHANGE.
SWAP = """
import ctypes, os, sys
call = ctypes.CDLL(None, use_errno=True).renameat2
pairs = [(a.encode(), b.encode()) for a, b in zip(sys.argv[1::2], sys.argv[2::2])]
print("ready", flush=True)
while True:
    for a, b in pairs:
        if call(-100, a, -100, b, 2) != 0: raise OSError(ctypes.get_errno())
"""

# Everything that takes a path, on BASE/a and what is below it, for as long as is asked; each answer is looked at.
WALK = """
import errno, os, sys, time
base, seconds, swap, secret = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "swap", sys.argv[4]
os.chdir(base)
if swap and os.fork() == 0:
    import ctypes
    call = ctypes.CDLL(None).renameat2
    end = time.monotonic() + seconds
    while time.monotonic() < end: call(-100, b"a", -100, b"link", 2); call(-100, b"a", -100, b"absolute", 2)
    os._exit(0)
found, errors, rounds = set(), set(), 0
def do(what, function):
    try:
        answer = function()
    except OSError as e:
        errors.add(e.errno)
        return
    if answer is not None and (secret in answer if isinstance(answer, (str, list)) else False): found.add(what)
    elif answer is not None: seen.add(what)
def read(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try: return os.read(fd, 100).decode()
    finally: os.close(fd)
def write(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try: os.write(fd, b"inside")
    finally: os.close(fd)
def below(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        inner = os.open("f", os.O_RDONLY, dir_fd=fd)
        try: return os.read(inner, 100).decode()
        finally: os.close(inner)
    finally: os.close(fd)
seen = set()
deep = os.open("deep/er", os.O_RDONLY | os.O_DIRECTORY)
def up(path):
    fd = os.open(path, os.O_RDONLY, dir_fd=deep)
    try: return os.read(fd, 100).decode()
    finally: os.close(fd)
end = time.monotonic() + seconds
while time.monotonic() < end:
    n = str(rounds); rounds += 1
    do("deep", lambda: os.listdir("deep/er"))
    do("read", lambda: read("a/f")); do("list", lambda: os.listdir("a")); do("openat", lambda: below("a"))
    do("up", lambda: up("../f")); do("up2", lambda: up("../../f")); do("up3", lambda: up("../../../outside/f"))
    do("create", lambda: write("a/new" + n)); do("unlink", lambda: os.unlink("a/new" + n))
    do("mkdir", lambda: os.mkdir("a/dir" + n)); do("rmdir", lambda: os.rmdir("a/dir" + n))
    do("symlink", lambda: os.symlink("x", "a/sym" + n)); do("readlink", lambda: os.readlink("a/sym" + n)); do("rm", lambda: os.unlink("a/sym" + n))
    do("rename", lambda: os.rename("a/f", "a/f" + n)); do("back", lambda: os.rename("a/f" + n, "a/f"))
    do("link", lambda: os.link("a/f", "a/l" + n)); do("rm", lambda: os.unlink("a/l" + n))
    do("move", lambda: os.rename("a/f", "moved")); do("moved", lambda: read("moved")); do("back", lambda: os.rename("moved", "a/f"))
    do("chmod", lambda: os.chmod("a/f", 0o777)); do("utime", lambda: os.utime("a/f", (1, 1))); do("truncate", lambda: os.truncate("a/f", 7))
    do("xattr", lambda: os.setxattr("a/f", "user.x", b"y")); do("chown", lambda: os.chown("a/f", 7, 7)); do("stat", lambda: str(os.stat("a/f").st_size))
    do("append", lambda: read("a/f", os.O_RDWR | os.O_APPEND)); do("exec", lambda: None if os.access("a/f", os.X_OK) else "")
print("rounds", rounds > 30); print("inside", sorted(seen & {"read", "list", "openat"})); print("errors", errno.ENOENT in errors or errno.ENOTDIR in errors or errno.ELOOP in errors)
print("found", sorted(found)); print("crossed", errno.EXDEV in errors)
"""


class Place:
    """A directory that is mounted, `source`, and one beside it that nobody may reach, `outside`."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="bind-", dir=workspace.directory)
        os.chmod(self.directory, 0o755)
        self.source, self.outside = (os.path.join(self.directory, name) for name in ("source", "outside"))
        for path in ("a", "deep/er", "spare"):
            os.makedirs(os.path.join(self.source, path))
        os.mkdir(self.outside)
        # A moved directory comes to stand here, so "../f" of it would be the secret.
        os.makedirs(os.path.join(self.outside, "er2"))
        for path, text in (("source/a/f", "inside"), ("source/deep/f", "inside"), ("source/f", "inside"),
                           ("outside/f", SECRET), ("outside/" + SECRET, SECRET), ("f", SECRET)):
            with open(os.path.join(self.directory, path), "w") as file:
                file.write(text)
        os.symlink("../outside", os.path.join(self.source, "link"))
        os.symlink(self.outside, os.path.join(self.source, "absolute"))
        self.before = self.look()

    def look(self):
        """All that an escape could have changed."""
        out = []
        for name in ("f", "outside/f", "outside/" + SECRET):
            path = os.path.join(self.directory, name)
            about = os.stat(path)
            with open(path) as file:
                out.append((name, file.read(), about.st_mode, about.st_uid, about.st_size, about.st_mtime_ns, about.st_nlink, os.listxattr(path)))
        return out + [sorted(os.listdir(self.directory)), sorted(name for name in os.listdir(self.outside) if name != "er2")]

    def swapping(self, *names):
        """A process that exchanges `names`, pairs of paths below the directory."""
        process = subprocess.Popen([sys.executable, "-c", SWAP, *(os.path.join(self.directory, name) for name in names)], stdout=subprocess.PIPE)
        equal(process.stdout.readline(), b"ready\n", "the process that swaps")
        return process


def config(place, command, mounts=None, options=("bind", "rw")):
    out = lib.spec(args=["/usr/bin/python3", "-c", *command])
    out["root"]["readonly"] = True
    for target, source in (mounts or {"/tmp/b": place.source}).items():
        out["mounts"].append({"destination": target, "type": "bind", "source": source, "options": list(options)})
    return out


def debian():
    try:
        return debian_root.debian_root()
    except RuntimeError as problem:
        raise lib.Skip(str(problem)) from None


def race(swaps, inside):
    """The walk, in a container; `swaps` are exchanged on the host, and by the guest too if `inside`."""
    place = Place()
    swapper = place.swapping(*swaps) if swaps else None
    try:
        result = workspace.run(debian(), config(place, [WALK, "/tmp/b", str(SECONDS), "swap" if inside else "", SECRET]), timeout=60)
    finally:
        if swapper:
            equal(swapper.poll(), None, "the process that swaps has ended")
            swapper.kill()
            swapper.wait()
    # What is read while the file itself is moved to and fro is a matter of luck.
    for wanted in ("rounds True\n", "'list'", "errors True\n", "found []\n", "crossed False\n"):
        true(wanted in result.out and result.status == 0, f"no {wanted!r}: {result}")
    equal(place.look(), place.before, "what is outside the mount")


OUT = ("source/a", "source/link", "source/a", "source/absolute")


@case
def the_race_is_one():
    """The same walk on the host does get out: the other cases can fail."""
    place = Place()
    swapper = place.swapping(*OUT)
    try:
        result = lib.collect([sys.executable, "-c", WALK, place.source, "2", "", SECRET], b"", 30)
    finally:
        swapper.kill()
        swapper.wait()
    true("'list'" in result.out.split("found")[1] or "'read'" in result.out.split("found")[1], str(result))
    try:
        changed = place.look() != place.before
    except FileNotFoundError:  # It was moved into the source.
        changed = True
    true(changed, "nothing outside has changed")


@case
def the_host_swaps_directories_and_links():
    race(OUT, inside=False)


@case
def the_guest_swaps_directories_and_links():
    race((), inside=True)


@case
def both_swap():
    race(("source/a", "source/link"), inside=True)


@case
def the_host_moves_a_directory_out():
    race(("source/deep/er", "outside/er2", "source/a", "source/spare"), inside=False)


# What is in both of two directories that are exchanged is always there.
BOTH = """
import os, sys, time
os.chdir(sys.argv[1])
missed, seen, rounds = {}, set(), 0
def read(path, flags=os.O_RDONLY):
    fd = os.open(path, flags, 0o600)
    try: return seen.add(os.read(fd, 100))
    finally: os.close(fd)
ways = {"read": lambda: read("a/f"), "deep": lambda: read("a/in/side/f"), "write": lambda: read("a/in/f", os.O_RDWR), "create": lambda: read("a/in/side/f", os.O_RDWR | os.O_CREAT),
        "up": lambda: read("a/in/side/../f"), "stat": lambda: os.stat("a/in/side/f"), "list": lambda: os.listdir("a/in/side"), "link": lambda: read("link/side/f")}
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    rounds += 1
    for name, way in ways.items():
        try: way()
        except OSError as e: missed[name, e.errno] = missed.get((name, e.errno), 0) + 1
print("missed", missed); print("seen", sorted(seen)); print("opens", rounds * 5 > 1000)
"""


@case
def what_is_in_both_exchanged_directories_is_never_missed():
    place = Place()
    for name in ("both1", "both2"):
        os.makedirs(os.path.join(place.source, name, "in/side"))
        for file in ("f", "in/f", "in/side/f"):
            with open(os.path.join(place.source, name, file), "w") as out:
                out.write(name)
    os.rmdir(os.path.join(place.source, "spare"))
    os.rename(os.path.join(place.source, "a"), os.path.join(place.source, "spare"))
    os.rename(os.path.join(place.source, "both1"), os.path.join(place.source, "a"))
    os.unlink(os.path.join(place.source, "link"))
    os.symlink("a/in", os.path.join(place.source, "link"))
    swapper = place.swapping("source/a", "source/both2")
    try:
        native = lib.collect([sys.executable, "-c", BOTH, place.source, "1"], b"", 30)
        result = workspace.run(debian(), config(place, [BOTH, "/tmp/b", str(2 * SECONDS)]), timeout=60)
    finally:
        equal(swapper.poll(), None, "the process that swaps has ended")
        swapper.kill()
        swapper.wait()
    for out in (native, result):
        equal(out.out, "missed {}\nseen [b'both1', b'both2']\nopens True\n", "natively" if out is native else "inside")


LINKS = """
import errno, fcntl, mmap, os, subprocess, threading
def what(function, *args):
    try: return function(*args)
    except OSError as e: return errno.errorcode[e.errno]
a, b, c = "/tmp/one/", "/tmp/two/", "/tmp/"
open(a + "x", "w").write("text"); open(c + "t", "w").write("tmpfs")
print("link", [what(os.link, *p) for p in ((a + "x", b + "y"), (a + "x", c + "y"), (c + "t", a + "y"), ("/etc/hostname", a + "y"), (a + "x", a + "y"), (c + "t", c + "t2"))])
print("rename", [what(os.rename, *p) for p in ((a + "x", b + "z"), (a + "x", c + "z"), (c + "t", b + "z"), (b + "y", b + "z"), (a + "z", a + "y"))])
print("rename of directories", [what(os.rename, *p) for p in (("/tmp/one", "/tmp/three"), (a + "d", b + "d2"), (a + "d", a + "d/e"), (a + "d", a + "d3"), (b + "d3", b + "d"))])
print("same", os.path.samefile(a + "x", b + "y"), os.stat(a + "x").st_nlink, os.stat(b + "x").st_ino == os.stat(a + "y").st_ino, os.stat(a).st_dev == os.stat(b).st_dev)
open(b + "y", "a").write(" and more"); print("text", open(a + "x").read())
f = open(a + "x", "r+b"); g = open(b + "y", "r+b")
m, n = mmap.mmap(f.fileno(), 0), mmap.mmap(g.fileno(), 0)
m[0:4] = b"TEXT"; print("mapped", bytes(n), open(b + "y", "rb").read())
fcntl.flock(f, fcntl.LOCK_EX); print("flock", what(fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB)); fcntl.flock(f, fcntl.LOCK_UN)
fcntl.lockf(f, fcntl.LOCK_EX)
child = os.fork()
if child == 0: print("lockf", what(fcntl.lockf, g, fcntl.LOCK_EX | fcntl.LOCK_NB), flush=True); os._exit(0)
os.waitpid(child, 0)
os.unlink(a + "x"); print("left", os.listdir(b), os.stat(b + "y").st_nlink, what(os.stat, b + "x"))
os.unlink(b + "y"); print("gone", os.fstat(f.fileno()).st_nlink, f.read(), os.listdir(a))
print("mv", subprocess.run(["mv", "/tmp/t", a + "t"]).returncode, open(b + "t").read(), what(os.stat, c + "t"))
print("exchange", subprocess.run(["python3", "-c", "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); print(l.renameat2(-100, b'/tmp/one/t', -100, b'/tmp/two/d', 2), ctypes.get_errno())"], capture_output=True, text=True).stdout)
os.symlink("t", a + "s"); print("symlink", os.readlink(b + "s"), open(b + "s").read(), what(os.link, a + "s", a + "s2"), os.lstat(b + "s2").st_nlink)
fd = os.open(a, os.O_TMPFILE | os.O_RDWR); print("tmpfile", what(lambda: os.link(f"/proc/self/fd/{fd}", b + "linked", follow_symlinks=True)), what(lambda: os.link(f"/proc/self/fd/{fd}", a + "linked", follow_symlinks=True)), os.path.exists(b + "linked"))
print("end", sorted(os.listdir(b)))
"""


@case
def links_and_renames_between_mounts():
    """Two mounts of one directory and a tmpfs, compared with the reference."""
    answers = []
    for runtime in (lib.RUNTIME, lib.REFERENCE):
        source = tempfile.mkdtemp(prefix="links-", dir=workspace.directory)
        os.mkdir(os.path.join(source, "d"))
        answers.append(workspace.run(debian(), config(None, [LINKS], {"/tmp/one": source, "/tmp/two": source}), runtime=runtime))
    ours, theirs = answers
    equal((theirs.status, theirs.err), (0, ""), f"the reference: {theirs}")
    for mine, wanted in zip(ours.out.splitlines(), theirs.out.splitlines()):
        equal(mine, wanted, "an answer")
    equal((ours.status, ours.out, ours.err), (0, theirs.out, ""), "all")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skip bind_test: must be root")
        print("[ TOTALS ] bind_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    lib.main(cases, workspace.close)
