"""How every process of the launcher side is made, and how it is cleaned of what its parent had. Launcher side.

Callers are the launcher, the monitor, the container stage, errands and exec sessions; the daemon never.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import NamedTuple

from runtime import syscalls
from runtime.channel import Channel
from runtime.messages import Born


class Child(NamedTuple):
    pid: int
    pidfd: int


def spawn(name: str, body: Callable[[], int], keep: Iterable[int], *, cgroup: int = -1, flags: int = 0) -> Child:
    """Clones this process; the child runs `body`, whose result is its status, with only `keep` and stderr open.

    `cgroup`: a v2 folder to be born in. Raises OSError when the clone fails.
    """
    pid, pidfd = syscalls.clone3(
        flags, exit_signal=0 if flags & syscalls.CLONE_PARENT else signal.SIGCHLD, cgroup=cgroup
    )
    if pid:
        return Child(pid, pidfd)
    status = 70  # EX_SOFTWARE
    try:
        syscalls.set_process_name(name)
        close_all_but((2, *keep))
        null_stdio(0, 1)
        status = body()
    except BaseException:
        import traceback  # only here: nobody else pays for its memory

        os.write(2, f"{name}[{os.getpid()}]: {traceback.format_exc()}".encode())
    finally:
        os._exit(status)


def clone_as_sibling(flags: int, channel: Channel) -> int:
    """Clones this process so that its own parent becomes the clone's parent too, and tells that parent by `Born`.

    0 in the clone, which goes on only after that: otherwise its first message could overtake. Raises OSError.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    pid, _ = syscalls.clone3(flags | syscalls.CLONE_PARENT)
    if pid:
        channel.send(Born(pid))
        os.close(write)
        return pid
    os.close(write)
    os.read(read, 1)  # end of file
    os.close(read)
    return 0


def reset_signals() -> None:
    """Default actions, nothing blocked, whatever the launcher was started with. Once, by the launcher."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def default_signals() -> None:
    """Before an execve: an ignored signal stays ignored over it. All that launcher, monitor and agent ignore."""
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def close_all_but(keep: Iterable[int]) -> None:
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first)


def null_stdio(*numbers: int) -> None:
    """Points each of `numbers` at /dev/null, but those that are open and wanted are not named."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in numbers:
        if number != null:
            os.dup2(null, number)
        else:
            os.set_inheritable(number, True)
    if null not in numbers:
        os.close(null)


def reap(pidfd: int) -> int:
    """Waits for the child; exit code, or 128 + signal. Closes the pidfd."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    if result is None:
        raise ChildProcessError("waitid returned nothing")
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def read_all(memfd: int) -> bytes:
    """Everything in a memfd, from its start."""
    size = os.fstat(memfd).st_size
    return os.pread(memfd, size, 0)


def memfd_of(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)  # a helper reads it from the start, as its stdin
    return fd
