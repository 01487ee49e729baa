"""What a queue and a user in it may have at the same time."""

from __future__ import annotations

from typing import Any

from jobs import events as ev
from jobs.events import Owner
from jobs.policy import Limits, Policy, Queue, Window
from jobs.verdict import NotNow
from scheduler.actions import Place
from scheduler.fairshare import Used
from tests.builders import ALICE, BOB, GIB, MIB, a_capacity, a_job
from tests.fakes.simulation import Simulation


def a_simulation(*queues: Queue, **policy: Any) -> Simulation:
    return Simulation(a_capacity(cpus_per_node=8), Policy(queues or (Queue(**policy),)))


def started(sim: Simulation) -> list[int]:
    jobs = [action.job for action in sim.round().actions if isinstance(action, Place)]
    sim.settle()
    return jobs


def why(sim: Simulation, job: int) -> list[str]:
    verdict = sim.decide().verdict(sim.records[job])
    assert isinstance(verdict, NotNow), verdict
    return [str(reason) for reason in verdict.reasons]


def submit(sim: Simulation, *owners: Owner, **spec: Any) -> None:
    for owner in owners:
        sim.submit(a_job(memory=256 * MIB, **spec), owner=owner)


def test_jobs_of_one_user_in_a_queue() -> None:
    sim = a_simulation(per_user=Limits(jobs=2))
    submit(sim, ALICE, ALICE, ALICE, BOB)
    assert started(sim) == [1, 2, 4]
    assert why(sim, 3) == ["limit: user 'alice' in queue 'default' has 2 of 2 jobs"]
    assert started(sim) == []
    sim.report(1, "exited")
    assert started(sim) == [3]


def test_a_user_at_the_limit_has_no_head_in_any_line() -> None:
    sim = a_simulation(per_user=Limits(cpus=2.5))
    submit(sim, ALICE, cpus=2)
    submit(sim, ALICE, cpus=1)
    submit(sim, ALICE, cpus=0.5)
    assert started(sim) == [1, 3]
    assert [len(line.heads) for line in sim.world.lines] == [0]
    assert why(sim, 2) == ["limit: user 'alice' in queue 'default' has 2.5 of 2.5 CPUs, 1 wanted"]
    sim.report(3, "exited")
    assert [len(line.heads) for line in sim.world.lines] == [0], "half a CPU is not enough"
    sim.report(1, "exited")
    assert [len(line.heads) for line in sim.world.lines] == [1]


def test_the_whole_queue() -> None:
    sim = a_simulation(Queue(total=Limits(memory_bytes=GIB)), Queue("other"))
    for owner in (ALICE, BOB):
        sim.submit(a_job(memory=768 * MIB), owner=owner)
    sim.submit(a_job(memory=768 * MIB, queue="other"), owner=BOB)
    assert started(sim) == [1, 3]
    assert why(sim, 2) == ["limit: queue 'default' has 768.0MiB of 1.0GiB memory, 768.0MiB wanted"]


def test_a_frozen_job_counts_only_while_it_keeps_its_cpus() -> None:
    sim = a_simulation(per_user=Limits(jobs=1))
    submit(sim, ALICE, ALICE)
    assert started(sim) == [1]
    sim.happen(ev.PauseRequested(1, "owner", keep_cpus=True))
    sim.settle()
    assert started(sim) == []
    sim.happen(ev.PauseRequested(1, "operator"))
    assert started(sim) == [2]


def test_a_drained_queue_takes_jobs_and_starts_none() -> None:
    sim = a_simulation(Queue(state="drained"), Queue("other"))
    submit(sim, ALICE)
    submit(sim, ALICE, queue="other")
    assert started(sim) == [2]
    assert why(sim, 1) == ["queue 'default' is drained"]
    sim.world.set_policy(Policy())
    assert started(sim) == [1]


def test_a_queue_that_is_gone_starts_nothing() -> None:
    sim = a_simulation(Queue(), Queue("other"))
    submit(sim, ALICE, queue="other")
    sim.world.set_policy(Policy())
    assert started(sim) == []
    assert why(sim, 1) == ["there is no queue 'other' any more"]


def test_outside_its_hours_a_queue_starts_nothing_and_wakes_by_itself() -> None:
    sim = a_simulation(windows=(Window((3,), 60, 120),))  # Thursdays; 1970 began on one
    sim.world.tick(sim.now)
    submit(sim, ALICE)
    assert started(sim) == []
    assert why(sim, 1) == ["queue 'default' is outside its hours"]
    assert sim.world.next_change() == 3600.0
    sim.tick(2600.0)
    assert started(sim) == [1]


def test_points_of_a_queue_and_of_a_share_are_hours_of_waiting() -> None:
    sim = a_simulation(Queue(), Queue("fast", points=10))
    submit(sim, ALICE, BOB, cpus=8)
    submit(sim, BOB, cpus=8, queue="fast")
    order = [started(sim)]
    sim.world.shares.used[("alice", "alice")] = Used(1000.0, sim.now)
    sim.world.step_shares()
    sim.report(3, "exited")
    order.append(started(sim))
    assert order == [[3], [2]]
