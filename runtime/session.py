"""A process that enters a running job: `jobs exec`. Launcher side.

The *agent* stays outside, holds the connection to the user's CLI and waits; the *entering* process joins the job's
groups with the host's power, enters all its namespaces by the pidfd of pid 1 and gives up everything that the job's own
program gave up. Neither runs anything from the job's files before that (CVE-2019-5736), nor can the job look into them
(CVE-2016-9962).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import termios
from contextlib import suppress

from runtime import process
from runtime import steps as s
from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.context import Context
from runtime.messages import Born, Exited, Ready, Started, StepError
from runtime.perform import StepFailure, failure, perform
from runtime.steps import ExecOrders, exec_orders_from_json

ALL_NAMESPACES = (
    sc.CLONE_NEWUSER | sc.CLONE_NEWPID | sc.CLONE_NEWNET | sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS
    | sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME
)  # fmt: skip
PTMX = os.makedev(5, 2)
TIOCSPTLCK = 0x40045431  # asm-generic/ioctls.h
TIOCGPTPEER = 0x5441  # opens the slave without a path


def agent(peer: Channel, orders_fd: int, init_pidfd: int) -> int:
    """The life of one exec: starts it, hands the terminal or the pipes to the peer, tells it the exit status."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    orders = exec_orders_from_json(process.read_all(orders_fd))
    try:
        pidfd = _start(orders, init_pidfd, peer)
    except StepFailure as failed:
        with suppress(OSError):
            peer.send(StepError(failed.step, failed.errno, failed.path))
        return 1
    status = process.reap(pidfd)
    with suppress(OSError):  # the CLI may be gone; the program was not ended for that
        peer.send(Exited(status))
    return 0


def _start(orders: ExecOrders, init_pidfd: int, peer: Channel) -> int:
    """pidfd of the program. Raises StepFailure."""
    _refuse_frozen(orders)
    perform((s.JoinGroups(orders.join),), Context((), -1))
    ours, theirs = Channel.pair()
    pairs = [] if orders.tty else _pipes(orders)
    inside = [pair[1] for pair in pairs]
    keep = (theirs.fileno(), init_pidfd, *inside)
    group = os.open(orders.run_unified, os.O_PATH | os.O_CLOEXEC) if orders.run_unified else -1
    try:
        entering = process.spawn("jobs:exec", lambda: _enter(orders, init_pidfd, theirs, inside), keep, cgroup=group)
    except OSError as error:
        raise failure("clone", error, orders.run_unified) from error
    for fd in (*inside, init_pidfd):
        os.close(fd)
    theirs.close()
    try:
        message, _ = ours.receive()
    finally:
        process.reap(entering.pidfd)
    if not isinstance(message, Born):
        raise _told(message)
    pidfd = os.pidfd_open(message.init_pid)  # our child, not reaped: the number is still its
    try:
        message, master = ours.receive()
        if not isinstance(message, Ready):
            raise _told(message)
        _wait_for_exec(ours)
    except BaseException:
        process.reap(pidfd)  # it exits after telling
        raise
    handed = master if orders.tty else [pair[0] for pair in pairs]
    with suppress(OSError):
        peer.send(Started(orders.tty), handed)
    for fd in handed:
        os.close(fd)
    return pidfd


def _told(message: object) -> StepFailure:
    return StepFailure(*message) if isinstance(message, StepError) else StepFailure("exec", errno.ESRCH, "")


def _wait_for_exec(channel: Channel) -> None:
    message, _ = channel.receive()
    if message is not None:
        raise _told(message)


def _refuse_frozen(orders: ExecOrders) -> None:
    """Entering a frozen group hangs without a word (docs/design/kernel.md).

    cgroup.events says `frozen 1`, freezer.state FROZEN."""
    for path in orders.freezers:
        try:
            with open(path, "rb") as file:
                told = file.read()
        except OSError as error:
            raise failure("freezer", error, path) from error
        if b"frozen 1" in told or b"FROZEN" in told or b"FREEZING" in told:
            raise StepFailure("frozen", errno.EBUSY, path)


def _pipes(orders: ExecOrders) -> list[tuple[int, int]]:
    """(the peer's end, the program's end) of stdin, stdout, stderr."""
    found = []
    for number in range(3):
        read, write = os.pipe2(os.O_CLOEXEC)
        inside = read if number == 0 else write
        os.fchown(inside, orders.output_uid, orders.output_gid)
        found.append((write, read) if number == 0 else (read, write))
    return found


# ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _enter(orders: ExecOrders, init_pidfd: int, channel: Channel, stdio: list[int]) -> int:
    try:
        perform((s.JoinGroups(orders.run_procs),), Context((), -1))
        try:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
            sc.setns(init_pidfd, ALL_NAMESPACES)
            # Of the pid namespace only children are; the agent is to be their parent.
            pid = process.clone_as_sibling(0, channel)
        except OSError as error:
            raise failure("enter", error) from error
        if pid:
            return 0
        os.close(init_pidfd)
        return _become(orders, channel, stdio)
    except StepFailure as failed:
        channel.send(StepError(failed.step, failed.errno, failed.path))
        return 1


def _become(orders: ExecOrders, channel: Channel, stdio: list[int]) -> int:
    """Returns only by raising StepFailure, or when execve did not happen."""
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    os.setsid()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    context = Context((), -1)
    master: list[int] = []
    if orders.tty:
        try:
            terminal, stdio = _terminal(orders)
        except OSError as error:
            raise failure("terminal", error, "/dev/pts/ptmx") from error
        master = [terminal]
    channel.send(Ready(0), master)
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    perform(orders.drop, context)
    return 1


def _terminal(orders: ExecOrders) -> tuple[int, list[int]]:
    """A terminal of the job's own devpts, owned by the program's user: (master, three copies of the slave)."""
    resolve = sc.RESOLVE_NO_MAGICLINKS | sc.RESOLVE_NO_SYMLINKS
    master = sc.openat2(sc.AT_FDCWD, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve=resolve)
    if os.fstat(master).st_rdev != PTMX:
        raise OSError(errno.ENODEV, "not a terminal multiplexer", "/dev/pts/ptmx")
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    user = next(step for step in orders.drop if isinstance(step, s.BecomeUser))
    os.fchown(slave, user.uid, -1)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, [slave, slave, slave]
