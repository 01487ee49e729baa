"""A workload through the production `decide`, with a virtual clock: what would have happened to each job. Pure.

Every job ends when its run time is over, and the node does at once what it is told. No daemon, journal or kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from jobs import events as ev
from jobs.events import Event, Owner
from jobs.policy import Policy
from jobs.record import Record
from jobs.spec import JobSpec, Resources
from jobs.states import advance
from scheduler.actions import Place
from scheduler.capacity import Capacity
from scheduler.decide import decide
from scheduler.world import World

SUBMIT, END = 1, 0  # what ends at a moment ends before what is submitted at that moment is looked at


@dataclass(frozen=True, slots=True)
class Job:
    """Seconds; `limit_s` is what its user estimates, 0: nothing."""

    submit_s: float
    run_s: float
    cpus: int
    limit_s: float = 0.0
    user: str = "user"


@dataclass(frozen=True, slots=True)
class Ran:
    job: Job
    start_s: float

    @property
    def wait_s(self) -> float:
        return self.start_s - self.job.submit_s

    def slowdown(self, least_s: float = 10.0) -> float:
        """Bounded: short jobs count as `least_s` long (Feitelson, Rudolph: Metrics and benchmarking, 1998)."""
        return max(1.0, (self.wait_s + self.job.run_s) / max(self.job.run_s, least_s))


def read_swf(text: str) -> list[Job]:
    """Standard Workload Format: fields 2 submit time, 4 run time, 5 processors, 12 user. Limit = run time."""
    jobs = []
    for line in text.splitlines():
        if line and not line.startswith(";"):
            fields = line.split()
            run_s = max(1.0, float(fields[3]))
            jobs.append(Job(float(fields[1]), run_s, int(fields[4]), run_s, f"user{fields[11]}"))
    return jobs


def replay(jobs: Sequence[Job], capacity: Capacity, policy: Policy) -> list[Ran]:
    """In the order of start."""
    life = _Life(World.of(capacity, policy=policy), {})
    happens = [(job.submit_s, SUBMIT, number) for number, job in enumerate(jobs, 1)]
    happens.sort()
    happens.reverse()
    ends: list[tuple[float, int, int]] = []
    ran: list[Ran] = []
    while happens or ends:
        now = min([each[-1][0] for each in (happens,) if each] + [each[0][0] for each in (ends,) if each])
        while ends and ends[0][0] <= now:
            life.ends(heappop(ends)[2], now)
        while happens and happens[-1][0] <= now:
            number = happens.pop()[2]
            life.happen(ev.Submitted(number, _spec(jobs[number - 1]), Owner(1, 1, (), jobs[number - 1].user), now))
        for job in life.starts(now):
            ran.append(Ran(jobs[job - 1], now))
            heappush(ends, (now + jobs[job - 1].run_s, END, job))
    return ran


def utilisation(ran: Iterable[Ran], cpus: int) -> float:
    """Of the CPUs, from the first submission to the last end."""
    ran = list(ran)
    first, last = min(each.job.submit_s for each in ran), max(each.start_s + each.job.run_s for each in ran)
    return sum(each.job.run_s * each.job.cpus for each in ran) / cpus / (last - first)


@dataclass(slots=True)
class _Life:
    world: World
    records: dict[int, Record]

    def happen(self, event: Event) -> None:
        before = self.records.pop(event.job, None)
        after = advance(before, event)
        self.world.apply(event, before, after)
        if not after.state.final or not after.cleaned:
            self.records[event.job] = after

    def ends(self, job: int, now: float) -> None:
        execution = str(self.records[job].execution)
        ran_s = now - self.records[job].started_at
        self.happen(ev.Exited(job, execution, 0, "", ran_s, ev.Usage(), now))
        self.happen(ev.CleanedUp(job, execution))

    def starts(self, now: float) -> list[int]:
        self.world.tick(now)
        started = []
        for action in decide(self.world, now, {}).actions:
            if isinstance(action, Place):
                execution = str(replace(self.records[action.job].execution, attempt=1))
                self.happen(ev.Placed(action.job, execution, action.placement, now))
                self.happen(ev.Started(action.job, execution, now))
                started.append(action.job)
        return started


def _spec(job: Job) -> JobSpec:
    return JobSpec("job", ("true",), time_limit_s=job.limit_s, resources=Resources(job.cpus, 1))
