"""What is seen of a job from outside, at one moment: processes, threads, what each waits for, files, memory. Pure.

Numbers of processes and threads are the job's own, as its programs print them; `host_pid` and `host_tid` are the
host's. Sizes in bytes, times in seconds. Text comes from the job: whoever shows it makes it printable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that a thread is in. `text` is it decoded: `futex(0x55…, FUTEX_WAIT, 2)`."""

    name: str
    text: str
    arguments: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """What one thread waits for, in words, and the threads or processes that could end it: any one of them."""

    tid: int
    text: str
    threads: tuple[int, ...] = ()
    processes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread:
    """`state`: as ps(1) names it, "running", "sleeping" …; a frozen thread stands in the call that it was frozen in.
    `mutex_owner`: thread that has the pthread mutex it waits for; 0: none, or none that can be known.
    """

    tid: int
    host_tid: int
    name: str
    state: str
    wait_channel: str = ""
    call: Call | None = None
    stack_pointer: int = 0
    program_counter: int = 0
    where: str = ""  # file and offset of the program counter
    cpu: int = -1
    cpu_s: float = 0.0
    switches: int = 0  # of context, wanted or not: a thread whose figure stands still has not run
    kernel_stack: tuple[str, ...] = ()
    mutex_owner: int = 0
    python: tuple[str, ...] = ()  # frames of a Python program, the innermost first: "inner (train.py:5)"


@dataclass(frozen=True, slots=True)
class Socket:
    """`peer` is "" where there is none. `receive_queue`: bytes that wait to be read; of a listener, connections."""

    kind: str  # tcp, udp, unix …
    local: str
    peer: str = ""
    state: str = ""
    receive_queue: int = 0
    send_queue: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """An open descriptor. `mode`: "r", "w" or "rw"."""

    fd: int
    target: str
    mode: str = ""
    offset: int = 0
    socket: Socket | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a file that a process holds or, `waiting`, wants. `kind`: FLOCK, POSIX, OFDLCK or LEASE."""

    pid: int
    kind: str
    mode: str  # READ or WRITE
    path: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """Mapped memory of one file, or of one kind such as [heap]. `by_node`: resident bytes on each memory node."""

    name: str
    resident: int
    by_node: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Process:
    """`environment` is None where it is not the asker's to see."""

    pid: int
    host_pid: int
    parent: int
    argv: tuple[str, ...]
    program: str
    folder: str
    uid: int
    threads: tuple[Thread, ...]
    files: tuple[File, ...] = ()
    locks: tuple[Lock, ...] = ()
    memory: tuple[Region, ...] = ()
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`waits`: one of each thread that waits for something that can be named. `circles`: threads that wait for each
    other, each one for the next and the last for the first. `counters`: of the job's control groups.
    `missing`: what could not be seen, and why.
    """

    job: str
    name: str
    state: str
    at: float  # wall clock
    frozen_by: str = ""  # the freezer: "v1", "v2"; "" when not frozen
    processes: tuple[Process, ...] = ()
    waits: tuple[Wait, ...] = ()
    circles: tuple[tuple[int, ...], ...] = ()
    counters: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()


T = TypeVar("T")


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """A value of these classes from parsed JSON, however deep. Unknown keys are left out: replies may grow.
    Raises TypeError or KeyError on what is no such value.
    """
    hints = get_type_hints(cls)
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: _value(hints[key], value) for key, value in data.items() if key in known})


def _value(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return tuple(_value(inner, item) for item in value)
    if get_origin(kind) is Mapping:
        key = get_args(kind)[0]
        return {key(name): item for name, item in value.items()}
    for option in get_args(kind) or (kind,):
        if hasattr(option, "__dataclass_fields__"):
            return from_json(option, value)
        if get_origin(option) is not None:
            return _value(option, value)
    return value
