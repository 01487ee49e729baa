"""Who waits for whom: which dependencies hold, which never will, and the urgency that is passed on to those waited for.

Pure. What became of a job is derived from its record; nothing here is journaled. A need always points to a job that
was submitted earlier (in one submission: that comes earlier in it), so there are no circles.
Costs of a change: one look at each job that waits for the changed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from jobs.array import index_text
from jobs.needs import Need, Outcome
from jobs.record import Record, State
from jobs.runs import Runs, both, either, without
from jobs.verdict import MOST_BLOCKERS, Reason

ANY = {Outcome.GOOD, Outcome.BAD}
HOLDS = {
    "after": {Outcome.BEGUN, Outcome.GOOD, Outcome.BAD}, "afterok": {Outcome.GOOD}, "afternotok": {Outcome.BAD},
    "afterany": ANY, "aftercorr": {Outcome.GOOD}, "singleton": ANY,
}  # fmt: skip


class Became(NamedTuple):
    """`good`, `bad`: positions of an array's tasks; of one that has ended, `bad` are all that are not good."""

    outcome: Outcome = Outcome.OPEN
    good: Runs = ()
    bad: Runs = ()
    state: str = ""  # for people


def became(record: Record) -> Became:
    progress = record.progress
    good, bad = (progress.good, progress.bad) if progress else ((), ())
    state = str(record.state).replace("_", " ")
    if record.state.final:
        return Became(Outcome.GOOD if record.state is State.COMPLETED else Outcome.BAD, good, (), state)
    begun = record.started_at or record.attempt > 1
    return Became(Outcome.BEGUN if begun else Outcome.OPEN, good, bad, state)


def settled(need: Need) -> Became:
    """What was known at submission."""
    return Became(need.settled, need.good, (), need.state)


def need_of(kind: str, record: Record) -> Need:
    """A need of this job as it is now."""
    it = became(record)
    return Need(kind, record.job, record.spec.name, it.outcome, it.state, it.good)


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a waiting job. `open`: what it still waits for; `never`: why it can't start any more, "" while it may.

    `tasks` limits an array by aftercorr: positions that may start; None: no such limit. `lost`: that never may."""

    open: tuple[Need, ...] = ()
    never: str = ""
    tasks: Runs | None = None
    lost: Runs = ()

    @property
    def met(self) -> bool:
        return not self.open and not self.never


MET = Standing()


def standing(record: Record, what_became: Mapping[int, Became]) -> Standing:
    """`what_became` of every job in its needs."""
    waiting, never = [], ""
    tasks: Runs | None = None
    lost: Runs = ()
    for need in record.needs:
        it = what_became[need.job]
        if it.outcome in HOLDS[need.kind]:
            continue
        if need.kind == "aftercorr" and record.progress is not None:
            pending = record.progress.pending
            ready = both(pending, it.good)
            tasks = ready if tasks is None else both(tasks, ready)
            lost = either(lost, without(pending, it.good) if it.outcome in ANY else both(pending, it.bad))
        elif it.outcome in ANY:
            never = never or f"{_named(need)} {it.state or 'has ended'}; it waited for {_wish(need)}"
        else:
            waiting.append(need)
    if tasks == () and not waiting and not never:
        waiting = [need for need in record.needs if need.kind == "aftercorr"]
    return Standing(tuple(waiting), never, tasks, lost)


def _named(need: Need) -> str:
    return f"job {need.job} ({need.name})" if need.name else f"job {need.job}"


def _wish(need: Need) -> str:
    return {"afterok": "its success", "afternotok": "its failure"}.get(need.kind, need.kind)


def reason(found: Standing) -> Reason | None:
    """Why the job does not start yet; None when its dependencies are no hindrance."""
    if found.never:
        return Reason("dependency", 1, 0, detail=f"{found.never}; that can never hold any more")
    if not found.open:
        return None
    first = [f"{need.kind} {need.name or need.job}" for need in found.open[:3]]
    more = f" and {len(found.open) - 3} more" if len(found.open) > 3 else ""
    blockers = tuple(sorted({need.job for need in found.open}))[:MOST_BLOCKERS]
    return Reason("dependency", len(found.open), 0, "jobs", blockers, f"waits for {', '.join(first)}{more}")


def why_dropped(record: Record, lost: Runs) -> str:
    """The reason of an array's tasks whose counterparts did not complete."""
    assert record.spec.array is not None
    return f"tasks {index_text(record.spec.array, lost)} of what they waited for did not complete"


