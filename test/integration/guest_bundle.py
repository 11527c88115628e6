"""Bundles of guest tests for places where test/runner cannot run: inside a container and in QEMU."""

import importlib.machinery
import importlib.util
import json
import os
import shutil

import lib

GUESTS = os.path.join(lib.REPOSITORY, "build/release/bin/guest")
SELECTION = ("fork_test", "futex_test", "mmap_test", "signal_frame_test", "signal_test")


def runner():
    path = os.path.join(lib.REPOSITORY, "test/runner/run_in_sandbox")
    loader = importlib.machinery.SourceFileLoader("run_in_sandbox", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def make(folder, binaries=SELECTION, exclude=(), only="*"):
    """Makes a bundle for each in `folder`, named after it. `exclude`: cases, besides those that are known to fail."""
    run = runner()
    expected = os.path.join(lib.REPOSITORY, "test/syscalls/expected_failures.txt")
    out = [*run.expected_failures(expected, "trap"), *exclude]
    for name in binaries:
        root = os.path.join(folder, name, "rootfs")
        for part in ("proc", "dev", "sys", "tmp", "bin"):
            os.makedirs(os.path.join(root, part), 0o755)
        shutil.copy(os.path.join(GUESTS, name), os.path.join(root, "bin"))
        args = ["/bin/" + name, "--gtest_brief=1", f"--gtest_filter={only}-" + ":".join(out)]
        with open(os.path.join(folder, name, "config.json"), "w") as file:
            json.dump(run.spec(args, ()), file)


def missing():
    """Why there is nothing to make bundles of, or None."""
    left = [name for name in SELECTION if not os.path.exists(os.path.join(GUESTS, name))]
    return f"not built: {', '.join(left)}" if left else None
