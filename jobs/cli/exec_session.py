"""The near end of `exec`: redeems the ticket for descriptors of the program and moves bytes until it ends.

Messages and their order: runtime/messages.py, "jobs CLI ↔ exec.sock". They are said again here because the CLI may not
import upwards; tests/unit/jobs/test_cli_imports.py compares the two.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.errors import HostError, LauncherGone
from jobs.protocol import Ticket

MOST_BYTES = 192 << 10
COPY_BYTES = 64 << 10
STDIN, STDOUT, STDERR = 0, 1, 2


def session(ticket: Ticket) -> int:
    """Exit status of the program. Raises LauncherGone, HostError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(ticket.socket)
        channel.send(json.dumps(["Ticket", ticket.ticket]).encode())
    except OSError as error:
        raise LauncherGone(f"the launcher does not answer on {ticket.socket}: {error.strerror}",
                           hint="see: systemctl status jobs-launcher") from error  # fmt: skip
    with channel:
        try:
            name, values, fds = _receive(channel)
        except ConnectionResetError as error:
            raise LauncherGone("the launcher hung up", hint="too many at once? try again in a moment") from error
        if name != "Started":
            raise HostError(f"the program could not be started: {_reason(name, values)}")
        if values[0]:
            with _raw_terminal(), _window_size(fds[0]):
                return _Pump(channel, {fds[0]: STDOUT}, fds[0]).run()
        return _Pump(channel, {fds[1]: STDOUT, fds[2]: STDERR}, fds[0]).run()


class _Pump:
    """Moves bytes until the status came and every output is at its end.

    `outputs`: descriptor to read → ours to write; `stdin`: where the program reads, for a terminal one of `outputs`.
    Input waits in `pending` until the program takes it: a program that waits for us to read must not wait for ever.
    """

    def __init__(self, channel: socket.socket, outputs: dict[int, int], stdin: int) -> None:
        self.channel, self.outputs, self.stdin = channel, outputs, stdin
        self.pending = b""
        self.status: int | None = None
        os.set_blocking(stdin, False)
        self.poll = select.poll()
        for fd in (channel.fileno(), STDIN, *outputs):
            self.poll.register(fd, select.POLLIN)

    def run(self) -> int:
        while self.status is None or self.outputs:
            for fd, ready in self.poll.poll():
                if fd == self.channel.fileno():
                    self.status = _status(self.channel)
                    self.poll.unregister(fd)
                elif fd == STDIN:
                    self._take_input()
                if fd == self.stdin and self.pending:
                    self._give_input()
                if fd in self.outputs and ready & ~select.POLLOUT and not _copy(fd, self.outputs[fd]):
                    self.poll.unregister(fd)
                    del self.outputs[fd]
        return self.status

    def _take_input(self) -> None:
        self.poll.unregister(STDIN)
        self.pending = _read(STDIN)
        if self.pending:
            self.poll.register(self.stdin, select.POLLOUT | (select.POLLIN if self.stdin in self.outputs else 0))
        elif self.stdin not in self.outputs:  # a terminal stays open for its output
            os.close(self.stdin)

    def _give_input(self) -> None:
        self.pending = _write_some(self.stdin, self.pending)
        if self.pending:
            return
        if self.stdin in self.outputs:
            self.poll.register(self.stdin, select.POLLIN)
        else:
            self.poll.unregister(self.stdin)
        self.poll.register(STDIN, select.POLLIN)


def _status(channel: socket.socket) -> int:
    name, values, _ = _receive(channel)
    if name != "Exited":
        raise HostError(f"the program was lost: {_reason(name, values)}")
    return int(values[0])


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, COPY_BYTES)
    except OSError:
        return b""


def _write_some(fd: int, data: bytes) -> bytes:
    """What is left of it. A program that reads no more gets no more."""
    try:
        return data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""


def _copy(source: int, target: int) -> bool:
    """False at the end of either. EIO is how a terminal says that its last user is gone."""
    try:
        data = os.read(source, COPY_BYTES)
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    except BlockingIOError:
        return True
    except OSError:
        return False
    return bool(data)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the program, Ctrl-C too."""
    if not os.isatty(STDIN):
        yield
        return
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


@contextmanager
def _window_size(master: int) -> Iterator[None]:
    """The program's terminal has the size of ours, now and whenever ours changes."""

    def resize(*_: Any) -> None:
        try:
            fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(STDOUT, termios.TIOCGWINSZ, b"\0" * 8))
        except OSError:  # ours is no terminal
            pass

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _receive(channel: socket.socket) -> tuple[str, list[Any], list[int]]:
    data, ancillary, _, _ = channel.recvmsg(MOST_BYTES, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        return "", [], list(fds)
    name, *values = json.loads(data)
    return str(name), values, list(fds)


def _reason(name: str, values: list[Any]) -> str:
    if name == "StepError":
        step, errno, path = values
        return f"failed at step '{step}'{f' on {path}' if path else ''}: {os.strerror(errno)}"
    return "the launcher hung up" if not name else f"unexpected answer {name}"