@dataclass(slots=True)
class _Behind:
    """Of one job that is waited for: what became of it, who waits, and how urgent those are (urgency → how many)."""

    became: Became
    jobs: set[int] = field(default_factory=set)
    urgencies: dict[int, int] = field(default_factory=dict)

    def count(self, urgency: int, by: int) -> None:
        left = self.urgencies.get(urgency, 0) + by
        if left:
            self.urgencies[urgency] = left
        else:
            del self.urgencies[urgency]


@dataclass(slots=True)
class _Waiter:
    record: Record
    urgency: int  # its own, or more: that of who waits for it


@dataclass(slots=True)
class Waits:
    """Changed by the world with each record. What is given back by a change: jobs to be looked at again."""

    waiting: dict[int, _Waiter] = field(default_factory=dict)
    behind: dict[int, _Behind] = field(default_factory=dict)

    def standing(self, record: Record) -> Standing:
        if record.job not in self.waiting:
            return MET
        return standing(record, {need.job: self.behind[need.job].became for need in record.needs})

    def urgency(self, record: Record) -> int:
        """At least that of every job that waits for this one."""
        behind = self.behind.get(record.job)
        return max(record.urgency, *behind.urgencies) if behind is not None else record.urgency

    def change(self, before: Record | None, after: Record, known: Mapping[int, Became]) -> set[int]:
        """`known`: what became of jobs that are not known here; what is missing there is as it was at submission."""
        touched: set[int] = set()
        waits = _waits(after)
        if after.job in self.waiting and not waits:
            touched |= self._forget(after.job)
        behind = self.behind.get(after.job)
        if behind is not None and (now := became(after)) != behind.became:
            behind.became = now
            touched |= behind.jobs
        if waits and after.job not in self.waiting:
            touched |= self._remember(after, known)
        elif waits:
            self.waiting[after.job].record = after
            touched |= self._raise(after.job)
        return touched - {after.job}

    def _remember(self, record: Record, known: Mapping[int, Became]) -> set[int]:
        urgency = self.urgency(record)
        self.waiting[record.job] = _Waiter(record, urgency)
        for need in _each_job(record):
            behind = self.behind.get(need.job)
            if behind is None:
                behind = self.behind[need.job] = _Behind(known.get(need.job) or settled(need))
            behind.jobs.add(record.job)
            behind.count(urgency, 1)
        return self._raise_all(need.job for need in record.needs)

    def _forget(self, job: int) -> set[int]:
        waiter = self.waiting.pop(job)
        for need in _each_job(waiter.record):
            behind = self.behind[need.job]
            behind.jobs.discard(job)
            behind.count(waiter.urgency, -1)
            if not behind.jobs:
                del self.behind[need.job]
        return self._raise_all(need.job for need in waiter.record.needs)

    def _raise_all(self, jobs: Iterable[int]) -> set[int]:
        """These jobs' urgency may have changed; so may that of what they wait for."""
        touched = set(jobs)
        for job in sorted(touched):
            touched |= self._raise(job)
        return touched

    def _raise(self, job: int) -> set[int]:
        touched: set[int] = set()
        left = [job]
        while left:
            waiter = self.waiting.get(left.pop())
            if waiter is None or (now := self.urgency(waiter.record)) == waiter.urgency:
                continue
            for need in _each_job(waiter.record):
                behind = self.behind[need.job]
                behind.count(waiter.urgency, -1)
                behind.count(now, 1)
                touched.add(need.job)
                left.append(need.job)
            waiter.urgency = now
        return touched


def _waits(record: Record) -> bool:
    """A job that was placed once has what it waited for; an array goes on until nothing of it is pending."""
    return bool(record.needs) and record.state in (State.HELD, State.QUEUED) and not record.attempt


def _each_job(record: Record) -> Iterator[Need]:
    """One need for each job."""
    seen: set[int] = set()
    for need in record.needs:
        if need.job not in seen:
            seen.add(need.job)
            yield need


def needed(records: Iterable[Record]) -> list[int]:
    """The jobs whose ends must be known to tell what these wait for, sorted."""
    return sorted({need.job for record in records if _waits(record) for need in record.needs})
