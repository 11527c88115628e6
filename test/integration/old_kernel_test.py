#!/usr/bin/env python3
"""Debian's stock kernel, booted in QEMU without any help of a CPU: 6.1 on Debian 12, the oldest that is supported.

It has neither the synchronous wake-up of 6.6 nor what 6.11 mended, so notifications are not used there. The root file
system is made on the spot: busybox, runsc, a shell's bundle, some with limits (cgroup2_guest.py) and some guest tests. Nothing of the host is changed; the
kernel's package is only unpacked, in CAISSON_KERNEL_CACHE (default /var/cache/caisson/kernel).
"""

import glob
import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import sys

import cgroup2_guest
import guest_bundle
import lib
from lib import equal, true

CACHE = os.environ.get("CAISSON_KERNEL_CACHE", "/var/cache/caisson/kernel")
LIMIT = float(os.environ.get("CAISSON_QEMU_SECONDS", "540"))
# What asks for more CPU time than an emulator has.
SLOW = ()
SHELL_SAYS = "hello\n3\n"
PLATFORMS = ("auto", "trap-notify-off", "ptrace")

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /tmp /run
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; ip link set lo up
# say NAME COMMAND...: its output and status, between marks.
say() {
  name=$1; shift
  echo "<<$name"; "$@" </dev/null 2>&1; echo ">>$name $?"
}
run() { runsc --platform=$1 --debug --debug-log /run/log run --bundle /bundles/$2 x; }
why() { grep -o 'not notifications: .*' /run/log; rm -f /run/log; }
if [ -z "$SWITCHED" ]; then
  say initramfs run auto shell
  # Most systems do not run from their initramfs.
  mkdir /new; mount -t tmpfs -o mode=755 root /new; cp -a /bin /bundles /init /new
  SWITCHED=1 exec switch_root /new /init
fi
say uname uname -r
for platform in PLATFORMS; do say $platform run $platform shell; say $platform.why why; done
CGROUPS
for guest in GUESTS; do say $guest runsc run --bundle /bundles/$guest x; done
# The emulated CPU has protection keys, which few machines have. First without a sandbox.
pku="cpu_state_test --gtest_color=no --gtest_filter=ProtectionKey*"
say pku.native /bundles/cpu_state_test/rootfs/bin/$pku
for platform in trap-notify-off ptrace; do say pku.$platform runsc --platform=$platform run --bundle /bundles/cpu_state_test x; done
echo '<<end'; echo '>>end 0'
poweroff -f
"""


def find_kernel():
    """(path of a kernel, None) or (None, why there is none)."""
    have = sorted(glob.glob(os.path.join(CACHE, "vmlinuz-*")))
    if have:
        return have[-1], None
    depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout.decode()
    match = re.search(r"Depends: (linux-image-\S+)", depends)
    if not match:
        return None, "apt knows no linux-image-amd64"
    os.makedirs(CACHE, exist_ok=True)
    # As root, in a directory of root's: not by apt's own user.
    result = subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", match[1]], cwd=CACHE,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    packages = glob.glob(os.path.join(CACHE, "linux-image-*.deb"))
    if result.returncode != 0 or not packages:
        return None, "the kernel's package cannot be fetched"
    unpacked = os.path.join(CACHE, "unpacked")
    subprocess.run(f"dpkg-deb --fsys-tarfile {packages[0]} | tar -x -C {CACHE} --strip-components=2 --wildcards './boot/vmlinuz-*'",
                   shell=True, check=True)
    os.unlink(packages[0])
    shutil.rmtree(unpacked, ignore_errors=True)
    have = glob.glob(os.path.join(CACHE, "vmlinuz-*"))
    return (have[0], None) if have else (None, "no kernel in its package")


def archive(root, target):
    """An initramfs of `root`: cpio's "newc" format (Linux Documentation/driver-api/early-userspace/buffer-format.rst)."""
    with gzip.open(target, "wb", compresslevel=1) as out:
        def entry(name, mode, content, number, device=(0, 0)):
            fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
            out.write(head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4))

        number = 1
        for at, folders, files in os.walk(root):
            for name in sorted(folders + files):
                path = os.path.join(at, name)
                about = os.lstat(path)
                content = b""
                if stat.S_ISLNK(about.st_mode):
                    content = os.readlink(path).encode()
                elif stat.S_ISREG(about.st_mode):
                    with open(path, "rb") as file:
                        content = file.read()
                entry(os.path.relpath(path, root), about.st_mode, content, number)
                number += 1
        entry("dev", stat.S_IFDIR | 0o755, b"", number)
        entry("dev/console", stat.S_IFCHR | 0o600, b"", number + 1, (5, 1))
        entry("TRAILER!!!", 0, b"", 0)


