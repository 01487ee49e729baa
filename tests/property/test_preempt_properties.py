"""Who is frozen for a more urgent job: no more than needed, nobody who is as urgent, and never a byte too much."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record, State
from jobs.states import advance
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for, hold_of
from scheduler.demand import demand_of
from scheduler.preempt import Choice, Head, choose, make_way
from scheduler.preemptible import Preemptible, Victim, order_of_running, points_of
from scheduler.priority import POINT_MS
from tests.builders import GIB, MIB, a_host, a_job
from tests.fakes.simulation import Simulation

HOSTS = st.builds(
    a_host,
    nodes=st.integers(1, 2),
    cpus_per_node=st.sampled_from([2, 4]),
    memory_per_node=st.sampled_from([2 * GIB, 3 * GIB]),
    threads=st.sampled_from([1, 2]),
    hugepages=st.sampled_from([(), ((2 * MIB, 16),)]),
)
RUNNING = st.builds(
    a_job,
    cpus=st.sampled_from([1, 1, 2, 0.5, 0.25]),
    memory=st.sampled_from([1 * MIB, 256 * MIB, 400 * MIB, 1 * GIB]),
    numa=st.sampled_from(["local", "any"]),
    priority=st.sampled_from([0, 10, 30, 45, 49, 50]),
    hugepages=st.sampled_from([(), ((2 * MIB, 8),)]),
    on_lost=st.sampled_from(["fail", "requeue"]),
)
URGENT = st.builds(
    a_job,
    cpus=st.sampled_from([1, 2, 3, 0.5]),
    memory=st.sampled_from([1 * MIB, 1 * MIB, 300 * MIB, 900 * MIB]),
    numa=st.sampled_from(["local", "any", "spread", (0,)]),
    priority=st.just(50),
    hugepages=st.sampled_from([(), ((2 * MIB, 8),)]),
)
RULES = st.builds(
    Preemption, margin=st.sampled_from([1, 10]), least_run_s=st.just(30.0), most_per_hour=st.sampled_from([1, 6, 0])
)
RESIDENT = st.sampled_from([0, 1 * MIB, 2 * MIB, 100 * MIB, 2 * GIB])


class Case:
    """Some jobs run, an urgent one came and found no room."""

    def __init__(self, host: Any, specs: list[Any], urgent: Any, rules: Preemption, data: st.DataObject) -> None:
        self.policy = Policy(preemption=rules)
        self.sim = Simulation(Capacity.of(host))
        for spec in specs:
            self.sim.submit(spec)
        for priority in data.draw(st.lists(st.sampled_from([0, 10, 45, 50]), min_size=8, max_size=8)):
            self.sim.submit(a_job(memory=MIB, priority=priority))  # until no CPU is left
        self.sim.round()
        self.sim.settle()
        for record in list(self.sim.records.values()):
            if record.state is State.RUNNING and data.draw(st.integers(0, 5)) == 0:
                self.sim.happen(ev.Preempted(record.job, str(record.execution), 999, 0, self.sim.now - 100.0))
                self.sim.report(record.job, "freeze_failed")
        self.running = [r for r in self.sim.records.values() if r.state is State.RUNNING]
        self.resident = {r.job: data.draw(RESIDENT) for r in self.running}
        self.now = self.sim.now + data.draw(st.sampled_from([100.0, 100.0, 10.0]))
        self.demand = demand_of(urgent)
        mode = data.draw(st.sampled_from(["freeze", "freeze", "requeue"]))
        self.head = Head(
            1000, (self.demand,), urgent.priority, urgent.priority * POINT_MS - round(self.now * 1000), mode
        )

    def candidates(self) -> list[Victim]:
        index = Preemptible(self.policy)
        for record in self.running:
            index.enter(record, self.resident[record.job])
        index.tick(self.now)
        return list(index.below(self.head.points, self.head.mode))

    def choose(self) -> Choice:
        return choose(self.sim.world.ledger, self.head, self.candidates(), self.policy, self.now)

    def after(self, victims: tuple[int, ...]) -> Ledger:
        """As the records will say when the victims stand still or are gone."""
        ledger = Ledger(self.sim.capacity)
        for record in self.sim.world.live.values():
            after = self.later(record) if record.job in victims else record
            ledger.charge(after.job, hold_of(after))
        return ledger

    def later(self, record: Record) -> Record:
        ids, now = (record.job, str(record.execution)), self.now
        requeue = self.head.mode == "requeue"
        record = advance(record, ev.Preempted(*ids, self.head.job, 0, now, requeue))
        if requeue:
            return advance(record, ev.Exited(*ids, 143, "cancelled", 1.0, ev.Usage(), now))
        return advance(record, ev.Frozen(*ids, 0.001, 1.0, self.resident[record.job], now))

    def fits(self, victims: tuple[int, ...]) -> bool:
        return allocate(self.after(victims), self.demand) is not None


@settings(max_examples=120, deadline=None)
@given(HOSTS, st.lists(RUNNING, min_size=0, max_size=4), URGENT, RULES, st.data())
def test_the_choice(host: Any, specs: list[Any], urgent: Any, rules: Preemption, data: st.DataObject) -> None:
    case = Case(host, specs, urgent, rules, data)
    if case.fits(()):
        return
    before = case.sim.world.ledger.copy()
    choice = case.choose()
    assert case.sim.world.ledger == before
    jobs = tuple(victim.job for victim in choice.victims)
    allowed = [
        record
        for record in case.running
        if record.urgency + rules.margin <= 50
        and case.now - record.running_since >= 30.0
        and (rules.most_per_hour != 1 or not record.preempted_lately)
        and (case.head.mode == "freeze" or record.spec.on_lost == "requeue")
    ]
    assert set(jobs) <= {record.job for record in allowed}
    if not jobs:
        assert not case.fits(tuple(record.job for record in allowed)), "a more urgent job waits for less urgent ones"
        return
    assert case.fits(jobs)
    for one in jobs:
        assert not case.fits(tuple(job for job in jobs if job != one)), f"{one} of {jobs} is frozen for nothing"
    inequalities_hold(case, jobs, choice)
    worst = max(victim.regret(case.head.mode) for victim in choice.victims)
    spared = [r.job for r in allowed if _victim(case, r).regret(case.head.mode) < worst]
    for size in range(len(spared) + 1):
        assert not any(case.fits(tuple(some)) for some in combinations(spared, size)), "a less regretted set would do"


def _victim(case: Case, record: Record) -> Victim:
    return Victim(record, points_of(case.policy, record), case.resident[record.job])


def inequalities_hold(case: Case, jobs: tuple[int, ...], choice: Choice) -> None:
    """On each node, with the urgent job running: Σ limit(running) + Σ resident(frozen) ≤ memory, and for each frozen
    one limit(it) + Σ resident(other frozen) ≤ memory."""
    assert choice.placement is not None
    case.after(jobs).charge(case.head.job, hold_for(choice.placement))
    running, frozen = Counter(dict(choice.placement.memory)), Counter[int]()
    limits: dict[int, Counter[int]] = {}
    for record in case.sim.world.live.values():
        home = record.home
        if home is None or (record.job in jobs and case.head.mode == "requeue"):
            continue
        if record.job not in jobs:
            running.update(dict(home.memory))
            continue
        limits[record.job] = Counter(dict(home.memory))
        frozen.update({node: min(size, case.resident[record.job]) for node, size in home.memory})
    for node, memory in case.sim.capacity.memory.items():
        assert running[node] + frozen[node] <= memory
        for job, limit in limits.items():
            others = frozen[node] - min(limit[node], case.resident[job])
            assert limit[node] + others <= memory


@settings(max_examples=50, deadline=None)
@given(HOSTS, st.lists(RUNNING, min_size=0, max_size=4), URGENT, RULES, st.data())
def test_while_victims_are_being_frozen_the_choice_stands(
    host: Any, specs: list[Any], urgent: Any, rules: Preemption, data: st.DataObject
) -> None:
    case = Case(host, specs, urgent, rules, data)
    choice = case.choose()
    coming = case.sim.world.ledger.copy()
    for victim in choice.victims:
        requeue = case.head.mode == "requeue"
        ids = victim.job, str(victim.record.execution)
        make_way(coming, advance(victim.record, ev.Preempted(*ids, 1000, victim.resident_bytes, 0.0, requeue)))
    if choice.victims:
        assert allocate(coming, case.demand) is not None


@settings(max_examples=50, deadline=None)
@given(HOSTS, st.lists(RUNNING, min_size=1, max_size=6), RULES, st.integers(0, 60), st.data())
def test_the_index_knows_who_may_be_frozen(
    host: Any, specs: list[Any], rules: Preemption, points: int, data: st.DataObject
) -> None:
    policy = Policy(queues=(Queue(points=data.draw(st.sampled_from([0, 5]))),), preemption=rules)
    sim = Simulation(Capacity.of(host))
    for spec in specs:
        sim.submit(spec)
    index = Preemptible(policy)
    seen: dict[int, Record] = {}
    for _ in range(4):
        sim.round()
        sim.settle(exits=data.draw(st.integers(0, 5)) == 0)
        for job, record in sim.records.items():
            if seen.get(job) is not record:
                if job in seen:
                    index.leave(seen[job])
                index.enter(record)
                seen[job] = record
        sim.tick(data.draw(st.sampled_from([1.0, 31.0])))
        index.tick(sim.now)
        running = [r for r in sim.records.values() if r.state is State.RUNNING and not r.to_freeze and not r.cancel]
        wanted = {r.job for r in running if points_of(policy, r) <= points and sim.now - r.running_since >= 30.0}
        for mode in ("freeze", "requeue"):
            found = list(index.below(points, mode))
            again = {r.job for r in running if mode == "freeze" or r.spec.on_lost == "requeue"}
            assert {victim.job for victim in found} == wanted & again
            regrets = [victim.regret(mode) for victim in found]
            assert regrets == sorted(regrets)
            assert all(victim.points == points_of(policy, victim.record) for victim in found)
        resting = [r.running_since + 30.0 for r in running if sim.now - r.running_since < 30.0]
        assert index.next_rested() == min(resting, default=None)
        if running:
            sim.happen(ev.PriorityChanged(data.draw(st.sampled_from(running)).job, urgency=20))
            sim.happen(ev.PauseRequested(data.draw(st.sampled_from(running)).job, "owner"))


def test_only_waiting_makes_older() -> None:
    sim = Simulation(Capacity.of(a_host()))
    job = sim.submit(a_job(priority=10))
    sim.tick(60.0)
    sim.round()
    sim.settle()
    sim.tick(5000.0)
    waited = order_of_running(sim.records[job], 0, sim.now)
    assert waited == 10 * POINT_MS - round((sim.now - 60.0) * 1000)
