#!/usr/bin/env python3
"""Docker's containers in the background: exec, logs, top, stats, cp, stop, attach and containerd's own client."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time

import lib
from docker_engine import IMAGE, Detached, engine, main, run, sh, workspace
from lib import equal, steady, true, until

cases = []


def case(function):
    cases.append((function.__name__, function))
    return function


@case
def detached_exec_logs_stop_rm():
    with Detached(script="echo started; trap 'echo stopping; exit 3' TERM; while :; do sleep 0.1; done") as container:
        until(lambda: container("logs", container.name) == "started\n", "no logs")
        equal(container("exec", container.name, "/bin/sh", "-c", "echo hi; pwd"), "hi\n/\n", "exec")
        result = engine.docker("exec", container.name, "/bin/sh", "-c", "echo e >&2; exit 11")
        equal((result.status, result.err), (11, "e\n"), "exec's status")
        equal(engine.docker("exec", "-i", container.name, "cat", stdin=b"piped").out, "piped", "exec -i")
        equal(container("exec", "-w", "/etc", "-e", "V=w", "-u", "12", container.name, "/bin/sh", "-c", "pwd; echo $V; id -u"),
              "/etc\nw\n12\n", "exec's options")
        true(engine.docker("exec", container.name, "nothing").status in (126, 127), "exec of nothing")
        true("/bin/sh -c" in container("exec", container.name, "ps"), "the shell is not in ps")
        began = time.monotonic()
        container("stop", "-t", "20", container.name)
        true(time.monotonic() - began < 15, "stop waits for its time limit")
        equal(container("wait", container.name), "3\n", "exit status")
        equal(container("logs", container.name), "started\nstopping\n", "logs after the end")
        state = json.loads(container("inspect", container.name))[0]["State"]
        equal((state["Status"], state["ExitCode"]), ("exited", 3), "inspect")


@case
def detached_exec_in_the_background():
    with Detached() as container:
        container("exec", "-d", container.name, "/bin/sh", "-c", "echo done >/tmp/flag; sleep 100")
        until(lambda: engine.docker("exec", container.name, "cat", "/tmp/flag").out == "done\n", "it does not run")
        true("sleep 100" in container("exec", container.name, "ps"), "it is not in ps")


@case
def top():
    with Detached(script="sleep 1000 & exec sleep 2000") as container:
        # Each is itself, and not the shell that is about to become it.
        until(lambda: len(re.findall(r"root +sleep [12]000$", container("exec", container.name, "ps"), re.M)) == 2, "they do not start")
        out = container("top", container.name)
        true(re.search(r"UID +PID +PPID", out.split("\n")[0]), f"no headline: {out}")
        rows = [line.split(None, 7) for line in out.strip().split("\n")[1:]]
        equal(len(rows), 2, f"processes in {out}")
        pids = [int(row[1]) for row in rows]
        true(all(pid > 0 for pid in pids), out)
        true(all("sleep" in row[7] for row in rows), out)
        out = container("top", container.name, "-o", "pid,comm")
        equal([line.split()[1] for line in out.strip().split("\n")[1:]], ["sleep", "sleep"], "top with options of ps")


@case
def stats():
    with Detached(script="while :; do :; done") as container:
        def shows():
            line = container("stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}", container.name).strip()
            memory, pids, cpu = line.split("|")
            true(re.match(r"[\d.]+[KMG]iB / ", memory) and not memory.startswith("0B"), f"memory: {line}")
            true(int(pids) >= 1, f"pids: {line}")
            return float(cpu.rstrip("%")) > 5

        # Between two looks it may not have had its turn.
        until(shows, "a busy loop uses no CPU", 60)


@case
def cp_both_ways():
    source = os.path.join(workspace.directory, "copied")
    with open(source, "w") as file:
        file.write("copied in\n")
    with Detached() as container:
        # A name that was missing, a file that was there, and a directory.
        equal(engine.docker("exec", container.name, "cat", "/tmp/in").status, 1, "before")
        container("cp", source, container.name + ":/tmp/in")
        equal(container("exec", container.name, "cat", "/tmp/in"), "copied in\n", "after")
        with open(source, "w") as file:
            file.write("copied in again, and longer\n")
        container("cp", source, container.name + ":/tmp/in")
        equal(container("exec", container.name, "cat", "/tmp/in"), "copied in again, and longer\n", "replaced")
        container("exec", container.name, "/bin/sh", "-c", "mkdir /out; echo made inside >/out/f; ln -s f /out/l; chmod 640 /out/f")
        target = os.path.join(workspace.directory, "from")
        container("cp", container.name + ":/out", target)
        with open(os.path.join(target, "f")) as file:
            equal(file.read(), "made inside\n", "copied out")
        equal((os.readlink(os.path.join(target, "l")), os.stat(os.path.join(target, "f")).st_mode & 0o777), ("f", 0o640), "link and mode")
        archive = engine.docker("cp", container.name + ":/etc/passwd", "-").out.encode(errors="surrogateescape")
        true("passwd" in tarfile.open(fileobj=io.BytesIO(archive)).getnames(), "cp to standard output")


@case
def pause_and_unpause():
    with Detached(script="i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done") as container:
        until(lambda: len(container("logs", container.name)) > 4, "it does not run")
        container("pause", container.name)
        before = steady(lambda: container("logs", container.name))
        container("unpause", container.name)
        until(lambda: len(container("logs", container.name)) > len(before), "it does not go on")


@case
def kill_with_a_signal():
    with Detached(script="trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done") as container:
        until(lambda: "ready" in container("logs", container.name), "it does not run")
        container("kill", "-s", "USR1", container.name)
        until(lambda: "usr1" in container("logs", container.name), "the signal does not arrive")
        container("kill", container.name)
        equal(container("wait", container.name), "137\n", "exit status")


@case
def restart():
    with Detached("-e", "N=1", script="echo run >>/count; wc -l </count; trap 'exit 0' TERM; while :; do sleep 0.05; done") as container:
        until(lambda: container("logs", container.name) == "1\n", "it does not run")
        container("restart", "-t", "10", container.name)
        until(lambda: container("logs", container.name) == "1\n2\n", "its files are not those of before")


@case
def diff_and_commit():
    with Detached(script="echo new >/etc/made; rm /etc/hostname.gone 2>/dev/null; echo x >>/etc/group; sleep 100") as container:
        until(lambda: "A /etc/made" in container("diff", container.name), "diff does not show the new file")
        true("C /etc/group" in container("diff", container.name), "diff does not show the changed file")
        container("commit", container.name, "committed")
        result = engine.docker("run", "--rm", "--network=none", "--runtime=tested", "committed", "cat", "/etc/made")
        equal(result.out, "new\n", "in the new image")


@case
def attach_to_the_output():
    with Detached(script="until [ -e /tmp/go ]; do echo early; sleep 0.1; done; echo late; exit 5") as container:
        attached = subprocess.Popen(["docker", "attach", "--no-stdin", container.name], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, env=engine.environment)
        try:
            equal(attached.stdout.readline(), b"early\n", "attached")
            container("exec", container.name, "touch", "/tmp/go")
            out, _ = attached.communicate(timeout=60)
            equal(attached.returncode, 5, "attach")
            true(re.fullmatch(rb"(early\n)*late\n", out), str(out))
        finally:
            attached.kill()
            attached.wait()


@case
def several_at_once():
    processes = [subprocess.Popen(["docker", "run", "--rm", "--network=none", "--runtime=tested", IMAGE, "/bin/sh", "-c",
                                   f"echo {i}; exit {i}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=engine.environment) for i in range(6)]
    for i, process in enumerate(processes):
        out, err = process.communicate(timeout=90)
        equal((process.returncode, out.decode()), (i, f"{i}\n"), err.decode())


@case
def containerd_client():
    """containerd without Docker: ctr, on the containerd that dockerd has started."""
    with open(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children") as file:
        inside = file.read().split()[0]
    archive = os.path.join(workspace.directory, "saved.tar")
    equal(engine.docker("save", "-o", archive, IMAGE).status, 0, "docker save")

    def ctr(*args, stdin=b"", status=0):
        result = lib.collect(["nsenter", "-t", inside, "-m", "-p", "-n", "--", "ctr", "-a",
                              os.path.join(workspace.directory, "exec/containerd/containerd.sock"), "-n", "tests", *args], stdin, 60)
        equal(result.status, status, f"ctr {args}: {result}")
        return result

    ctr("images", "import", archive)
    image = ctr("images", "ls", "-q").out.strip()
    runtime = ["--runc-binary", shutil.which(lib.RUNTIME) or lib.RUNTIME, image]
    result = ctr("run", "--rm", "--env", "A=b", "--cwd", "/etc", *runtime, "one", "/bin/sh", "-c", "echo $A; pwd >&2; exit 4", status=4)
    equal((result.out, result.err), ("b\n", "/etc\n"), "output")
    ctr("run", "-d", *runtime, "two", "/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    shows = lambda: next((line.split()[-1] for line in ctr("tasks", "ls").out.split("\n") if line.startswith("two ")), None)
    equal(shows(), "RUNNING", "status")
    equal(ctr("tasks", "exec", "--exec-id", "e", "two", "/bin/sh", "-c", "echo in; exit 9", status=9).out, "in\n", "exec")
    true("pids.current" in ctr("tasks", "metrics", "two").out, "metrics")
    true(len(ctr("tasks", "ps", "two").out.strip().split("\n")) >= 2, "ps")
    ctr("tasks", "pause", "two")
    equal(shows(), "PAUSED", "status")
    ctr("tasks", "resume", "two")
    ctr("tasks", "kill", "two")
    until(lambda: shows() == "STOPPED", "it does not stop")
    ctr("tasks", "rm", "two")
    ctr("containers", "rm", "two")
    ctr("images", "rm", image)


if __name__ == "__main__":
    main(cases)