def make_root(root):
    shell = os.path.join(root, "bundles/shell")
    os.makedirs(shell)
    os.makedirs(os.path.join(root, "bin"))
    shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
    shutil.copy(lib.RUNTIME, os.path.join(root, "bin/runsc"))
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), os.path.join(shell, "rootfs")], check=True)
    with open(os.path.join(shell, "config.json"), "w") as file:
        json.dump(lib.spec(args=["/bin/sh", "-c", "echo hello | cat; (exit 3); echo $?; exit 4"]), file)
    guest_bundle.make(os.path.join(root, "bundles"), exclude=SLOW)
    guest_bundle.make(os.path.join(root, "bundles"), ["cpu_state_test"], only="ProtectionKey*")
    cgroup2_guest.make(os.path.join(root, "bundles"))
    with open(os.path.join(root, "init"), "w") as file:
        file.write(INIT.replace("PLATFORMS", " ".join(PLATFORMS)).replace("GUESTS", " ".join(guest_bundle.SELECTION))
                   .replace("CGROUPS", cgroup2_guest.script()))
    os.chmod(os.path.join(root, "init"), 0o755)


def boot(workspace, kernel):
    """What the machine said: {mark: (text, status)}, and all of it."""
    root, image = (os.path.join(workspace.directory, name) for name in ("root", "initramfs"))
    make_root(root)
    archive(root, image)
    result = lib.collect(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1G", "-nographic", "-no-reboot",
                          "-net", "none", "-kernel", kernel, "-initrd", image,
                          "-append", "console=ttyS0 quiet panic=-1"], b"", LIMIT)
    text = result.out.replace("\r", "")
    marks = {match[1]: (match[2], int(match[3])) for match in
             re.finditer(r"<<(\S+)\n(.*?)^>>\1 (\d+)$", text, re.S | re.M)}
    return marks, text


def cases(marks, text):
    def said(name):
        if name not in marks:
            raise AssertionError(f"nothing is said of {name}")
        return marks[name]

    def boots():
        print(f"  Linux {marks.get('uname', '?')[0].strip()}")
        true("end" in marks, f"it does not come to its end: {text[-1500:]}")

    def shell(name):
        def run():
            equal(said(name), (SHELL_SAYS, 4), name)
        return run

    def release():
        return tuple(int(part) for part in said("uname")[0].split("-")[0].split(".")[:2])

    def auto_says_why():
        why = said("auto.why")[0]
        if release() < (6, 11):
            true("trap platform: notifications are used from Linux 6.11 on" in why, repr(why))
        else:
            equal(why, "", f"Linux {release()}")

    def guest(name):
        def run():
            output, status = said(name)
            true(status == 0 and "PASSED" in output, output[-3000:])
        return run

    def pku(name):
        def run():
            output, _ = said(f"pku.{name}")
            failed = set(re.findall(r"^\[  FAILED  \] (\w+\.\w+)", output, re.M))
            # Before Linux 6.12 the kernel writes a signal's frame with the rights of the interrupted code, and kills who has none.
            equal(failed, {"ProtectionKeyTest.CallsWorkWithEverythingDenied"} if name == "trap-notify-off" and release() < (6, 12) else set(),
                  f"failures in {output[-3000:]}")
            true(f"[  PASSED  ] {3 - len(failed)} test" in output and "SKIPPED" not in output, output[-3000:])
        return run

    return [("boots", boots), ("from_the_initramfs", shell("initramfs")),
            *((platform.replace("-", "_"), shell(platform)) for platform in PLATFORMS), ("auto_says_why", auto_says_why),
            *((f"protection_keys_{name}", pku(name)) for name in ("native", "trap-notify-off", "ptrace")),
            *cgroup2_guest.cases(said), *((name, guest(name)) for name in guest_bundle.SELECTION)]


def main():
    problem = None if os.geteuid() == 0 else "must be root"
    for program in ("qemu-system-x86_64", "busybox", "dpkg-deb", "apt-get"):
        if shutil.which(program) is None:
            problem = problem or f"no {program}"
    problem = problem or guest_bundle.missing()
    kernel = None
    if not problem:
        kernel, problem = find_kernel()
    if problem:
        print(f"skip old_kernel: {problem}")
        print("[ TOTALS ] old_kernel_test.py: 1 run, 0 passed, 0 failed, 1 skipped")
        return
    workspace = lib.Workspace()
    try:
        marks, text = boot(workspace, kernel)
    finally:
        workspace.close()
    lib.main(cases(marks, text))


if __name__ == "__main__":
    sys.exit(main())
