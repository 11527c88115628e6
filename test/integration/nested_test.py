#!/usr/bin/env python3
"""runsc inside a container of Docker and runc, under Docker's default seccomp profile: not privileged, two capabilities.

There a notification may be hidden by the profile's own answers, so system calls must come as signals (docs/platform.md 2).
"""

import json
import os
import shutil
import subprocess

import guest_bundle
import lib
from docker_engine import IMAGE, engine, main, workspace
from lib import equal, true

cases = []
folder = os.path.join(workspace.directory, "inner")


def case(function):
    cases.append((function.__name__, function))
    return function


def bundles():
    if os.path.isdir(folder):
        return
    bundle = os.path.join(folder, "shell")
    os.makedirs(bundle)
    shutil.copy(lib.RUNTIME, os.path.join(folder, "runsc"))
    subprocess.run([os.path.join(lib.REPOSITORY, "tools/make_busybox_root"), os.path.join(bundle, "rootfs")], check=True)
    config = lib.spec(args=["/bin/sh", "-c", "echo hello | cat; id -u; (exit 3); echo $?; exit 4"])
    with open(os.path.join(bundle, "config.json"), "w") as file:
        json.dump(config, file)
    if not guest_bundle.missing():
        guest_bundle.make(folder)


def inside(script, capabilities=("SYS_ADMIN", "SYS_PTRACE"), timeout=90):
    bundles()
    added = [word for name in capabilities for word in ("--cap-add", name)]
    # An AppArmor profile, where there is one, is not what this is about.
    return engine.docker("run", "--rm", "--network=none", "--runtime=runc", *added, "--security-opt", "apparmor=unconfined",
                         "--tmpfs", "/run", "-v", folder + ":/inner", IMAGE, "/bin/sh", "-c",
                         'run="run --bundle"; cd /inner; ' + script, timeout=timeout)


def run(options, bundle="shell"):
    return f"./runsc --ignore-cgroups {options} $run {bundle} x; echo status $?; "


@case
def the_profile_is_there():
    result = inside("grep -E '^Seccomp' /proc/self/status; unshare -r true 2>&1; true", capabilities=())
    true(result.out.startswith("Seccomp:\t2\nSeccomp_filters:\t1\n"), str(result))


@case
def auto_takes_signals_and_says_why():
    result = inside(run("--debug --debug-log /run/log") + "cat /run/log")
    true(result.out.startswith("hello\n0\n3\nstatus 4\n"), str(result))
    true("not notifications: trap platform: this process is below a seccomp filter" in result.out, str(result))


@case
def each_platform():
    for platform in ("trap", "trap-notify-off", "ptrace"):
        equal(inside(run("--platform=" + platform)).out, "hello\n0\n3\nstatus 4\n", platform)


@case
def a_missing_capability_is_named():
    result = inside(run(""), capabilities=("SYS_ADMIN",))
    # A later profile may allow the calls.
    if result.out != "hello\n0\n3\nstatus 4\n":
        true("process_vm_readv and process_vm_writev are refused" in result.err and "CAP_SYS_PTRACE" in result.err, str(result))


@case
def create_start_exec_delete():
    result = inside("./runsc --ignore-cgroups create --bundle shell x </dev/null >/run/out 2>&1; ./runsc state x | grep -o created.,; "
                    "./runsc start x; ./runsc wait x; ./runsc delete x; cat /run/out")
    equal(result.out, 'created",\n{"id":"x","exitStatus":4}\nhello\n0\n3\n', str(result))


@case
def guest_tests():
    problem = guest_bundle.missing()
    if problem:
        raise lib.Skip(problem)
    for name in guest_bundle.SELECTION:
        result = inside(run("", name), timeout=150)
        true(result.out.rstrip().endswith("status 0") and "PASSED" in result.out, f"{name}: {result}")


if __name__ == "__main__":
    main(cases)
