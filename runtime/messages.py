"""Everything that two processes of the launcher side, or jobsd and the launcher, say to each other.

Standard library only.
A message is one datagram of a SOCK_SEQPACKET socket: a JSON list of the class's name and its fields; descriptors travel
beside it (SCM_RIGHTS). Payloads (plans, orders, exec requests) are memfds that the launcher passes on and never reads.
Legal order: runtime/sequence.py.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Malformed(ValueError):
    """Not a message of this version: unknown name, wrong number or type of fields."""


# jobsd → launcher. `request` is chosen by the client and comes back with the answer.


class Hello(NamedTuple):
    """First on each connection. Older connections are closed unread."""

    epoch: int


class Slot(NamedTuple):
    """A user namespace with these maps and, if wanted, a network namespace owned by it."""

    request: int
    uid_map: str
    gid_map: str
    network: bool


class Create(NamedTuple):
    """fds: the plan (memfd), then the descriptors that the plan names by index."""

    request: int
    execution_id: str


class Go(NamedTuple):
    request: int
    execution_id: str


class Abandon(NamedTuple):
    request: int
    execution_id: str


class OpenExec(NamedTuple):
    """fds: the exec request (memfd)."""

    request: int
    execution_id: str
    peer_uid: int


class Helper(NamedTuple):
    """fds: the order (memfd), then the helper's 3, 4, 5 …"""

    request: int


class OpenAs(NamedTuple):
    """fds: the order (memfd)."""

    request: int


# launcher → jobsd


class Welcome(NamedTuple):
    """`inventory`: execution ids whose monitor is a live child of this launcher."""

    inventory: tuple[str, ...]


class Deposed(NamedTuple):
    """A newer epoch has said Hello."""

    epoch: int


class Answer(NamedTuple):
    """Values by name; descriptors beside it, as each verb says."""

    request: int
    values: dict[str, Any]


class Refusal(NamedTuple):
    request: int
    step: str
    errno: int
    path: str


# a child of the launcher → launcher (slot, errand, monitor), and container → monitor


class Unshared(NamedTuple):
    """The slot's namespaces exist; it waits for its id maps."""


class Mapped(NamedTuple):
    """launcher → slot: the id maps are written."""


class Done(NamedTuple):
    values: dict[str, Any]


class Begin(NamedTuple):
    """launcher → spare monitor; fds: plan, marker, those that the plan names. Monitor → container; fds: plan, stdout,
    stderr, those that the plan names."""


class Born(NamedTuple):
    """container → monitor: pid 1's number, said by the process that made it."""

    init_pid: int


class Ready(NamedTuple):
    """container → monitor, monitor → launcher: complete but for the drop of privileges; waits for Proceed."""

    init_pid: int


class Proceed(NamedTuple):
    """launcher → monitor → container: go."""


class GiveUp(NamedTuple):
    """launcher → monitor: never go."""


class Running(NamedTuple):
    """monitor → launcher: execve succeeded (end of file on the container's close-on-exec socket)."""


class StepError(NamedTuple):
    step: str
    errno: int
    path: str


# jobs CLI ↔ exec.sock


class Ticket(NamedTuple):
    ticket: str


class Started(NamedTuple):
    """fds: the terminal's master, or stdin (to write), stdout and stderr (to read)."""

    tty: bool


class Exited(NamedTuple):
    """Exit code, or 128 + signal."""

    status: int


Message = (
    Hello | Slot | Create | Go | Abandon | OpenExec | Helper | OpenAs | Welcome | Deposed | Answer | Refusal
    | Unshared | Mapped | Done | Begin | Born | Ready | Proceed | GiveUp | Running | StepError | Ticket | Started
    | Exited
)  # fmt: skip

_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        Hello, Slot, Create, Go, Abandon, OpenExec, Helper, OpenAs, Welcome, Deposed, Answer, Refusal,
        Unshared, Mapped, Done, Begin, Born, Ready, Proceed, GiveUp, Running, StepError, Ticket, Started, Exited,
    )
}  # fmt: skip
_KINDS: dict[str, type] = {"int": int, "str": str, "bool": bool, "tuple[str, ...]": list, "dict[str, Any]": dict}


def encode(message: Message) -> bytes:
    return json.dumps([type(message).__name__, *message]).encode()


def decode(data: bytes) -> Message:
    """Inverse of `encode`. Raises Malformed."""
    try:
        name, *values = json.loads(data)
        cls = _CLASSES[name]
        annotations = cls.__annotations__
        kinds = [_KINDS[_name_of(annotations[field])] for field in cls._fields]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed(f"not a message: {data[:80]!r}") from error
    if len(values) != len(kinds) or any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)):
        raise Malformed(f"wrong fields for {name}: {data[:80]!r}")
    message: Message = cls(
        *(tuple(value) if kind is list else value for value, kind in zip(values, kinds, strict=True))
    )
    return message


def _name_of(annotation: Any) -> str:
    """typing wraps the postponed annotation of a NamedTuple in ForwardRef."""
    return str(getattr(annotation, "__forward_arg__", annotation))
