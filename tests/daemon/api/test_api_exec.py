"""`jobs exec`: the CLI redeems its ticket at a launcher's end of exec.sock (the real messages and channel), a program
runs behind it, and bytes, window size and status arrive. What the real launcher does is tested in tests/e2e."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator

import pytest
from api_site import HELLO, ApiSite
from test_api_cli import JOBSCTL, Terminal, cli, environment

from runtime import messages
from runtime.channel import Channel


class ExecEnd:
    """Serves one ticket as the launcher would, with programs of this host."""

    def __init__(self, site: ApiSite) -> None:
        self.site, self.tickets = site, list[str]()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(site.folder / "exec.sock"))
        self.listener.listen()
        os.chmod(site.folder / "exec.sock", 0o666)
        site.node.exec_socket = str(site.folder / "exec.sock")
        self.thread: threading.Thread | None = None

    def serve(self, how: Callable[[Channel], None]) -> None:
        def run() -> None:
            peer, _ = self.listener.accept()
            channel = Channel(peer)
            message, _ = channel.receive()
            assert isinstance(message, messages.Ticket)
            self.tickets.append(message.ticket)
            how(channel)
            channel.close()

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def program(self, channel: Channel) -> None:
        _, argv, tty, _ = self.site.node.executed[-1]
        if tty:
            master, slave = pty.openpty()
            process = subprocess.Popen(
                [sys.executable, "-c", "import fcntl, os, sys, termios; os.setsid(); "
                 "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])", *argv],
                stdin=slave, stdout=slave, stderr=slave,
            )  # fmt: skip
            os.close(slave)
            channel.send(messages.Started(True), [master])
            os.close(master)
        else:
            process = subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1)
            assert process.stdin and process.stdout and process.stderr
            ends = (process.stdin, process.stdout, process.stderr)
            channel.send(messages.Started(False), [end.fileno() for end in ends])
            for end in ends:
                end.close()
        status = process.wait()
        channel.send(messages.Exited(status if status >= 0 else 128 - status))


@pytest.fixture
def end(site: ApiSite) -> Iterator[ExecEnd]:
    cli(site, "submit", "-", input=HELLO)
    site.start(1)
    end = ExecEnd(site)
    yield end
    if end.thread:
        end.thread.join(timeout=30)
    end.listener.close()


def test_without_a_terminal(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    done = cli(site, "exec", "1", "sh", "-c", "cat; echo oops >&2; exit 9", input="a\nb\n" * 50_000)
    assert (done.returncode, done.stdout, done.stderr) == (9, "a\nb\n" * 50_000, "oops\n")
    assert end.tickets == ["t" * 32]
    assert site.node.executed[0][1:3] == (("sh", "-c", "cat; echo oops >&2; exit 9"), False)


def test_what_looks_like_our_options_belongs_to_the_program(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    assert cli(site, "exec", "1", "echo", "--tty", "--help", "-h").stdout == "--tty --help -h\n"


def test_killed_by_a_signal(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    assert cli(site, "exec", "1", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_output_is_whole_though_the_program_has_ended(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    done = subprocess.run(
        [JOBSCTL, "exec", "1", "--", "head", "-c", "3000000", "/dev/zero"], stdin=subprocess.DEVNULL,
        capture_output=True, env=environment(site), timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == bytes(3_000_000)


def test_on_a_terminal_it_has_one_too_with_our_size_and_keys(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    terminal = Terminal(site, "exec", "1")
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    terminal.type("echo re''ady\r")
    terminal.until(r"ready\r\n")
    assert site.node.executed[0][1:3] == (("/bin/sh",), True)
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
    terminal.type("stty size; tty; cat\r")
    terminal.until(r"44 122\r\n/dev/pts/\d+\r\n")
    terminal.type("copied\r")
    terminal.until(r"copied\r\ncopied\r\n")  # by the terminal and by cat, which runs now
    terminal.type("\x03")  # reaches the program, not us
    terminal.until(r"\^C[^#]*# $")  # a prompt again; what is typed before it is flushed by the terminal
    terminal.type("echo inter''rupted; exit 5\r")
    terminal.until(r"interrupted")
    assert terminal.status() == 5
    assert re.search(r"\^C", terminal.text)


def test_the_terminal_is_as_before_afterwards(site: ApiSite, end: ExecEnd) -> None:
    end.serve(end.program)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [JOBSCTL, "exec", "1", "--", "true"], stdin=slave, stdout=slave, stderr=slave, env=environment(site)
    )
    process.wait(timeout=60)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_program_that_could_not_start(site: ApiSite, end: ExecEnd) -> None:
    end.serve(lambda channel: channel.send(messages.StepError("execve", 2, "/bin/nothing")))
    done = cli(site, "exec", "1", "/bin/nothing")
    assert done.returncode == 3
    assert "failed at step 'execve' on /bin/nothing: No such file or directory" in done.stderr


def test_a_launcher_that_hangs_up(site: ApiSite, end: ExecEnd) -> None:
    end.serve(lambda channel: None)
    done = cli(site, "exec", "1", "true")
    assert done.returncode == 3 and "the launcher hung up" in done.stderr and "Traceback" not in done.stderr


def test_no_launcher(site: ApiSite, end: ExecEnd) -> None:
    end.listener.close()
    done = cli(site, "exec", "1", "true")
    assert done.returncode == 3 and "the launcher does not answer" in done.stderr
