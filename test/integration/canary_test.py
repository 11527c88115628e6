#!/usr/bin/env python3
"""That a sanitizer's report of a confined process reaches the sandbox's log: for phases that pass when it has none.

CAISSON_RUNTIME is a runsc with AddressSanitizer. A segmentation fault is what can be had from outside.
"""

import os
import signal

import box
import lib
from box import Container, edited, workspace
from lib import true, until

cases = []


def reported(process):
    log = os.path.join(workspace.directory, process + ".log")
    saved = list(lib.RUNTIME_OPTIONS)
    lib.RUNTIME_OPTIONS[:] = ["--debug-log", log]
    try:
        with Container(edited(process__args=["/bin/sleep", "100"])) as container:
            os.kill(container.processes()[process], signal.SIGSEGV)
            until(lambda: container.status() == "stopped", "it lives on")
    finally:
        lib.RUNTIME_OPTIONS[:] = saved
    with open(log, errors="replace") as file:
        text = file.read()
    true("ERROR: AddressSanitizer" in text, f"no report in {text[-2000:]!r}")


for name in ("sentry", "gofer"):
    cases.append((f"report_of_the_{name}", lambda name=name: reported(name)))

if __name__ == "__main__":
    box.main(cases)
