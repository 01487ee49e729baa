"""Who passes whom, with right estimates: nobody delays the head, reserved times stay free, all get their turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.policy import Policy, Queue, Reservation
from jobs.record import State
from scheduler.capacity import Capacity
from scheduler.decision import Decision
from tests.builders import ALICE, BOB, GIB, MIB, a_host, a_job
from tests.fakes.simulation import Simulation

HOSTS = st.builds(a_host, nodes=st.integers(1, 3), cpus_per_node=st.integers(2, 4), memory_per_node=st.just(2 * GIB))
SPECS = st.builds(
    a_job,
    cpus=st.sampled_from([1, 2, 3, 4, 6, 0.5, 1.5]),
    memory=st.sampled_from([1 * MIB, 700 * MIB, 2 * GIB, 3 * GIB]),
    numa=st.sampled_from(["local", "local", "spread", "any"]),
    time_limit_s=st.sampled_from([10.0, 30.0, 35.0, 100.0]),
)
JOBS = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 5.0, 40.0]), SPECS, st.sampled_from([ALICE, BOB])), max_size=12)
MODES = st.sampled_from(["off", "easy", "conservative"])


@dataclass
class Life:
    """Each job runs exactly as long as its limit says."""

    sim: Simulation
    started: dict[int, float] = field(default_factory=dict)
    placed: dict[int, set[int]] = field(default_factory=dict)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)

    def run(self, jobs: list[Any]) -> Life:
        """`jobs`: (seconds after the one before, spec, owner)."""
        at, arrivals = self.sim.now, []
        for after, spec, owner in jobs:
            at += after
            arrivals.append((at, spec, owner))
        for _ in range(1000):
            ends = [(self.started[job] + self._limit(job), job) for job in self._running()]
            hopeful = any(self.fits(job) for job in self.sim.world.lines.where)
            changes = [self.sim.world.next_change()] if hopeful else []
            times = [end for end, _ in ends] + [at for at, _, _ in arrivals[:1]] + [at for at in changes if at]
            if not times:
                return self
            self.sim.now = min(times)
            for end, job in ends:
                if end <= self.sim.now:
                    assert self.sim.report(job, "exited") and self.sim.report(job, "cleaned")
            while arrivals and arrivals[0][0] <= self.sim.now:
                _, spec, owner = arrivals.pop(0)
                self.sim.submit(spec, owner=owner)
            self.decisions.append((self.sim.now, self.sim.round()))
            for job, record in self.sim.records.items():
                if record.state is State.STARTING:
                    assert record.placement is not None
                    self.placed[job] = set(record.placement.cpus)
                    self.sim.report(job, "started")
                    self.started[job] = self.sim.now
        raise AssertionError("it never ends")

    def fits(self, job: int) -> bool:
        return all(map(self.sim.world.ever, self.sim.world.shape(self.sim.records[job]).demands))

    def _running(self) -> list[int]:
        return [job for job, record in self.sim.records.items() if record.state is State.RUNNING]

    def _limit(self, job: int) -> float:
        return self.sim.records[job].spec.time_limit_s


def a_life(host: Any, jobs: list[Any], **policy: Any) -> Life:
    return Life(Simulation(Capacity.of(host), Policy((Queue(preempt="never"),), share_points=0.0, **policy))).run(jobs)


@settings(max_examples=80, deadline=None)
@given(HOSTS, JOBS, MODES)
def test_the_first_that_waits_starts_by_its_shadow_time_and_everybody_starts(host: Any, jobs: Any, mode: str) -> None:
    life = a_life(host, jobs, backfill=mode)
    assert set(life.started) == {job for job in life.sim.records if life.fits(job)}
    for at, decision in life.decisions:
        for claim in decision.claims[:1]:
            assert at <= life.started[claim.job] <= claim.start, f"job {claim.job}, as it was at {at}"


@settings(max_examples=40, deadline=None)
@given(HOSTS, JOBS)
def test_nobody_passes_when_backfill_is_off(host: Any, jobs: Any) -> None:
    life = a_life(host, jobs, backfill="off")
    order = [life.started[job] for job in sorted(life.started)]
    assert order == sorted(order)


@settings(max_examples=60, deadline=None)
@given(HOSTS, JOBS, MODES, st.integers(0, 4), st.sampled_from([0.0, 150.0]), st.sampled_from([(), ("bob",)]))
def test_reserved_times_are_honoured(host: Any, jobs: Any, mode: str, cpus: int, every_s: float, users: Any) -> None:
    reservation = Reservation("some", 1020.0, 25.0, every_s, cpus, users)
    life = a_life(host, jobs, backfill=mode, reservations=(reservation,))
    reserved = set(life.sim.world.reserved["some"])
    assert reserved and (not cpus or len(reserved) == min(cpus, life.sim.capacity.cpus))
    times = [(1020.0 + every_s * number, 1045.0 + every_s * number) for number in range(20 if every_s else 1)]
    for job, start in life.started.items():
        record, end = life.sim.records[job], start + life.sim.records[job].spec.time_limit_s
        assert record.owner.name in users or not (
            any(begin < end and start < until for begin, until in times) and reserved & life.placed[job]
        )
