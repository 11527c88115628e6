#!/usr/bin/env python3
"""What is wrong before a container runs: bundles, programs, ids, the state directory.

After each case nothing of it may be left: no process, no mount, no cgroup, no state.
"""

import json
import os
import shutil
import subprocess

import box
import lib
from box import Container, check_nothing_left, edited, new_name, root, workspace
from lib import equal, true

cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


def fails(config, *texts, status=None, prepare=None):
    """create must fail with each of `texts` in its message, and leave nothing."""
    name = new_name()
    bundle = workspace.bundle(root, config if isinstance(config, dict) else None)
    if isinstance(config, str):
        workspace.write(bundle, config)
    if prepare:
        prepare(bundle)
    for command in ("create", "run"):
        result = workspace.call(command, "--bundle", bundle, name)
        if result.status in (0, "timeout"):
            workspace.delete(name)
        true(result.status not in (0, "timeout"), f"{command}: {result}")
        if status is not None:
            equal(result.status, status, f"{command}: exit status, {result}")
        for text in texts:
            true(text in result.err, f"{command}: no {text!r} in {result.err!r}")
        true("terminate called" not in result.err and "Check failed" not in result.err, result.err)
        check_nothing_left(name)
    shutil.rmtree(bundle)


# Bundles.

@case
def config_missing():
    fails(None, "config.json")


@case
def config_empty():
    fails("", "config.json")


@case
def config_is_not_json():
    fails('{"ociVersion": "1.0.2", "process": {', "config.json")


@case
def config_is_a_list():
    fails("[1, 2]", "config.json")


@case
def config_with_wrong_types():
    for path, value in (("process__args", "sh"), ("process__args", [1, 2]), ("root__path", 7), ("mounts", {"a": 1}),
                        ("process__user__uid", -1), ("process__user__uid", "0"), ("linux__namespaces", "pid"),
                        ("process__env", [None]), ("hostname", ["x"]), ("process__rlimits", [{"type": 3}])):
        name = new_name()
        bundle = workspace.bundle(root, edited())
        config = edited(**{path: value})
        if path != "root__path":
            config["root"]["path"] = root
        workspace.write(bundle, json.dumps(config))
        result = workspace.call("create", "--bundle", bundle, name)
        true(result.status == 1 and result.err, f"{path} = {value!r}: {result}")
        check_nothing_left(name)
        shutil.rmtree(bundle)


@case
def sysctl_of_no_namespace():
    for name, value in (("kernel.panic", "1"), ("vm.swappiness", "1"), ("no.such.thing", "1"), ("kernel.shmmax", "much")):
        fails(edited(linux__sysctl={name: value}), name)


@case
def config_is_deeply_nested():
    fails('{"a":' * 100000, "config.json")


@case
def config_is_a_directory():
    fails(None, "config.json", prepare=lambda bundle: os.mkdir(os.path.join(bundle, "config.json")))


@case
def no_process():
    fails(edited(process=None), "process")


@case
def no_arguments():
    fails(edited(process__args=[]), "args")


@case
def root_missing():
    name = new_name()
    bundle = workspace.bundle("/nonexistent/root", edited())
    result = workspace.call("create", "--bundle", bundle, name)
    true(result.status == 1 and "/nonexistent/root" in result.err, str(result))
    check_nothing_left(name)


@case
def root_is_a_file():
    name = new_name()
    bundle = workspace.bundle("/etc/passwd", edited())
    result = workspace.call("create", "--bundle", bundle, name)
    true(result.status == 1 and "/etc/passwd" in result.err, str(result))
    check_nothing_left(name)


@case
def bundle_missing():
    result = workspace.call("create", "--bundle", "/nonexistent/bundle", "it-none")
    true(result.status == 1 and "/nonexistent/bundle" in result.err, str(result))
    check_nothing_left("it-none")


