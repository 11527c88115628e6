"""The rows of the tables: what is measured, in what unit, and the figure that the trap platform is to reach."""

from collections import namedtuple

# key: name of the benchmark; unit: what values are shown in; more: higher is better; target: text.
Row = namedtuple("Row", "key label unit target more", defaults=("", False))

CALLS = [
    Row("getpid", "getpid", "ns", "≤ 10 ns"),
    Row("getppid", "getppid", "ns", "≤ 250 ns"),
    Row("clock_gettime", "clock_gettime", "ns", "≤ 25 ns"),
    Row("read_zero_1", "read 1 byte of /dev/zero", "ns", "≤ 400 ns"),
    Row("epoll_eventfd", "epoll + eventfd, 3 calls", "ns", "≤ 900 ns"),
    Row("signal_self", "signal to self", "ns", "≤ 3,000 ns"),
    Row("segv_mprotect", "SIGSEGV + 2 mprotect", "ns", "≤ 9,000 ns"),
]
FILES = [
    Row("pread_4k", "pread 4 KiB, tmpfs", "ns", "≤ 900 ns"),
    Row("pread_4k_root", "pread 4 KiB, file of the root", "ns", "≤ 900 ns"),
    Row("pread_1m", "pread 1 MiB, tmpfs", "ns"),
    Row("write_4k", "write 4 KiB, tmpfs", "ns", "≤ 800 ns"),
    Row("open_close", "open + close, tmpfs", "ns", "≤ 900 ns"),
    Row("open_close_root", "open + close, file of the root", "ns", "≤ 900 ns"),
    Row("stat", "stat, tmpfs", "ns", "≤ 500 ns"),
    Row("stat_root", "stat, file of the root", "ns", "≤ 500 ns"),
    Row("stat_missing_root", "stat of a missing file of the root", "ns"),
    Row("create_write_unlink", "create + write + unlink, tmpfs", "µs", "≤ 20 µs"),
    Row("create_write_unlink_root", "create + write + unlink, bind mount", "µs"),
]
MEMORY = [
    Row("mmap_munmap", "mmap + munmap", "ns", "≤ 9,000 ns"),
    Row("mmap_file", "mmap of a file + touch + munmap", "ns"),
    Row("mprotect", "mprotect", "ns"),
    Row("page_fault", "page fault (256 MiB walk)", "ns", "≤ 740 ns (1.05×)"),
]
IPC = [
    Row("pipe_pingpong", "pipe ping-pong", "µs", "≤ 2.5×"),
    Row("unix_pingpong", "AF_UNIX ping-pong", "µs", "≤ 2.5×"),
    Row("futex_pingpong", "futex ping-pong", "µs", "≤ 2.5×"),
]
PROCESSES = [
    Row("fork_wait", "fork + wait", "µs", "≤ 120 µs"),
    Row("fork_exec_wait", "fork + exec + wait", "µs", "≤ 350 µs"),
    Row("spawn_wait", "posix_spawn + wait", "µs"),
    Row("thread_create_join", "thread create + join", "µs", "≤ 60 µs"),
]
THREADS = [Row(f"{key}/{n}", f"{label}, {n} thread{'s' if n > 1 else ''}", "ns")
           for key, label in (("mutex", "contended mutex"), ("barrier", "barrier"), ("pool", "queue and pool"))
           for n in (1, 2, 4, 8)]
GROUPS = {"calls": CALLS, "files": FILES, "memory": MEMORY, "ipc": IPC, "processes": PROCESSES, "threads": THREADS}

APPS = [
    Row("find_first", "find / (first walk)", "ms"),
    Row("find", "find /", "ms", "≤ 40 ms"),
    Row("python", "python3 start", "ms", "≤ 8 ms"),
    Row("node", "node start", "ms", "≤ 65 ms"),
    Row("gcc", "gcc -O2 of 2,000 lines", "ms", "≤ 1.05×"),
    Row("git", "git init + add + commit of 500 files", "ms", "≤ 1.5×"),
    Row("tar", "tar of perl's library", "ms"),
    Row("sh_exec", "500 fork + exec in sh", "ms", "≤ 2×"),
    Row("sqlite", "sqlite, 500 transactions", "ms", "≤ 1.5×"),
    Row("redis_1", "redis GET, Unix socket", "1/s", "≥ 0.5×", True),
    Row("redis_16", "redis GET, Unix socket, pipeline of 16", "1/s", "≥ 0.67×", True),
    Row("fio", "fio random read 4 KiB", "1/s", "≥ 0.5×", True),
]
START = [
    Row("run", "`run` of a static true, to its exit", "ms", "≤ 15 ms"),
    Row("idle_pss", "idle sandbox, PSS", "MiB", "≤ 8 MiB"),
    Row("idle_pss_20", "each of 20 idle sandboxes, PSS", "MiB", "≤ 3 MiB"),
    Row("idle_wakeups", "idle sandbox, context switches a second", "1/s", "0"),
    Row("idle_cpu", "idle sandbox, CPU time a minute", "µs", "0"),
    Row("idle_processes", "idle sandbox, host processes", ""),
]
SECTIONS = {"System calls": CALLS, "Files": FILES, "Memory": MEMORY, "Between processes": IPC,
            "Processes and threads": PROCESSES, "Busy threads": THREADS, "Applications": APPS, "Start and rest": START}
# What the values are measured in, by unit.
SCALE = {"ns": 1, "µs": 1e3, "ms": 1e6, "1/s": 1, "MiB": 1, "": 1}
