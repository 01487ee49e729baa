"""What the CLI and the daemon say to each other of queues, shares and reservations; see jobs/protocol. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from jobs.protocol import decode, plain_text

MOST_RESERVED_S = 10 * 366 * 86400.0
MOST_TIME = 253402300799.0  # the end of 9999
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_FORBID = {"extra": "forbid"}  # read by pydantic


@dataclass
class Reserve:
    """CPUs kept free from `at` (seconds since 1970) for `for_s`, again every `every_s`. `cpus` 0: the whole host."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID
    name: str
    at: float
    for_s: float
    every_s: float = 0.0
    cpus: int = 0
    users: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"not a name of a reservation: {self.name!r}; letters, digits and '._-', at most 63")
        if not 0 < self.for_s <= MOST_RESERVED_S or not 0 <= self.at <= MOST_TIME:
            raise ValueError("a reservation begins between 1970 and 9999 and lasts up to ten years, and not nothing")
        if self.every_s and not self.for_s < self.every_s <= MOST_RESERVED_S:
            raise ValueError("every: longer than the reservation itself, at most ten years")
        if not 0 <= self.cpus <= 8192:
            raise ValueError(f"cpus: from 0 to 8192, not {self.cpus}")
        for user in self.users[:1000]:
            plain_text("user", user, most=64)
        if len(self.users) > 256 or not all(self.users):
            raise ValueError("users: at most 256 names, none of them empty")


@dataclass
class Queue:
    """One queue now. `limits`: "total", "per_user", "per_job" → jobs, cpus, memory_bytes; 0 is no limit."""

    name: str
    state: str  # "open" | "drained"
    open_now: bool  # open, and inside a window
    changes_at: float  # when a window opens or closes next; 0: never
    yours: bool  # whether you may submit to it
    running: int
    frozen: int
    waiting: int
    held: int
    cpus: float  # that its jobs own
    points: int
    preempt: str
    preemptible: bool
    limits: dict[str, dict[str, float]]
    estimate_s: float
    default_limit_s: float
    most_limit_s: float
    windows: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass
class QueueList:
    queues: tuple[Queue, ...]
    timezone: str = "UTC"  # of the windows


@dataclass
class Reloaded:
    """`changed`: whether the file said something new."""

    changed: bool
    queues: tuple[str, ...]


@dataclass
class Share:
    """Of one account (`user` = "") or one user in it. `part`: of all usage; `due`: of the machine, if all compute."""

    account: str
    user: str
    weight: float
    cpu_s: float  # faded with the half-life
    part: float
    due: float
    points: float = 0.0  # added to the urgency; of users only


@dataclass
class ShareList:
    shares: tuple[Share, ...]
    half_life_s: float
    most_points: float  # a newcomer's; 0: fair share is off


@dataclass
class Reservation:
    name: str
    at: float  # the first time
    for_s: float
    every_s: float
    cpus: int  # 0: the whole host
    users: tuple[str, ...]
    by: str  # who added it; "": it is in the policy file
    next_at: float  # of the time that is now or comes next; 0: it is over
    now: bool


@dataclass
class ReservationList:
    reservations: tuple[Reservation, ...]


def decode_queues(data: dict[str, Any]) -> QueueList:
    return QueueList(tuple(decode(Queue, item) for item in data["queues"]), data["timezone"])


def decode_shares(data: dict[str, Any]) -> ShareList:
    shares = tuple(decode(Share, item) for item in data["shares"])
    return ShareList(shares, data["half_life_s"], data["most_points"])


def decode_reservations(data: dict[str, Any]) -> ReservationList:
    return ReservationList(tuple(decode(Reservation, item) for item in data["reservations"]))
