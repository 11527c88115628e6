"""The guest of growth_test.py: does what it is told by lines "ACTIVITY COUNT" on its standard input, and answers with a line.

It runs as the container's first process, so orphans come to it. /mnt is a bind mount, /tmp a tmpfs.
"""

import ctypes
import fcntl
import mmap
import os
import pty
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
serial = 0


def call(number, *args):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in args])
    if result < 0:
        raise OSError(ctypes.get_errno(), f"syscall {number}: {os.strerror(ctypes.get_errno())}")
    return result


def reap_all():
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def child(body):
    """A child that ends with status 0 behind `body`; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def in_child(body):
    if status := os.waitpid(child(body), 0)[1]:
        raise RuntimeError(f"{body}: {status}")


def missing(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    raise RuntimeError(path)


def number():
    global serial
    serial += 1
    return serial


# Processes and threads.

def process(i):
    kind = i % 8
    if kind < 2:
        in_child(lambda: None)
    elif kind == 2:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        child(lambda: None)
        reap_all()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    elif kind == 3:
        child(lambda: os.setsid() and child(lambda: None))
        reap_all()
    elif kind == 4:
        os.kill(child(signal.pause), signal.SIGKILL)
        reap_all()
    elif kind == 5:
        os.kill(child(lambda: os.read(os.pipe()[0], 1)), signal.SIGKILL)
        reap_all()
    elif kind == 6:
        pid = child(lambda: None)
        file = os.pidfd_open(pid)
        os.waitid(os.P_PIDFD, file, os.WEXITED)
        os.close(file)
    else:
        pid = child(lambda: call(101, 0, 0, 0, 0) or os.kill(os.getpid(), signal.SIGSTOP))  # PTRACE_TRACEME
        os.waitpid(pid, 0)
        call(101, (7, 8, 17)[i // 8 % 3], pid, 0, 0)  # PTRACE_CONT, PTRACE_KILL, PTRACE_DETACH
        os.kill(pid, signal.SIGKILL)
        reap_all()


def orphans(i):
    reap_all()


def dump_core(i):
    def body():
        os.chdir("/tmp")
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
        os.abort()
    os.waitpid(child(body), 0)
    for name in os.listdir("/tmp"):
        if name.startswith("core"):
            os.unlink("/tmp/" + name)


def program(i):
    """The same executable, or one that nobody has run yet."""
    path = "/bin/true"
    if i % 4 == 0:
        path = ("/mnt" if i % 8 else "/tmp") + f"/program{number()}"
        with open("/bin/true", "rb") as old, open(path, "wb") as new:
            new.write(old.read())
        os.chmod(path, 0o755)
    if os.waitpid(os.posix_spawn(path, [path], {}), 0)[1]:
        raise RuntimeError(path)
    if path != "/bin/true":
        os.unlink(path)


def thread(i):
    several = [threading.Thread(target=lambda: None) for _ in range(4)]
    for t in several:
        t.start()
    for t in several:
        t.join()


def threads_end(i):
    """A process whose threads end with it: by an exit, a signal, an exec by one of them."""
    def body():
        several = [threading.Thread(target=time.sleep, args=(100,), daemon=True) for _ in range(4)]
        for t in several:
            t.start()
        if i % 3 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        elif i % 3 == 1:
            threading.Thread(target=lambda: os.execv("/bin/true", ["true"])).start()
            time.sleep(100)
    os.waitpid(child(body), 0)


# Files that are no names.

def socket_cycles(i):
    """Each in the other's queue, and no way there: no socket ever ends by itself."""
    a, b = socket.socketpair()
    socket.send_fds(a, [b"x"], [a.fileno(), b.fileno()])
    socket.send_fds(b, [b"x"], [a.fileno()])
    a.close()
    b.close()


