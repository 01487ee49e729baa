"""One per job: parent of pid 1, outside the job's namespaces and outside the group that is frozen and killed.

Has the container made, moves its output from pipes into log files, and writes the exit record. Survives jobsd and
launcher; holds none of their sockets once the job runs. Launcher side.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import time
from contextlib import suppress
from typing import NamedTuple

from runtime import container, exitrecord, faultpoint, process
from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.container import Output
from runtime.context import Context
from runtime.exitrecord import ExitRecord, Marker
from runtime.logfile import LogFile
from runtime.messages import Begin, Born, Message, Proceed, Ready, Running, StepError
from runtime.perform import StepFailure, failure, perform
from runtime.process import Child
from runtime.sequence import CONTAINER, Sequence
from runtime.steps import JoinGroups, MonitorOrders, monitor_orders_from_json

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)  # meant for a terminal's or service's group


class Books(NamedTuple):
    """What outlives everybody: marker, record, logs. Opened before anything else is tried."""

    marker_fd: int
    record: int
    stdout: LogFile
    stderr: LogFile
    marker: Marker


class Pipes(NamedTuple):
    stdout: int
    stderr: int


def main(control: Channel, seed: int) -> int:
    """The whole life of a monitor, made ahead of its job. `control` leads to the launcher."""
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    channel, theirs = Channel.pair()
    entering = container.start(theirs, seed)
    theirs.close()
    os.close(seed)
    message, fds = control.receive()
    if not isinstance(message, Begin):  # end of file: the launcher is gone or upgrades itself
        return 0
    plan_fd, marker_fd, *named = fds
    orders = monitor_orders_from_json(process.read_all(plan_fd))
    pipes, output = _make_pipes(orders)
    channel.send(Begin(), [plan_fd, *output, *named])
    for fd in (plan_fd, *output, *named):
        os.close(fd)
    try:
        books = _open_books(orders, marker_fd)
    except OSError as error:
        failed = failure("spool", error, orders.spool)
        _tell(control, StepError(failed.step, failed.errno, failed.path))
        return 1
    try:
        init_pidfd, marker = _start(orders, channel, entering, control, books)
    except StepFailure as failed:
        _record_failure(books, failed)
        _tell(control, StepError(failed.step, failed.errno, failed.path))
        return 0
    except BaseException:
        _record_failure(books, StepFailure("monitor", errno.EIO, orders.spool))  # a bug of ours; stderr has the rest
        raise
    stopped = _watch_for_the_hosts_stop(books.marker_fd, marker)
    _tell(control, Running())
    faultpoint.reach("monitor:running")
    _shrink(control, (*books[:2], books.stdout.fd, books.stderr.fd, init_pidfd, *pipes))
    del orders
    gc.collect()
    ended = _follow(init_pidfd, pipes, books)
    if not stopped:
        exitrecord.write(books.record, ended)
    return 0


def _tell(control: Channel, message: Message, fds: tuple[int, ...] = ()) -> None:
    """A dead launcher changes nothing: what matters is in the spool folder."""
    with suppress(OSError):
        control.send(message, fds)


def _open_books(orders: MonitorOrders, marker_fd: int) -> Books:
    boot = exitrecord.boot_id()
    pid = os.getpid()
    marker = Marker(pid, exitrecord.start_ticks(pid), boot)
    exitrecord.write_marker(marker_fd, marker)
    return Books(
        marker_fd=marker_fd,
        record=exitrecord.preallocate(f"{orders.spool}/exit"),
        stdout=LogFile(f"{orders.spool}/stdout", orders.log_limit_bytes),
        stderr=LogFile(f"{orders.spool}/stderr", orders.log_limit_bytes),
        marker=marker,
    )


# ── until the program runs ──────────────────────────────────────────────────────────────────────────────────────────


def _start(
    orders: MonitorOrders, channel: Channel, entering: Child, control: Channel, books: Books
) -> tuple[int, Marker]:
    """pidfd of pid 1 and its marker, once execve succeeded. Raises StepFailure; then nothing of it lives."""
    sequence = Sequence(CONTAINER)
    try:
        if orders.mon_procs:
            perform((JoinGroups(orders.mon_procs),), Context((), -1))
        init_pid = _born(channel, sequence)
    except BaseException:
        signal.pidfd_send_signal(entering.pidfd, signal.SIGKILL)
        raise
    finally:
        process.reap(entering.pidfd)
    init_pidfd = os.pidfd_open(init_pid)  # our child, not reaped: the number is still its
    try:
        _expect(channel, sequence, Ready)
        marker = books.marker._replace(init_pid=init_pid)
        exitrecord.write_marker(books.marker_fd, marker)
        _tell(control, Ready(init_pid), (init_pidfd,))
        faultpoint.reach("monitor:waiting")
        _wait_for_go(control, init_pidfd)
        faultpoint.reach("monitor:go")
        sequence.follow(Proceed())
        channel.send(Proceed())
        _wait_for_exec(channel, sequence)
    except BaseException:
        signal.pidfd_send_signal(init_pidfd, signal.SIGKILL)
        process.reap(init_pidfd)
        raise
    marker = marker._replace(running=True)
    exitrecord.write_marker(books.marker_fd, marker)
    channel.close()
    return init_pidfd, marker


def _make_pipes(orders: MonitorOrders) -> tuple[Pipes, Output]:
    """The job's user owns the write ends, so that it can open /dev/stdout."""
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
    for read, write in ends:
        os.set_blocking(read, False)
        os.fchown(write, orders.output_uid, orders.output_gid)
    return Pipes(ends[0][0], ends[1][0]), Output(ends[0][1], ends[1][1])


