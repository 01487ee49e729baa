"""The launcher upgrades itself by execve: the same process, so its children stay its children. Launcher side.

What goes over is descriptors and a list of executions in a memfd. Connections do not: jobsd sees them end and says
Hello again. It waits until no errand is under way and no container is between create and go's answer.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NamedTuple, Protocol

from runtime import process
from runtime.channel import Channel
from runtime.children import Execution, Keeper
from runtime.messages import StepError
from runtime.process import Child

QUIET = ("waiting", "running", "ended")  # states in which an execution owes nobody an answer


class Upgradable(Keeper, Protocol):
    """What is taken from the old launcher and given to the new one."""

    epoch: int
    sockets: dict[str, socket.socket]  # listening


class _Carried(NamedTuple):
    execution_id: str
    pid: int
    pidfd: int
    control: int  # -1: closed
    state: str
    init: list[int]  # pid and pidfd of pid 1, or nothing
    failure: list[Any]


def is_quiet(launcher: Upgradable) -> bool:
    return all(execution.sequence.state in QUIET for execution in launcher.executions.values())


def become(launcher: Upgradable, argv: list[str]) -> None:
    """execve of `argv` with one argument more. Raises OSError, and then nothing has changed."""
    carried = [_carry(execution) for execution in launcher.executions.values()]
    sockets = {path: sock.fileno() for path, sock in launcher.sockets.items()}
    memfd = process.memfd_of("handover", json.dumps([launcher.epoch, sockets, carried]).encode())
    fds = [memfd, *sockets.values()]
    for one in carried:
        fds += [one.pidfd, *one.init[1:], *([one.control] if one.control >= 0 else [])]
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        os.execv(argv[0], [*argv, str(memfd)])
    except OSError:
        for fd in fds:
            os.set_inheritable(fd, False)
        os.close(memfd)
        raise


def _carry(execution: Execution) -> _Carried:
    control = execution.control.fileno() if execution.control is not None else -1
    init, failure = list(execution.init_process or ()), list(execution.failure or ())
    return _Carried(execution.execution_id, *execution.child, control, execution.sequence.state, init, failure)


def take(launcher: Upgradable, memfd: int) -> None:
    """The new launcher's first act."""
    launcher.epoch, sockets, carried = json.loads(process.read_all(memfd))
    os.close(memfd)
    for path, fd in sockets.items():
        os.set_inheritable(fd, False)
        launcher.sockets[path] = socket.socket(fileno=fd)
    for one in map(_Carried._make, carried):
        for fd in (one.pidfd, *one.init[1:]):
            os.set_inheritable(fd, False)
        control = _channel(one.control) if one.control >= 0 else None
        execution = Execution(launcher, Child(one.pid, one.pidfd), control, one.execution_id)
        execution.sequence.state = one.state
        execution.init_process = (one.init[0], one.init[1]) if one.init else None
        execution.failure = StepError._make(one.failure) if one.failure else None
        launcher.executions[one.execution_id] = execution


def _channel(fd: int) -> Channel:
    os.set_inheritable(fd, False)
    return Channel(socket.socket(fileno=fd))
