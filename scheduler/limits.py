"""What each queue, and each user in it, has of it now, against the policy's limits. Pure.

Counted are jobs that own CPUs: running, starting, thawing, or frozen with their CPUs kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.policy import Limits as Most
from jobs.policy import Queue
from jobs.record import Record
from jobs.units import render_size
from jobs.verdict import Reason
from scheduler.capacity import MILLI, milli
from scheduler.demand import Demand

Used = tuple[int, int, int]  # jobs, thousandths of CPUs, bytes
NONE: Used = (0, 0, 0)


@dataclass(slots=True)
class Limits:
    """`copy` is cheap: the counts are values."""

    total: dict[str, Used] = field(default_factory=dict)  # queue → used
    per_user: dict[tuple[str, str], Used] = field(default_factory=dict)  # (queue, user) → used

    def copy(self) -> Limits:
        return Limits(dict(self.total), dict(self.per_user))

    def add(self, queue: str, user: str, used: Used, sign: int = 1) -> None:
        _add(self.total, queue, used, sign)
        _add(self.per_user, (queue, user), used, sign)

    def of_queue(self, queue: Queue, wanted: Used) -> Reason | None:
        """Which limit of the whole queue one more job of this size would pass."""
        return _passed(queue.total, self.total.get(queue.name, NONE), wanted, f"queue '{queue.name}'")

    def of_user(self, queue: Queue, user: str, wanted: Used) -> Reason | None:
        used = self.per_user.get((queue.name, user), NONE)
        return _passed(queue.per_user, used, wanted, f"user '{user}' in queue '{queue.name}'")


def used_by(record: Record) -> Used:
    """What the job counts now."""
    wanted = record.wanted.resources
    return (1, milli(wanted.cpus), wanted.memory_bytes) if record.placement is not None else NONE


def size_of(demands: tuple[Demand, ...]) -> Used:
    """What a job of these alternatives would count at least."""
    cpus = min(demand.cpus * MILLI or milli(demand.shares) for demand in demands)
    return 1, cpus, min(demand.memory_bytes for demand in demands)


def limited(most: Most) -> bool:
    return bool(most.jobs or most.cpus or most.memory_bytes)


def _add(sums: dict[str, Used] | dict[tuple[str, str], Used], key: object, used: Used, sign: int) -> None:
    counts: dict[object, Used] = sums  # type: ignore[assignment]
    jobs, cpus, memory = counts.get(key, NONE)
    total = jobs + sign * used[0], cpus + sign * used[1], memory + sign * used[2]
    if total == NONE:
        counts.pop(key, None)  # so that equal counts compare equal
    else:
        counts[key] = total


def _passed(most: Most, used: Used, wanted: Used, whose: str) -> Reason | None:
    if most.jobs and used[0] + wanted[0] > most.jobs:
        detail = f"limit: {whose} has {used[0]} of {most.jobs} jobs"
        return Reason("limit:jobs", wanted[0], max(0, most.jobs - used[0]), "jobs", detail=detail)
    if most.cpus and used[1] + wanted[1] > round(most.cpus * MILLI):
        detail = f"limit: {whose} has {used[1] / MILLI:g} of {most.cpus:g} CPUs, {wanted[1] / MILLI:g} wanted"
        return Reason("limit:cpus", wanted[1] / MILLI, max(0.0, most.cpus - used[1] / MILLI), "cpus", detail=detail)
    if most.memory_bytes and used[2] + wanted[2] > most.memory_bytes:
        detail = (
            f"limit: {whose} has {render_size(used[2])} of {render_size(most.memory_bytes)} memory, "
            f"{render_size(wanted[2])} wanted"
        )
        return Reason("limit:memory", wanted[2], max(0, most.memory_bytes - used[2]), "bytes", detail=detail)
    return None