def sockets(i):
    a, b = socket.socketpair()
    kind = i % 4
    if kind == 0:
        a.send(b"x" * 5000)
    elif kind == 1:
        c, d = socket.socketpair()
        socket.send_fds(a, [b"x"], [c.fileno(), d.fileno()])
        socket.send_fds(c, [b"x"], [a.fileno(), b.fileno()])
        c.close()
        d.close()
    elif kind == 2:
        r, w = os.pipe()
        socket.send_fds(a, [b"x"], [r, w])
        if i % 8 < 4:
            for file in socket.recv_fds(b, 10, 5)[1]:
                os.close(file)
        os.close(r)
        os.close(w)
    else:  # A connection that nobody accepts carries the listener.
        name = f"\0{number()}" if i % 8 < 4 else f"/tmp/socket{number()}"
        listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen()
        client.connect(name)
        socket.send_fds(client, [b"x"], [listener.fileno(), client.fileno()])
        listener.close()
        client.close()
        if name[0] == "/":
            os.unlink(name)
    a.close()
    b.close()


def waiting(i):
    """Pipes, FIFOs, epoll in epoll, eventfd, timerfd, signalfd, inotify; closed in both orders."""
    a, b = select.epoll(), select.epoll()
    r, w = os.pipe()
    a.register(b.fileno())
    b.register(r)
    os.write(w, b"x" * 5000)
    fifo = f"/tmp/fifo{number()}"
    os.mkfifo(fifo)
    files = [os.open(fifo, os.O_RDWR), call(290, 3, 0), call(283, 1, 0), call(289, -1, struct.pack("Q", 1 << 9), 8, 0), call(294, 0)]
    call(286, files[2], 0, struct.pack("qqqq", 0, 1000, 0, 1000), None)
    for watched in (fifo, "/tmp", "/mnt", "/bin/true"):
        call(254, files[4], watched.encode() + b"\0", 0xfff)
    for file in files:
        b.register(file)
    a.poll(0)
    os.unlink(fifo)
    for close in [a.close, b.close, *[lambda file=file: os.close(file) for file in (*files, r, w)]][::1 if i % 2 else -1]:
        close()


def terminal(i):
    if i % 4:
        ends = os.openpty()
        os.write(ends[1], b"hello\n")
        for file in ends[::1 if i % 2 else -1]:
            os.close(file)
        return
    pid, master = pty.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(master)


# Names.

def names(i, where="/tmp"):
    """In a directory that does not stay; what is not there is asked for too."""
    top = f"{where}/d{number()}"
    os.makedirs(top + "/a/b")
    for name in "xyz":
        missing(f"{top}/a/{name}")
        missing(f"{top}/a/b/{name}")
    with open(top + "/f", "w") as file:
        file.write("x" * 5000)
        fcntl.lockf(file, fcntl.LOCK_EX)
    os.rename(top + "/f", top + "/g")
    os.link(top + "/g", top + "/f")
    os.symlink("g", top + "/s")
    os.listdir(top)
    for name in "fgs":
        os.unlink(f"{top}/{name}")
        missing(f"{top}/{name}")
    os.chdir(top + "/a/b")
    os.rmdir(top + "/a/b")
    missing("x")
    os.chdir("/")
    os.mkdir(top + "/c")
    os.rename(top + "/c", top + "/a")
    os.rmdir(top + "/a")
    os.rmdir(top)


def host_names(i):
    names(i, "/mnt")


def missing_names(i):
    n = number()
    missing(f"/tmp/missing{n}")
    missing(f"/usr/missing{n}")


# Memory.

