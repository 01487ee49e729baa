"""What operators decide about queues, shares and reserved times. Pure values; the journal keeps them as inputs.

A host without a policy file has one open queue, "default", without limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

DEFAULT_QUEUE = "default"
QueueState = Literal["open", "drained"]  # drained: takes jobs, starts none


@dataclass(frozen=True, slots=True)
class Limits:
    """At the same time, running or frozen with their CPUs kept; 0: no limit."""

    jobs: int = 0
    cpus: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Jobs of the queue start inside only: on these weekdays (0 Monday … 6 Sunday) from `from_min` to `to_min`, minutes
    since midnight in the policy's time zone. `to_min` ≤ `from_min` ends on the next day."""

    days: tuple[int, ...]
    from_min: int
    to_min: int


@dataclass(frozen=True, slots=True)
class Queue:
    name: str = DEFAULT_QUEUE
    points: int = 0  # added to the urgency of its jobs
    preempt: Literal["never", "freeze", "requeue"] = "freeze"  # what its jobs may do to less urgent ones
    preemptible: bool = True  # whether its jobs may be frozen or requeued for more urgent ones
    total: Limits = field(default_factory=Limits)
    per_user: Limits = field(default_factory=Limits)
    per_job: Limits = field(default_factory=Limits)  # `jobs` has no meaning here
    estimate_s: float = 3600.0  # of a job without time limit; never kills it
    default_limit_s: float = 0.0  # the time limit of a job that gives none; 0: the most
    most_limit_s: float = 0.0  # 0: any
    users: tuple[str, ...] = ()  # names; empty with `groups` empty: everybody
    groups: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()  # empty: always
    state: QueueState = "open"  # changed by command, never by the file


@dataclass(frozen=True, slots=True)
class Share:
    """Of one account, or of one user in it (`user` = "" is the account's own among all accounts)."""

    account: str
    user: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """CPUs kept free, at `at` (seconds since 1970) for `for_s`, and again every `every_s` (0: once).

    `cpus` = 0: the whole host. Only `users` may use them; nobody when empty: maintenance."""

    name: str
    at: float
    for_s: float
    every_s: float = 0.0
    cpus: int = 0
    users: tuple[str, ...] = ()
    by: str = ""  # the operator who added it by command; "": it is in the policy file

    def next_at(self, now: float) -> float | None:
        """When the time begins that is now or comes next; None when it is over."""
        if now < self.at + self.for_s:
            return self.at
        if not self.every_s:
            return None
        begun = self.at + (now - self.at) // self.every_s * self.every_s
        return begun if now < begun + self.for_s else begun + self.every_s


@dataclass(frozen=True, slots=True)
class Preemption:
    """Keeps jobs from being frozen over and over."""

    margin: int = 1  # points of urgency, queue points included, by which a job must be ahead of its victim
    least_run_s: float = 5.0  # a job that was started or thawed is left alone for so long
    most_per_hour: int = 60  # of one job; freezing and thawing take milliseconds. 0: any


@dataclass(frozen=True, slots=True)
class Policy:
    queues: tuple[Queue, ...] = (Queue(),)
    shares: tuple[Share, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    backfill: Literal["off", "easy", "conservative"] = "easy"
    backfill_depth: int = 20  # reservations of "conservative"
    share_points: float = 20.0  # most that a user's standing adds; 0 turns fair share off
    half_life_s: float = 7 * 86400.0  # of usage; 0: nothing is forgotten
    step_s: float = 60.0  # between two updates of the standings
    timezone: str = "UTC"  # of windows
    preemption: Preemption = field(default_factory=Preemption)

    def queue(self, name: str) -> Queue:
        """Raises KeyError."""
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise KeyError(name)

    def accounts_of(self, user: str) -> tuple[str, ...]:
        """Those that list the user; else one of the user's own name."""
        return tuple(share.account for share in self.shares if share.user == user) or (user,)


def from_json(data: dict[str, Any]) -> Policy:
    """Inverse of `dataclasses.asdict`; what an older version did not know has its default. Raises TypeError."""
    given = dict(data)
    if "queues" in given:
        given["queues"] = tuple(_queue(item) for item in given["queues"])
    if "shares" in given:
        given["shares"] = tuple(Share(**item) for item in given["shares"])
    if "reservations" in given:
        given["reservations"] = tuple(reservation_from_json(item) for item in given["reservations"])
    if "preemption" in given:
        given["preemption"] = Preemption(**given["preemption"])
    return Policy(**given)


def _queue(data: dict[str, Any]) -> Queue:
    given = dict(data)
    for key in ("total", "per_user", "per_job"):
        if key in given:
            given[key] = Limits(**given[key])
    for key in ("users", "groups"):
        given[key] = tuple(given.get(key, ()))
    windows = [Window(**{**item, "days": tuple(item["days"])}) for item in given.get("windows", ())]
    return Queue(**{**given, "windows": tuple(windows)})


def reservation_from_json(data: dict[str, Any]) -> Reservation:
    return Reservation(**{**data, "users": tuple(data.get("users", ()))})


DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def render_window(window: Window) -> str:
    """As the policy file says it: `mon-fri 20:00-06:00`."""
    days = list(window.days)
    if days == list(range(7)):
        text = "daily"
    elif len(days) > 2 and days == list(range(days[0], days[-1] + 1)):
        text = f"{DAY_NAMES[days[0]]}-{DAY_NAMES[days[-1]]}"
    else:
        text = ",".join(DAY_NAMES[day] for day in days)
    times = (f"{minute // 60:02}:{minute % 60:02}" for minute in (window.from_min, window.to_min))
    return f"{text} {'-'.join(times)}"