def _born(channel: Channel, sequence: Sequence) -> int:
    message = _expect(channel, sequence, Born)
    assert isinstance(message, Born)
    return message.init_pid


def _expect(channel: Channel, sequence: Sequence, kind: type) -> object:
    """The next message, of that kind. Raises StepFailure: what the container reports, or its silent death."""
    message, _ = channel.receive()
    if message is None:
        raise StepFailure("container", errno.ESRCH, "")  # killed, or a bug: stderr of the launcher has the traceback
    sequence.follow(message)
    if isinstance(message, StepError):
        raise StepFailure(*message)
    assert isinstance(message, kind)
    return message


def _wait_for_go(control: Channel, init_pidfd: int) -> None:
    """Raises StepFailure when it will never be said, because the launcher is dead, or to nobody: pid 1 is."""
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(init_pidfd, select.POLLIN)
    if any(fd == init_pidfd for fd, _ in poll.poll()):
        raise StepFailure("container", errno.ESRCH, "")
    message, _ = control.receive()
    if not isinstance(message, Proceed):
        raise StepFailure("abandoned", errno.ECANCELED, "")


def _wait_for_exec(channel: Channel, sequence: Sequence) -> None:
    """End of file on the close-on-exec socket: execve succeeded, or a SIGKILL that pid 1's status will show."""
    message, _ = channel.receive()
    if message is not None:
        sequence.follow(message)
        assert isinstance(message, StepError)
        raise StepFailure(*message)


def _record_failure(books: Books, failed: StepFailure) -> None:
    status = exitrecord.FAILED_START_STATUS
    if failed.step == "exec":  # as shells answer: 127 not found, 126 not executable
        status = 127 if failed.errno == errno.ENOENT else 126
    told = ExitRecord(
        status, False, time.time(), books.marker.boot_id, step=failed.step, errno=failed.errno, path=failed.path
    )
    exitrecord.write(books.record, told)


# ── while it runs ───────────────────────────────────────────────────────────────────────────────────────────────────


def _shrink(control: Channel, keep: tuple[int, ...]) -> None:
    """From now on nothing of the launcher's is held, not even its stderr."""
    control.close()
    process.close_all_but(keep)
    process.null_stdio(0, 1, 2)
    sc.set_process_name("jobs:monitor")


def _watch_for_the_hosts_stop(marker_fd: int, marker: Marker) -> list[int]:
    """Not empty once SIGTERM came: that is said to all processes when the host, or all jobs on it, are ended.

    The job then ends too, but by no doing of its own: without a record it counts as lost, and its spec says whether it
    is to run again. Only here SIGTERM is not ignored: before the program runs, there is nothing that could be lost.
    """
    came: list[int] = []

    def note(number: int, _: object) -> None:
        if not came:
            exitrecord.write_marker(marker_fd, marker._replace(stopped=True))
        came.append(number)

    signal.signal(signal.SIGTERM, note)
    return came


def _follow(init_pidfd: int, pipes: Pipes, books: Books) -> ExitRecord:
    """What to record, when pid 1 has ended and all output is in the logs."""
    poll = select.poll()
    poll.register(init_pidfd, select.POLLIN)
    streams = {pipes.stdout: books.stdout, pipes.stderr: books.stderr}
    for pipe in streams:
        poll.register(pipe, select.POLLIN)
    ended = False
    while not ended:
        for fd, _ in poll.poll():
            if fd == init_pidfd:
                ended = True
            elif not streams[fd].take(fd):
                poll.unregister(fd)
    # When pid 1 of a pid namespace has ended, all others in it have: nobody can write any more.
    result = os.waitid(os.P_PIDFD, init_pidfd, os.WEXITED)
    assert result is not None
    for pipe, log in streams.items():
        _drain(pipe, log)
    faultpoint.reach("monitor:exited")
    signalled = result.si_code != os.CLD_EXITED
    return ExitRecord(
        status=128 + result.si_status if signalled else result.si_status,
        signalled=signalled,
        ended_at=time.time(),
        boot_id=books.marker.boot_id,
        stdout_bytes=books.stdout.written_bytes,
        stderr_bytes=books.stderr.written_bytes,
        dropped_bytes=books.stdout.dropped_bytes + books.stderr.dropped_bytes,
    )


def _drain(pipe: int, log: LogFile) -> None:
    """What is left in the pipe; a writer outside (a descriptor passed on by the job) is not waited for."""
    while True:
        before = log.written_bytes + log.dropped_bytes
        if not log.take(pipe) or log.written_bytes + log.dropped_bytes == before:
            return
