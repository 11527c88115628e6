"""What tests printed, counted: gtest binaries, Python's unittest, and whoever ends with a `[ TOTALS ]` line."""

import re
import threading


class Report:
    """What has happened so far; thread-safe."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict(passed=0, failed=0, skipped=0)
        self.failures = []  # (name, path of its output or None, lines to show)
        self.skips = {}  # reason -> names

    def add(self, name, passed=0, failed=0, skipped=(), log=None, lines=()):
        """`skipped` is a list of (case, reason)."""
        with self.lock:
            self.counts["passed"] += passed
            self.counts["failed"] += failed
            self.counts["skipped"] += len(skipped)
            for case, reason in skipped:
                self.skips.setdefault(reason, []).append(case)
            if failed:
                self.failures.append((name, failed, log, list(lines)))
            text = f"{'FAIL' if failed else 'skip' if skipped and not passed else 'ok  '} {name}"
            parts = [f"{n} {what}" for n, what in
                     ((passed, "passed"), (failed, "failed"), (len(skipped), "skipped")) if n]
            print(f"  {text}: {', '.join(parts) or 'nothing ran'}", flush=True)

    def skip(self, name, reason):
        self.add(name, skipped=[(name, reason)])


def read(path):
    with open(path, errors="replace") as file:
        return file.read()


TOTALS = re.compile(r"^\[ TOTALS \] .*?(\d+) run, (\d+) passed, (\d+) failed(?: \((\d+) expected\))?, "
                    r"(\d+) skipped", re.M)


# What GTEST_SKIP() was told, in the output of a case.
SKIPPED_CASE = re.compile(r": Skipped\n(.*)\n(?:.*\n){0,4}?\[ +SKIPPED +\] ([\w/]+\.[\w/]+)")


def skip_reasons(text):
    """{case: reason}"""
    return {case: reason for reason, case in SKIPPED_CASE.findall(text) if reason}


def gtest_counts(text):
    """(passed, failed, skipped cases, died in) from a gtest binary's output."""
    # A child of a test may write before gtest's mark in the same line.
    marks = re.findall(r"\[ *(RUN|OK|FAILED|SKIPPED) *\] ([\w/]+\.[\w/]+)", text)
    outcome, current = {}, None
    for what, case in marks:
        if what == "RUN":
            current = case
            outcome[case] = "FAILED"  # Until it says otherwise.
        elif case == current:
            outcome[case] = what
            current = None
    kinds = list(outcome.values())
    return (kinds.count("OK"), kinds.count("FAILED"),
            [case for case, kind in outcome.items() if kind == "SKIPPED"], current)


def details(text, limit=40):
    """What failed cases printed, at most `limit` lines of each: the end of a log need not be about them."""
    # An integration case gives its reasons in indented lines.
    blocks = re.findall(r"^not ok .*\n(?:  .*\n)*", text, re.M)
    blocks += [case[0] for case in re.finditer(r"^\[ RUN +\] .*?\[ +(OK|FAILED|SKIPPED) +\].*?$", text, re.M | re.S)
               if case[1] == "FAILED"]
    return [line for block in blocks for line in block.rstrip().split("\n")[:limit]]


def judge(name, status, log, report):
    """Counts the cases of one finished test from what it printed."""
    text = read(log)
    lines = details(text)
    totals = TOTALS.findall(text)
    python = re.search(r"^Ran (\d+) tests? in ", text, re.M)
    if totals:
        _, passed, failed, expected, skipped = (int(n or 0) for n in totals[-1])
        reasons = re.findall(r"^skip(?:ped)?:? (\S+)(?:: (.*))?$", text, re.M) or list(skip_reasons(text).items())
        skips = [(f"{name} {case}", reason or "said so itself") for case, reason in reasons[:skipped]]
        skips += [(name, "said so itself")] * (skipped - len(skips))
        known = re.findall(r"^\[ FAILURE \] (\S+) +\(expected: (.*)\)$", text, re.M)
        skips += [(f"{name} {case}", f"known failure: {why}") for case, why in known]
        failed -= expected
        lines += [line for line in text.split("\n")
                  if re.match(r"\[ (FAILURE|CRASHED|REPAIRED|EMPTY) \](?!.*expected:)", line)]
        if status != 0 and failed == 0:
            failed = 1
    elif python:
        bad = re.search(r"^FAILED \((.*)\)$", text, re.M)
        numbers = dict(re.findall(r"(\w+)=(\d+)", bad[1] if bad else ""))
        good = re.search(r"^OK \(skipped=(\d+)\)$", text, re.M)
        skipped = int(numbers.get("skipped", good[1] if good else 0))
        failed = int(numbers.get("failures", 0)) + int(numbers.get("errors", 0))
        passed = int(python[1]) - failed - skipped
        skips = [(name, "said so itself")] * skipped
        if status != 0 and failed == 0:
            failed = 1
    else:
        passed, failed, cases, died_in = gtest_counts(text)
        reasons = skip_reasons(text)
        skips = [(f"{name} {case}", reasons.get(case, "said so itself")) for case in cases]
        if died_in:
            lines.append(f"{name} ended in {died_in} (status {status})")
        if status == 0 and passed + failed + len(skips) == 0:
            passed = 1  # A test that only has a status.
        if status != 0 and failed == 0:
            failed = 1
    if status == 124:
        lines.append(f"{name} hung and was killed")
    report.add(name, passed, failed, skips, log, lines)