@case
def bad_ids():
    bundle = workspace.bundle(root, edited())
    for name in ("../x", "a/b", "", ".", "..", "a b", "x" * 2000):
        result = workspace.call("create", "--bundle", bundle, name)
        true(result.status not in (0, "timeout"), f"{name!r}: {result}")
    true(not os.path.exists(os.path.join(workspace.directory, "x")), "it has left the state directory")


@case
def bind_source_missing():
    config = edited()
    config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "/nonexistent/src",
                             "options": ["rbind"]})
    fails(config, "/nonexistent/src")


@case
def unknown_mount_type():
    config = edited()
    config["mounts"].append({"destination": "/mnt", "type": "nosuchfs", "source": "none"})
    fails(config, "nosuchfs")


# The program. The texts are those that engines turn into exit codes 126 and 127.

@case
def program_missing():
    fails(edited(process__args=["/bin/nothing"]), "no such file or directory")


@case
def program_not_in_path():
    fails(edited(process__args=["nothing"]), "executable file not found in $PATH")


@case
def program_not_executable():
    fails(edited(process__args=["/etc/passwd"]), "permission denied")


@case
def program_is_a_directory():
    fails(edited(process__args=["/etc"]), "permission denied")


@case
def program_executable_for_others_only():
    path = os.path.join(root, "bin/only-root")
    shutil.copy(os.path.join(root, "bin/busybox"), path)
    os.chmod(path, 0o700)
    fails(edited(process__args=["/bin/only-root"], process__user={"uid": 1, "gid": 1},
                 process__capabilities={}), "permission denied")


def run_script(content, *texts):
    """Fails at create or, for what only execve(2) sees, as the container's process."""
    path = os.path.join(root, "bin/script")
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o755)
    name = new_name()
    bundle = workspace.bundle(root, edited(process__args=["/bin/script"]))
    result = workspace.call("run", "--bundle", bundle, name)
    true(result.status not in (0, "timeout"), str(result))
    true(any(text in result.err.lower() for text in texts), str(result))
    workspace.delete(name)
    check_nothing_left(name)


@case
def bad_interpreter():
    run_script(b"#!/no/such/interpreter\n", "no such file or directory")


@case
def not_a_program():
    run_script(b"neither ELF nor script\n", "exec format error")


@case
def truncated_elf():
    with open(os.path.join(root, "bin/busybox"), "rb") as file:
        run_script(file.read(64), "exec format error", "input/output", "eio")


@case
def interpreter_that_loops():
    run_script(b"#!/bin/script\n", "too many levels of symbolic links")


@case
def cwd_missing_is_made_or_refused():
    # runc makes it; whatever is done, nothing hangs and nothing is left.
    name = new_name()
    bundle = workspace.bundle(root, edited(process__cwd="/etc/passwd/x"))
    result = workspace.call("run", "--bundle", bundle, name)
    true(result.status not in (0, "timeout") and result.err, str(result))
    workspace.delete(name)
    check_nothing_left(name)


# Ids and the order of commands.

@case
def duplicate_id():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        result = workspace.call("create", "--bundle", container.bundle, container.name)
        true(result.status == 1 and "already exists" in result.err, str(result))
        equal(container.status(), "created", "the first one's status")


@case
def commands_on_nothing():
    for command in (["start"], ["kill"], ["state"], ["delete"], ["exec"], ["ps"], ["pause"]):
        extra = ["true"] if command == ["exec"] else []
        result = workspace.call(*command, "it-nothing", *extra)
        true(result.status != 0 and "does not exist" in result.err, f"{command}: {result}")
    equal(workspace.call("delete", "--force", "it-nothing").status, 0, "delete --force of nothing")


@case
def exec_of_what_is_not_there():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        equal(workspace.call("start", container.name).status, 0, "start")
        for args, text in ((["nothing"], "executable file not found in $PATH"),
                           (["/bin/nothing"], "no such file or directory"),
                           (["/etc/passwd"], "permission denied")):
            result = workspace.call("exec", container.name, *args)
            true(result.status not in (0, "timeout") and text in result.err, f"{args}: {result}")
        equal(workspace.call("exec", container.name, "/bin/sh", "-c", "exit 9").status, 9, "exec's status")
        equal(container.status(), "running", "status")


