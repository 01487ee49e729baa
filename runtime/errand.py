"""One thing done for jobsd, which starts no process itself: a helper program, or a file opened as a user.

Each runs in a child that answers once. The order is a memfd that the launcher passes on unread. Launcher side.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, NamedTuple

from runtime import process
from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.messages import Done, StepError, encode

OUTPUT_BYTES = 1 << 20  # of each stream; what comes after it is read and thrown away
TIMED_OUT = 124  # as timeout(1)
OPEN_DEADLINE_S = 20  # a FIFO or a dead server must not keep the child for ever


class HelperOrder(NamedTuple):
    argv: list[str]
    env: dict[str, str]
    stdin_fd: int  # index among the descriptors of the message, -1: /dev/null
    timeout_s: float

    def to_bytes(self) -> bytes:
        return json.dumps(self).encode()


class OpenOrder(NamedTuple):
    uid: int
    gid: int
    groups: list[int]
    path: str
    flags: int

    def to_bytes(self) -> bytes:
        return json.dumps(self).encode()


def _order(order_fd: int) -> list[Any]:
    found: list[Any] = json.loads(process.read_all(order_fd))
    return found


# ── open_as ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_as(channel: Channel, order_fd: int) -> int:
    """Opens with the user's rights alone: groups, gid, uid, and thereby no capability of ours."""
    order = OpenOrder._make(_order(order_fd))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(OPEN_DEADLINE_S)
    try:
        os.setgroups(order.groups)
        os.setresgid(order.gid, order.gid, order.gid)
        os.setresuid(order.uid, order.uid, order.uid)
        # No magic links: /proc/self/fd/N would be a descriptor of ours, opened with our rights.
        flags = order.flags if order.flags & os.O_PATH else order.flags | os.O_NOCTTY  # openat2(2) is strict
        fd = sc.openat2(sc.AT_FDCWD, order.path, flags, resolve=sc.RESOLVE_NO_MAGICLINKS)
        if order.flags & os.O_DIRECTORY:
            os.close(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd))  # may the user go in, too?
    except OSError as error:
        channel.send(StepError("open", error.errno or errno.EIO, order.path))
        return 1
    channel.send(Done({}), [fd])
    return 0


# ── helper ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def helper(channel: Channel, order_fd: int, fds: tuple[int, ...]) -> int:
    """Runs a program as the host's root, waits, and answers with its status and two memfds of output."""
    order = HelperOrder._make(_order(order_fd))
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    told, tell = Channel.pair()
    given = [fd for index, fd in enumerate(fds) if index != order.stdin_fd]
    stdin = fds[order.stdin_fd] if order.stdin_fd >= 0 else -1
    keep = (tell.fileno(), out_write, err_write, *fds)
    child = process.spawn("jobs:helper", lambda: _become(order, tell, stdin, out_write, err_write, given), keep)
    for fd in (out_write, err_write, *fds):
        os.close(fd)
    tell.close()
    message, _ = told.receive()
    if isinstance(message, StepError):
        process.reap(child.pidfd)
        channel.send(message)
        return 1
    stdout, stderr = bytearray(), bytearray()
    timed_out = _collect(child, {out_read: stdout, err_read: stderr}, order.timeout_s)
    status = process.reap(child.pidfd)
    if timed_out:
        status = TIMED_OUT
        stderr += f"\nended after {order.timeout_s:g} s: {order.argv[0]}\n".encode()
    outputs = [process.memfd_of("stdout", bytes(stdout)), process.memfd_of("stderr", bytes(stderr))]
    channel.send(Done({"status": status}), outputs)
    return 0


def _become(order: HelperOrder, tell: Channel, stdin: int, stdout: int, stderr: int, given: list[int]) -> int:
    """The helper's 0, 1, 2 and then `given` as 3, 4, 5 …; everything else closes at execve."""
    high = [_above(fd) for fd in (stdin, stdout, stderr, *given)]
    tell_fd = _above(tell.fileno())
    try:
        os.setsid()
        for number, fd in enumerate(high):
            if fd >= 0:
                os.dup2(fd, number, inheritable=True)
        sc.close_range(3 + len(given), flags=sc.CLOSE_RANGE_CLOEXEC)
        os.chdir("/")
        process.default_signals()
        os.execvpe(order.argv[0], order.argv, order.env)
    except OSError as error:
        os.write(tell_fd, encode(StepError("helper", error.errno or errno.EIO, order.argv[0])))
    return 127


def _above(fd: int) -> int:
    """A copy out of the way of the numbers that are about to be given out."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300) if fd >= 0 else -1


def _collect(child: process.Child, outputs: dict[int, bytearray], timeout_s: float) -> bool:
    """Reads until the program has ended, then ends its process group; True when its time was up first."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(child.pidfd, select.POLLIN)
    for fd in outputs:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        ready = [fd for fd, _ in poll.poll(left * 1000)]
        if child.pidfd in ready:
            break
        for fd in ready:
            if not _read_some(fd, outputs[fd]):
                poll.unregister(fd)
    with suppress(ProcessLookupError):  # also what it left behind; so the reading below has an end
        os.killpg(child.pid, signal.SIGKILL)
    for fd, kept in outputs.items():
        while _read_some(fd, kept):
            pass
    return left <= 0


def _read_some(fd: int, kept: bytearray) -> bool:
    """False when there is nothing more now."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return False
    kept += data[: max(0, OUTPUT_BYTES - len(kept))]
    return bool(data)
