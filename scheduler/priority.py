"""Who comes first: one integer per job, in milliseconds of waiting, and its parts. Pure.

A point of urgency, of the queue or of fair share is worth POINT_MS of age. Age is uncapped and grows for all jobs
alike, so the order of two waiting jobs never changes by time passing, and nobody starves.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.record import Record

POINT_MS = 3_600_000  # one hour; urgency 100 goes before whatever was submitted in the last 100 hours at urgency 0


@dataclass(frozen=True, slots=True)
class Parts:
    """In points: each is worth an hour of waiting. `urgency` may be inherited from a job that waits for this one."""

    urgency: float
    queue: float
    share: float
    age: float

    @property
    def total(self) -> float:
        return self.urgency + self.queue + self.share + self.age


def parts(submitted_at: float, urgency: int, queue_points: int, share_ms: int, now: float) -> Parts:
    """What the priority is made of at `now`; both times by the wall clock."""
    age_ms = max(0, round(now * 1000) - round(submitted_at * 1000))
    return Parts(urgency, queue_points, share_ms / POINT_MS, age_ms / POINT_MS)


def own_rank(record: Record, urgency: int | None = None) -> tuple[int, int]:
    """What is the job's own, without its queue's and user's part: sorts by urgency and age, then by submit order.
    `urgency`: when it is not the record's own, because more urgent jobs wait for this one."""
    own = record.urgency if urgency is None else urgency
    return round(record.submitted_at * 1000) - own * POINT_MS, record.job


def urgency_in(rank: tuple[int, int], record: Record) -> int:
    """The urgency that the record's `own_rank` was made with."""
    return (own_rank(record, 0)[0] - rank[0]) // POINT_MS