# The state directory.

class StateDirectory:
    """A small file system for states; `with` checks that nothing but `filler` is left on it."""

    def __init__(self, options):
        self.path = os.path.join(workspace.directory, "small")
        os.makedirs(self.path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        left = sorted(os.listdir(self.path))
        subprocess.run(["umount", self.path], check=kind is None)
        os.rmdir(self.path)
        if kind is None:
            equal([name for name in left if name != "filler"], [], "left in the state directory")

    def call(self, *args):
        return lib.collect([lib.RUNTIME, "--root", self.path, *lib.RUNTIME_OPTIONS, *args], b"", 60)


def create_in(states, message):
    """Returns whether it worked; where not, it says why and leaves nothing."""
    name = new_name()
    bundle = workspace.bundle(root, edited(process__args=["/bin/true"]))
    result = states.call("run", "--bundle", bundle, name)
    if result.status != 0:
        true(result.status == 1 and message in result.err.lower(), str(result))
        equal(states.call("delete", "--force", name).status, 0, "delete --force")
    check_nothing_left(name, [states.path])
    shutil.rmtree(bundle)
    return result.status == 0


@case
def state_directory_full():
    worked = []
    # Full at the first byte, and at each later one that is written.
    for free in (0, 4096, 8192, 12288, 16384, 32768, 65536):
        with StateDirectory("size=256k") as states:
            with open(os.path.join(states.path, "filler"), "wb") as file:
                file.write(bytes((256 << 10) - free))
            worked.append(create_in(states, "no space left on device"))
    true(not worked[0] and worked[-1], f"worked: {worked}")


@case
def state_directory_without_inodes():
    # The root takes one.
    worked = []
    for inodes in range(1, 10):
        with StateDirectory(f"size=1m,nr_inodes={inodes}") as states:
            worked.append(create_in(states, "no space left on device"))
    true(not worked[0] and worked[-1], f"worked: {worked}")


@case
def state_directory_read_only():
    with StateDirectory("ro") as states:
        true(not create_in(states, "read-only file system"), "it works")


@case
def state_directory_is_a_file():
    path = os.path.join(workspace.directory, "a-file")
    open(path, "w").close()
    bundle = workspace.bundle(root, edited())
    result = lib.collect([lib.RUNTIME, "--root", path, "run", "--bundle", bundle, new_name()], b"", 60)
    true(result.status == 1 and "not a directory" in result.err, str(result))
    shutil.rmtree(bundle)
    os.unlink(path)


@case
def state_that_is_broken():
    with Container(edited(process__args=["/bin/sleep", "100"])) as container:
        path = os.path.join(workspace.state, os.path.basename(lib.RUNTIME), container.name, "state.json")
        with open(path, "rb") as file:
            good = file.read()
        for content in (b"", b"{", good[:-20], b"[]", b"\xff" * 100):
            with open(path, "wb") as file:
                file.write(content)
            for command in ("state", "start", "kill"):
                result = workspace.call(command, container.name)
                true(result.status not in (0, "timeout") and container.name in result.err, f"{command}: {result}")
            true(workspace.call("list").status != "timeout", "list")
        with open(path, "wb") as file:
            file.write(good)
        equal(container.status(), "created", "status")


@case
def no_descriptors_for_the_command_line():
    """Whatever is out of reach first, it is an error and not a hang."""
    bundle = workspace.bundle(root, edited(process__args=["/bin/true"]))
    for limit in (4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48):
        name = new_name()
        result = lib.collect(["prlimit", f"--nofile={limit}:{limit}", *workspace.command("run", "--bundle", bundle, name)], b"", 60)
        true(result.status != "timeout" and (result.status == 0 or result.err), f"{limit}: {result}")
        workspace.delete(name)
        check_nothing_left(name)
    shutil.rmtree(bundle)


if __name__ == "__main__":
    box.main(cases)
