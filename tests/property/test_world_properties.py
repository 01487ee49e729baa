"""Whatever happens, in whatever order: nothing is given twice, nothing waits without a reason, and a restart agrees."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobs import events as ev
from jobs import needs
from jobs.array import parse_array
from jobs.record import State
from jobs.runs import has
from jobs.spec import Depends, Moment, Retry, Warn
from jobs.verdict import Going, Never, NotNow
from scheduler.actions import ThawPlace
from scheduler.capacity import MILLI, Capacity, milli
from scheduler.decide import decide
from scheduler.dependency import became
from scheduler.world import World
from tests.builders import GIB, MIB, a_host, a_job, gpus, licences
from tests.fakes.simulation import Simulation

HOSTS = st.builds(
    a_host,
    nodes=st.integers(1, 3),
    cpus_per_node=st.sampled_from([1, 2, 4]),
    memory_per_node=st.just(2 * GIB),
    threads=st.sampled_from([1, 2]),
    hugepages=st.sampled_from([(), ((2 * MIB, 16),)]),
    memory_only=st.integers(0, 1),
    generic=st.sampled_from([(), (gpus(0), licences(2)), (gpus(0, 0, 1), licences(1, release_when_frozen=True))]),
)
SPECS = st.builds(
    a_job,
    cpus=st.sampled_from([1, 2, 3, 4, 0.25, 0.5, 0.9, 1.5, 0.001]),
    memory=st.sampled_from([1 * MIB, 256 * MIB, 700 * MIB, 1536 * MIB, 2 * GIB, 3 * GIB]),
    numa=st.sampled_from(["local", "local", "spread", "any", (0,), (0, 1), (7,)]),
    priority=st.integers(0, 100),
    hugepages=st.sampled_from([(), ((2 * MIB, 8),), ((2 * MIB, 12),)]),
    publish=st.sampled_from([(), (8080,)]),
    time_limit_s=st.sampled_from([0.0, 60.0]),
    generic=st.sampled_from([{}, {}, {"gpu": 1}, {"gpu": 2}, {"licence": 1}, {"gpu": 1, "licence": 2}]),
    on_lost=st.sampled_from(["fail", "requeue"]),
    array=st.sampled_from([None, None, None, parse_array("0-4"), parse_array("0-4%2")]),
    depends=st.builds(Depends, on_never=st.sampled_from(["cancel", "wait"])),
    freeze_with=st.sampled_from(["", "", "group"]),
    retry=st.sampled_from(
        [Retry(), Retry(most=2, memory_factor=2.0, memory_most_bytes=GIB), Retry(most=1, on=("start",))]
    ),
    begin=st.sampled_from([Moment(), Moment(), Moment(after_s=20.0), Moment(at=1100.0)]),
    deadline=st.sampled_from([Moment(), Moment(), Moment(after_s=90.0), Moment(at=1500.0)]),
    warn=st.sampled_from([Warn(), Warn(before_s=10.0)]),
)
KINDS = [*needs.KINDS, "singleton"]
REPORTS = ["started", "start_failed", "frozen", "freeze_failed", "thawed", "exited", "lost", "cleaned"]


def on_node(life: Life) -> list[int]:
    return sorted(job for job, record in life.sim.records.items() if record.state.on_node)


class Life(RuleBasedStateMachine):
    """Rules that end or hold jobs are rarer than those that bring them to life (`rare`), so that lives are long."""

    @initialize(host=HOSTS)
    def begin(self, host: Any) -> None:
        self.sim = Simulation(Capacity.of(host))

    @rule(specs=st.lists(SPECS, min_size=1, max_size=4), rare=st.integers(0, 7))
    def submit(self, specs: list[Any], rare: int) -> None:
        for spec in specs:
            self.sim.submit(spec, hold=rare == 0)

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), spec=SPECS, kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    def submit_behind(self, data: Any, spec: Any, kinds: list[str]) -> None:
        wanted = [(kind, data.draw(st.sampled_from(sorted(self.sim.records)))) for kind in kinds]
        for kind, job in wanted:
            if kind == "aftercorr" and not (spec.array and self.sim.records[job].progress):
                return
        self.sim.submit(spec, needs=wanted)

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), position=st.integers(0, 4))
    def drop_a_task(self, data: Any, position: int) -> None:
        self.sim.happen(ev.TasksDropped(data.draw(st.sampled_from(sorted(self.sim.records))), (position,), "", 0.0))

    @rule(settle=st.booleans())
    def round(self, settle: bool) -> None:
        self.sim.round()
        if settle:
            self.sim.settle()

    @rule(rare=st.integers(0, 3))
    def node_does_as_told(self, rare: int) -> None:
        self.sim.settle(exits=rare == 0)

    @precondition(lambda self: bool(on_node(self)))
    @rule(
        data=st.data(),
        what=st.sampled_from(REPORTS),
        resident=st.sampled_from([0, MIB, 200 * MIB, 4 * GIB]),
        end=st.sampled_from([(0, ""), (1, ""), (137, "oom")]),
    )
    def node_says(self, data: Any, what: str, resident: int, end: tuple[int, str]) -> None:
        status, cause = end
        self.sim.report(data.draw(st.sampled_from(on_node(self))), what, resident=resident, status=status, cause=cause)

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), what=st.sampled_from(["cleaned", "lost", "exited"]))
    def node_says_nonsense(self, data: Any, what: str) -> None:
        self.sim.report(data.draw(st.sampled_from(sorted(self.sim.records))), what)

    @precondition(lambda self: bool(on_node(self)))
    @rule(data=st.data(), by=st.sampled_from(["owner", "operator"]), keep=st.booleans(), settle=st.booleans())
    def pause(self, data: Any, by: str, keep: bool, settle: bool) -> None:
        self.sim.happen(ev.PauseRequested(data.draw(st.sampled_from(on_node(self))), by, keep))
        if settle:
            self.sim.settle()

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), by=st.sampled_from(["owner", "operator"]))
    def hold(self, data: Any, by: str) -> None:
        self.sim.happen(ev.PauseRequested(data.draw(st.sampled_from(sorted(self.sim.records))), by))

    @precondition(lambda self: self.sim.records)
    @rule(by=st.sampled_from(["owner", "operator"]))
    def resume_all(self, by: str) -> None:
        for job in sorted(self.sim.records):
            self.sim.happen(ev.ResumeRequested(job, by)) or self.sim.happen(ev.HoldReleased(job, by))

    @precondition(lambda self: bool(on_node(self)))
    @rule(data=st.data(), by=st.sampled_from(["owner", "operator"]))
    def resume(self, data: Any, by: str) -> None:
        self.sim.happen(ev.ResumeRequested(data.draw(st.sampled_from(on_node(self))), by))

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), urgency=st.integers(0, 100), weight=st.sampled_from([None, 10]))
    def reprioritise(self, data: Any, urgency: int, weight: int | None) -> None:
        job = data.draw(st.sampled_from(sorted(self.sim.records)))
        self.sim.happen(ev.PriorityChanged(job, urgency=urgency, cpu_weight=weight))

    @precondition(lambda self: self.sim.records)
    @rule(data=st.data(), rare=st.integers(0, 2))
    def cancel(self, data: Any, rare: int) -> None:
        if rare == 0:
            job = data.draw(st.sampled_from(sorted(self.sim.records)))
            self.sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, self.sim.now))

    @rule(seconds=st.sampled_from([0.5, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.tick(seconds)

    @invariant()
    def no_cpu_twice(self) -> None:
        exclusive: Counter[int] = Counter()
        shared: Counter[int] = Counter()
        for record in self.sim.records.values():
            place = record.placement
            if place is None:
                continue
            assert record.state.on_node
            assert len(set(place.cpus)) == len(place.cpus)
            assert set(place.cpus) <= set(self.sim.capacity.node_of)
            if place.exclusive:
                assert len(place.cpus) == record.spec.resources.cpus
                exclusive.update(place.cpus)
            else:
                part = -(-milli(place.shares) // len(place.cpus))
                assert part * len(place.cpus) >= milli(record.spec.resources.cpus)
                shared.update(dict.fromkeys(place.cpus, part))
        assert all(count == 1 for count in exclusive.values())
        assert all(parts <= MILLI for parts in shared.values())
        assert not set(exclusive) & set(shared)

    @invariant()
    def no_byte_twice(self) -> None:
        held: Counter[int] = Counter()
        pages: Counter[tuple[int, int]] = Counter()
        for record in self.sim.records.values():
            if not record.state.on_node:
                assert record.home is None
                continue
            home = record.home
            assert home is not None
            assert sum(size for _, size in home.memory) == record.wanted.resources.memory_bytes
            for node, size in home.memory:
                held[node] += min(size, record.resident_bytes) if record.state is State.FROZEN else size
            for node, size, count in home.hugepages:
                pages[node, size] += count
        assert all(size <= self.sim.capacity.memory[node] for node, size in held.items())
        assert all(count <= self.sim.capacity.pages[key] for key, count in pages.items())

    @invariant()
    def no_instance_twice(self) -> None:
        given: Counter[tuple[str, int]] = Counter()
        for record in self.sim.records.values():
            place = record.placement or record.home
            if place is None:
                continue
            assert {name: len(numbers) for name, numbers in place.generic} == dict(record.spec.resources.generic)
            back = place.given_back if record.placement is None else ()
            given.update((name, number) for name, numbers in place.generic for number in numbers if name not in back)
        assert all(count == 1 for count in given.values())

    @invariant()
    def a_restart_agrees(self) -> None:
        sim = self.sim
        live = [record for record in sim.records.values() if not (record.state.final and record.cleaned)]
        sim.world.tick(sim.now)
        sim.world.step_shares()  # a restart does, at once
        known = {job: became(record) for job, record in sim.records.items()}
        rebuilt = World.of(sim.capacity, live, sim.world.policy, sim.now, known, sim.world.shares.used)
        assert rebuilt == sim.world
        one, other = decide(rebuilt, sim.now, sim.ran), sim.decide()
        assert one.actions == other.actions
        assert all(one.verdict(record) == other.verdict(record) for record in live)

    @invariant()
    def an_array_has_no_more_tasks_than_it_may(self) -> None:
        for record in self.sim.records.values():
            if record.progress is None or record.spec.array is None:
                continue
            tasks = [other for other in self.sim.records.values() if other.array == record.job]
            assert record.progress.live == sum(not task.state.final for task in tasks)
            assert not record.spec.array.at_once or record.progress.live <= record.spec.array.at_once
            assert len({task.index for task in tasks}) == len(tasks)
            assert not record.state.final or record.progress.ended

    @invariant()
    def nothing_begins_before_what_it_waits_for(self) -> None:
        for record in self.sim.records.values():
            assert not record.attempt or record.spec.begin.of(record.submitted_at) <= self.sim.now
            before = self.sim.records[record.array] if record.array else record
            for need in before.needs if record.attempt else ():
                target = self.sim.records[need.job]
                match need.kind:
                    case "after":
                        assert target.started_at or target.attempt > 1 or target.state.final
                    case "afterok":
                        assert target.state is State.COMPLETED
                    case "afternotok":
                        assert target.state.final and target.state is not State.COMPLETED
                    case "aftercorr":
                        assert target.progress is not None and has(target.progress.good, record.index)
                    case _:
                        assert target.state.final

    @invariant()
    def whoever_waits_has_an_answer(self) -> None:
        decision = self.sim.decide()
        for record in self.sim.records.values():
            verdict = decision.verdict(record)
            if record.state is State.QUEUED:
                assert isinstance(verdict, Going | Never) or (isinstance(verdict, NotNow) and verdict.reasons)
            if record.state is State.FROZEN and not record.pause_holds:
                assert isinstance(verdict, Going) or (isinstance(verdict, NotNow) and verdict.reasons)

    @invariant()
    def the_last_one_frozen_can_come_back(self) -> None:
        """Once nothing runs, some frozen job has room, whatever the others keep resident."""
        sim = self.sim
        frozen = [record for record in sim.records.values() if record.state is State.FROZEN]
        running = [record for record in sim.records.values() if record.state.on_node and record not in frozen]
        if not frozen or running or any(record.cancel for record in frozen):
            return
        fits = []
        for record in frozen:
            alone = Simulation(sim.capacity)
            alone.records = dict(sim.records)
            alone.now = sim.now
            frozen_ones = [r for r in sim.records.values() if r.state is State.FROZEN]
            alone.world = World.of(sim.capacity, frozen_ones, now=sim.now)
            alone.happen(ev.ResumeRequested(record.job, "operator"))
            fits += [action for action in alone.decide().actions if isinstance(action, ThawPlace)]
        assert fits


Life.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
