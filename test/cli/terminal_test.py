#!/usr/bin/env python3
"""Console sockets, foreground terminals, window sizes."""
import array
import fcntl
import os
import pty
import socket
import struct
import subprocess
import termios

import harness
from harness import RunscTest, await_true


def receive(listener):
    """The descriptor that somebody sends to `listener`, and the message."""
    connection, _ = listener.accept()
    message, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    (_, _, data), = ancillary
    fds = array.array("i")
    fds.frombytes(data[:4])
    connection.close()
    return message, fds[0]


class Console(RunscTest):
    def setUp(self):
        super().setUp()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(20)
        self.path = os.path.join(self.dir, "console")
        self.listener.bind(self.path)
        self.listener.listen()

    def tearDown(self):
        self.listener.close()
        super().tearDown()

    def test_master_arrives_raw_and_works(self):
        self.create("c", "--console-socket", self.path, args=["echo", "from inside"], terminal=True,
                    consoleSize={"height": 10, "width": 20})
        message, master = receive(self.listener)
        self.assertIn(b"ptmx", message)
        rows, columns, _, _ = struct.unpack(
            "HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8))
        self.assertEqual((rows, columns), (10, 20))
        self.assertFalse(termios.tcgetattr(master)[3] & (termios.ECHO | termios.ICANON))
        self.ok("start", "c")
        self.assertEqual(os.read(master, 100), b"from inside")
        os.close(master)

    def test_window_size_reaches_the_guest(self):
        self.create("c", "--console-socket", self.path, args=["winsize"], terminal=True)
        _, master = receive(self.listener)
        self.ok("start", "c")
        waiting = self.start_wait("c")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 99, 0, 0))
        self.assertEqual(self.finish_wait(waiting)["exitStatus"], 99)
        os.close(master)

    def test_exec_with_one(self):
        self.create("c", args=["sleep"])
        self.ok("start", "c")
        self.ok("exec", "--tty", "--detach", "--console-socket", self.path, "c", "echo", "x")
        _, master = receive(self.listener)
        self.assertEqual(os.read(master, 100), b"x")
        os.close(master)

    def test_without_a_terminal_it_is_refused(self):
        self.write_spec()
        self.fails("create", "--bundle", self.bundle, "--console-socket", self.path, "c",
                   text="cannot use console socket")

    def test_nobody_listens(self):
        self.listener.close()
        self.write_spec(terminal=True)
        self.fails("create", "--bundle", self.bundle, "--console-socket", self.path, "c",
                   text="connection refused")
        self.assertEqual(os.listdir(self.root), [])

    def test_pidfd_socket(self):
        self.create("c", "--pidfd-socket", self.path)
        _, pidfd = receive(self.listener)
        with open(f"/proc/self/fdinfo/{pidfd}") as f:
            self.assertIn(f"Pid:\t{self.state('c')['pid']}\n", f.read())
        os.close(pidfd)


class Foreground(RunscTest):
    def run_on_pty(self, args):
        self.write_spec(args=args, terminal=True)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        p = subprocess.Popen(self.command("run", "--bundle", self.bundle, "c"), stdin=slave,
                             stdout=slave, stderr=slave, start_new_session=True,
                             preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        return p, master, slave

    def test_output_and_status(self):
        p, master, slave = self.run_on_pty(["echo", "hello"])
        self.assertEqual(p.wait(20), 0)
        self.assertEqual(os.read(master, 100), b"hello")
        os.close(slave)
        os.close(master)

    def test_raw_meanwhile_and_restored_after(self):
        p, master, slave = self.run_on_pty(["winsize"])

        def raw():
            return not termios.tcgetattr(slave)[3] & termios.ICANON

        await_true(raw, "the terminal does not become raw")
        # The kernel tells the foreground group of the terminal, which is runsc.
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 77, 0, 0))
        self.assertEqual(p.wait(20), 77)
        self.assertFalse(raw())
        os.close(slave)
        os.close(master)


if __name__ == "__main__":
    harness.main()
