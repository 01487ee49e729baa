"""What operators decide about queues, shares and reserved times. Pure values; the journal keeps them as inputs.

A host without a policy file has one open queue, "default", without limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DEFAULT_QUEUE = "default"


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
    default_limit_s: float = 0.0  # the time limit of a job that gives none; 0: none
    most_limit_s: float = 0.0  # 0: any
    users: tuple[str, ...] = ()  # names; empty with `groups` empty: everybody
    groups: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()  # empty: always
    state: Literal["open", "drained"] = "open"  # drained: takes jobs, starts none


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
    half_life_s: float = 7 * 86400.0  # of usage
    step_s: float = 60.0  # between two updates of the standings
    timezone: str = "UTC"  # of windows
    preemption: Preemption = field(default_factory=Preemption)

    def queue(self, name: str) -> Queue:
        """Raises KeyError."""
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise KeyError(name)
