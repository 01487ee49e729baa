"""Tries something that may fail, hang or be killed, in a child of its own, and tells how it ended. Launcher side.

For `doctor` and the launcher's start only, programs of one thread: the daemon never. A child that does not answer is
killed with all its own children; one that can't be killed is left to the kernel, never waited for.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from runtime.outcome import Outcome

DEADLINE_S = 10.0  # an emulated machine needs a second for what takes a millisecond; only what hangs gets here
_LAST_WORDS_S = 1.0  # from SIGKILL to the end of a process that can be killed at all
_MOST_BYTES = 1 << 16
_WORKED = b"+"


def attempt(body: Callable[[], str], deadline_s: float = DEADLINE_S) -> Outcome:
    """How `body` ended in a child whose changes to itself nobody else sees. Nothing of it is left."""
    read, write = os.pipe2(os.O_CLOEXEC)
    words = os.memfd_create("jobs-doctor", os.MFD_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _child(body, write, words)
        os.close(write)
        write = -1
        return _outcome(pid, read, words, deadline_s)
    except OSError as error:
        return Outcome(None, f"no process could be made for it: {error.strerror}")
    finally:
        for fd in (read, words, write):
            if fd >= 0:
                os.close(fd)


def _outcome(pid: int, read: int, words: int, deadline_s: float) -> Outcome:
    with suppress(OSError):  # it may be faster than we are, and does the same
        os.setpgid(pid, pid)
    told = _hear(read, time.monotonic() + deadline_s)
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)  # also after an answer: its children, if it left any
    number = _reap(pid)
    if told is None:
        return Outcome(None, f"no answer within {deadline_s:g} s")
    if not told:
        return Outcome(False, f"killed by {_name(number)}" if number else _last_line(words) or "ended without a word")
    return Outcome(told[:1] == _WORKED, told[1:].decode(errors="replace"))


def refusal(error: OSError) -> str:
    """`ENOSYS: Function not implemented: /x`."""
    where = f": {os.fsdecode(error.filename)}" if error.filename else ""
    number = error.errno or 0
    return f"{errno.errorcode.get(number, number)}: {os.strerror(number)}{where}"


def _child(body: Callable[[], str], write: int, words: int) -> None:
    """What it prints goes into `words`: a library may complain and exit (libmnl does)."""
    said = b"-"
    try:
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # SIGSYS of a seccomp filter would dump one
        said = _WORKED + body().encode()
    except OSError as error:
        said = b"-" + refusal(error).encode()
    except BaseException as error:
        said = b"-" + f"{type(error).__name__}: {error}".encode()
    finally:
        with suppress(OSError):
            os.write(write, said[:_MOST_BYTES])
        os._exit(0)


def _hear(read: int, until: float) -> bytes | None:
    """All that is written until the child closes its end; None at the deadline."""
    heard = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([read], [], [], left)[0]:
            part = os.read(read, _MOST_BYTES)
            if not part:
                return heard
            heard += part
            if len(heard) >= _MOST_BYTES:
                return heard
    return heard or None  # a child of the child may hold the pipe


def _last_line(words: int) -> str:
    lines = os.pread(words, _MOST_BYTES, 0).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _reap(pid: int) -> int:
    """The signal that ended it, or 0."""
    until = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < until:
        with suppress(ChildProcessError):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        time.sleep(0.001)
    return 0


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
