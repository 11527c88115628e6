"""The phases of `make test-all` that run with sanitizers: units, guest tests and whole programs.

A report of a sanitizer is a failure wherever it is printed: by a test, by a child that a test does not
look at, or in the log of a sandbox that a guest test survives.
"""

import os
import re
import shutil
import subprocess
import sys
import time

from test_report import judge, read

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(ROOT, "build/release")
LOGS = os.path.join(ROOT, "build/test-logs")
REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error: |Sanitizer:DEADLYSIGNAL|Sanitizer CHECK failed")
# Each test's own time limit, against a release build's.
SLOWER = 4
# Memory limits of whole programs, and what these take against them: each of a sandbox's four processes has 40 MiB before it does
# anything, and the sentry leaves an eighth of the limit for all of that.
LARGER = 16
# Units whose leaks are looked for, and which run with ThreadSanitizer. The others have processes that are stubs or
# confined roles: LeakSanitizer, which traces its own process, has no place there, nor has TSan's shadow.
OURS = ("abi", "auth", "base", "confine", "gofer", "netstack", "platform/fake", "sentry", "syscalls", "time", "vfs")
# Whose sentry aborts on purpose: as pid 1 it ends by the fault behind abort()'s signal, which is reported.
PROVOKING = {"sandbox_test.failure_test"}


def options(leaks):
    return dict(os.environ, ASAN_OPTIONS=f"detect_leaks={int(leaks)}:abort_on_error=1:allocator_may_return_null=1",
                UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")


def below(folder, folders):
    return any(folder == part or folder.startswith(part + "/") for part in folders)


class Sanitizers:
    """Mixed into run_tests' Runner."""

    def units(self, phase, preset, limit, all_folders):
        """The unit tests of all folders, or of OURS, in the build of `preset`."""
        folder = os.path.join(ROOT, "build", preset)
        ends = min(time.monotonic() + limit, self.deadline)
        status, log = self.step(f"{phase}.configure", ["cmake", "--preset", preset], 300)
        if status != 0:
            self.report.add(phase, failed=1, log=log)
            return
        units, ours = {}, set()  # One program may be several tests: on each platform.
        for name, command, properties in self.ctest(folder):
            at = os.path.relpath(properties.get("WORKING_DIRECTORY", folder), folder)
            if "unit" not in properties.get("LABELS", []):
                continue
            if below(at, OURS):
                ours.add(name)
            if all_folders or name in ours:
                units[name] = os.path.basename(command[0]) if command else name.removesuffix("_NOT_BUILT")
        if not units:
            self.report.add(phase, failed=1, lines=["no unit test is known"])
            return
        self.build(f"{phase}.build", preset, sorted(set(units.values())), ends - time.monotonic() - 60)
        # What the build had no time for is skipped; what it could not compile has been counted as failed.
        built = set()
        for name, program in units.items():
            if os.path.exists(os.path.join(folder, "bin", program)):
                built.add(name)
            else:
                self.report.skip(f"{phase}: {name}", "not built")
        provoking = built & PROVOKING
        for leaks, names, bad in ((True, built & ours, REPORT), (False, built - ours - provoking, REPORT),
                                  (False, provoking, None)):
            if names:
                self.tests(phase, folder, "unit", ends - time.monotonic(), select=lambda name, names=names: name in names,
                           env=options(leaks), slower=SLOWER, bad=bad)

    def asan_units(self, phase, limit):
        self.units(phase, "asan", limit, all_folders=True)

    def tsan_units(self, phase, limit):
        self.units(phase, "tsan", limit, all_folders=False)

    # Sandboxes whose every process has AddressSanitizer and UBSan. Guests have neither: they are the release build's.

    def asan_runtime(self, phase, limit):
        """Builds it and looks whether it reports. Returns (path of runsc, path of a log for its options), or None."""
        if not self.build(f"{phase}.build", "asan", ["runsc"], limit):
            return None
        if not self.build(f"{phase}.guests", "release", ["runsc", "guest_tests"], limit):
            return None
        log = os.path.join(LOGS, phase, "runsc.log")
        os.makedirs(os.path.dirname(log), exist_ok=True)
        runtime = os.path.join(ROOT, "build/asan/bin/runsc")
        self.script(f"{phase}.canary", "canary", 60, dict(os.environ, CAISSON_RUNTIME=runtime))
        return runtime, log

    def script(self, step, name, limit, env):
        command = [sys.executable, os.path.join(ROOT, f"test/integration/{name}_test.py")]
        status, output = self.step(step, command, limit, env=env)
        judge(step, status, output, self.report)

    def frames(self, found):
        """The stacks of reports of runsc, whose processes cannot symbolize: lines for people."""
        offsets = re.findall(r"#\d+ 0x\w+ +\(\S*/(?:runsc|exe)\+(0x\w+)\)", found)[:30]
        if not offsets or not shutil.which("addr2line"):
            return []
        runtime = os.path.join(ROOT, "build/asan/bin/runsc")
        result = subprocess.run(["addr2line", "-Cfpse", runtime, *offsets], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, timeout=120)
        return result.stdout.decode(errors="replace").split("\n")

    def check_log(self, phase, log):
        """For a sandbox that ends by a report without failing the test that ran in it."""
        text = read(log) if os.path.exists(log) else ""
        found = [line[:300] for line in text.split("\n") if REPORT.search(line)]
        lines = found[:20] + (self.frames(text) if found else [])
        self.report.add(f"{phase}.log", passed=int(not found), failed=len(found), log=log, lines=lines)

    def asan_guests(self, phase, limit):
        ends = min(time.monotonic() + limit, self.deadline)
        built = self.asan_runtime(phase, limit - 60)
        if not built:
            return
        runtime, log = built

        def rewrite(command):
            command = [runtime if word == os.path.join(RELEASE, "bin/runsc") else word for word in command]
            # What is freed stays in quarantine, and each object has its red zones.
            for at, word in enumerate(command):
                if word == "--memory":
                    command[at + 1] = str(int(command[at + 1]) * SLOWER)
            at = command.index("--results")
            return command[:at] + ["--runtime-option=--debug-log", "--runtime-option=" + log] + command[at + 2:]

        for platform, share in (("trap", 2), ("ptrace", 1)):
            self.tests(f"{phase}-{platform}", RELEASE, platform, (ends - time.monotonic()) / share, rewrite=rewrite,
                       bad=REPORT)
        self.check_log(phase, log)

    def asan_integration(self, phase, limit, scripts, **settings):
        ends = min(time.monotonic() + limit, self.deadline)
        built = self.asan_runtime(phase, limit - 60)
        if not built:
            return
        runtime, log = built
        env = dict(os.environ, CAISSON_RUNTIME=runtime, CAISSON_RUNTIME_OPTIONS=f"--debug-log {log}") | settings
        for name in scripts:
            step = f"{phase}.{name}"
            if ends - time.monotonic() < 5:
                self.report.skip(step, "no time left")
                continue
            self.script(step, name, ends - time.monotonic(), env)
        if "CAISSON_RUNTIME_OPTIONS" not in settings:
            self.check_log(phase, log)

    def asan_programs(self, phase, limit):
        self.asan_integration(phase, limit, ("errors", "debian", "deaths", "greed"), CAISSON_MEMORY_FACTOR=str(LARGER))

    def asan_fuzz(self, phase, limit):
        # It looks at its sandboxes' logs itself.
        self.asan_integration(phase, limit, ("fuzz",), CAISSON_FUZZ_SECONDS="20", CAISSON_RUNTIME_OPTIONS="")