def memory(i):
    with mmap.mmap(-1, 65536, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        m[0] = 1
        m.resize(1 << 18)
    with mmap.mmap(-1, 65536) as m:
        m[40000] = 1
    file = os.memfd_create("x")
    os.ftruncate(file, 1 << 18)
    with mmap.mmap(file, 1 << 18) as m:
        m[:65536] = b"y" * 65536
    os.close(file)
    with open("/usr/bin/python3", "rb") as file:
        mmap.mmap(file.fileno(), 40960, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    path = f"/mnt/m{number()}"
    with open(path, "wb+") as file:
        file.truncate(8192)
        with mmap.mmap(file.fileno(), 8192) as m:
            m[0] = 1
    os.unlink(path)
    segment = call(29, 0, 65536, 0o1600)
    at = libc.shmat(segment, None, 0)
    ctypes.memset(at, 1, 65536)
    call(31, segment, 0, 0)
    libc.shmdt(ctypes.c_void_p(at))
    semaphores = call(64, 0, 4, 0o1600)
    call(65, semaphores, struct.pack("Hhh", 0, 1, 0x1000), 1)
    call(66, semaphores, 0, 0, 0)
    queue = call(68, 0, 0o1600)
    call(69, queue, struct.pack("q", 1) + b"x" * 500, 500, 0)
    call(71, queue, 0, 0)
    name = ctypes.create_string_buffer(f"q{number()}".encode())
    posix_queue = call(240, name, os.O_CREAT | os.O_RDWR, 0o600, 0)
    call(242, posix_queue, b"x" * 100, 100, 0, 0)
    call(241, name)
    os.close(posix_queue)


def timers(i):
    timer = ctypes.c_int()
    call(222, 1, None, ctypes.byref(timer))
    call(223, timer.value, 0, struct.pack("qqqq", 0, 0, 100, 0), None)
    call(226, timer.value)
    try:
        call(202, ctypes.create_string_buffer(4), 0, 0, struct.pack("qq", 0, 1000), None, 0)
    except OSError:
        pass
    signal.pthread_sigmask(signal.SIG_BLOCK, [34])
    os.kill(os.getpid(), 34)
    signal.sigtimedwait([34], 1)
    os.setgroups(range(i % 50))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000 - i % 10, 1024))


# Mounts and namespaces.

def mounts(i):
    for path in ("/tmp/at", "/tmp/lower", "/tmp/upper", "/tmp/work"):
        os.makedirs(path, exist_ok=True)
    for kind, flags, data in ((b"tmpfs", 0, b""), (b"", 4096, b""), (b"proc", 0, b""), (b"sysfs", 0, b""), (b"devpts", 0, b""), (b"mqueue", 0, b""),
                              (b"overlay", 0, b"lowerdir=/tmp/lower:/usr,upperdir=/tmp/upper,workdir=/tmp/work")):
        call(165, b"/usr\0", b"/tmp/at\0", kind + b"\0", flags, data + b"\0")
        os.listdir("/tmp/at")
        missing("/tmp/at/none")
        if kind in (b"tmpfs", b"overlay"):
            with open("/tmp/at/f", "w") as file:
                file.write("x" * 100000)
            os.unlink("/tmp/at/f")
        call(166, b"/tmp/at\0", 2)


def namespaces(i):
    def body():
        # User, mount, UTS and IPC, net, pid, cgroup: of its own, or asked for by a file.
        if i % 6:
            call(272, (0x10000000, 0x20000, 0x4000000 | 0x8000000, 0x40000000, 0x20000000)[i % 5])
            in_child(lambda: None)
        else:
            for name in ("uts", "ipc", "mnt", "net", "pid", "cgroup"):
                file = os.open("/proc/self/ns/" + name, os.O_RDONLY)
                call(308, file, 0)
                os.close(file)
        if i % 5 == 1:
            call(165, b"x\0", b"/mnt\0", b"tmpfs\0", 0, b"\0")
            os.chdir("/mnt")
        if i % 5 == 2:
            program_of_filter = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
            call(317, 1, 0, struct.pack("HxxxxxxQ", 1, ctypes.addressof(program_of_filter)))
    in_child(body)


def proc_files(i):
    pid = child(signal.pause)
    kept = [os.open(f"/proc/{pid}", os.O_RDONLY), os.open(f"/proc/{pid}/maps", os.O_RDONLY)]
    for path in (f"/proc/{pid}", "/proc", "/proc/net", "/proc/sys/kernel", f"/proc/{pid}/task/{pid}", f"/proc/{pid}/fd"):
        for name in os.listdir(path):
            try:
                file = os.open(f"{path}/{name}", os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                os.read(file, 65536)
            except OSError:
                pass
            os.close(file)
    os.kill(pid, signal.SIGKILL)
    reap_all()
    for file in kept:
        os.close(file)


print("ready", flush=True)
for line in sys.stdin:
    activity, count = line.split()
    try:
        for index in range(int(count)):
            globals()[activity](index)
        print("done", flush=True)
    except Exception as problem:
        print(f"{activity}: {problem!r}", flush=True)
