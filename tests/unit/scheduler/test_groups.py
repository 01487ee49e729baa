"""Jobs that are frozen and thawed together, by example: who belongs to whom, and what a torn group leads to."""

from __future__ import annotations

from typing import Any

from jobs import events as ev
from jobs.events import Owner
from jobs.policy import Policy, Preemption, Queue
from jobs.record import State
from jobs.verdict import NotNow
from scheduler.actions import Preempt, ThawPlace
from tests.builders import ALICE, BOB, MIB, a_capacity, a_job
from tests.fakes.simulation import Simulation

REST_S = 10.0


def full_of(*specs: dict[str, Any], cpus: int = 2, owner: Owner = ALICE) -> Simulation:
    """All run and have run for long."""
    queues = Queue(), Queue("safe", preemptible=False)
    sim = Simulation(a_capacity(cpus_per_node=cpus), Policy(queues, preemption=Preemption(least_run_s=REST_S)))
    for spec in specs:
        sim.submit(a_job(memory=MIB, **{"priority": 10, "freeze_with": "pair", **spec}), owner=owner)
    sim.round()
    sim.settle()
    assert all(record.state is State.RUNNING for record in sim.records.values())
    sim.tick(3600.0)
    return sim


def urgent(sim: Simulation, **spec: Any) -> int:
    return sim.submit(a_job(memory=MIB, **{"priority": 90, **spec}))


def preempted(sim: Simulation) -> list[int]:
    return sorted(action.job for action in sim.round().actions if isinstance(action, Preempt))


def test_all_for_one_cpu() -> None:
    sim = full_of({}, {})
    urgent(sim)
    assert preempted(sim) == [1, 2]


def test_others_are_asked_first_if_that_freezes_fewer_urgent_ones() -> None:
    sim = full_of({}, {"priority": 30}, {"freeze_with": "", "priority": 20}, cpus=3)
    urgent(sim)
    assert preempted(sim) == [3], "the pair is as urgent as the more urgent of the two"


def test_one_that_may_not_be_frozen_protects_the_others() -> None:
    for protected in ({"queue": "safe"}, {"priority": 90}):
        sim = full_of({}, protected)
        urgent(sim)
        assert preempted(sim) == []


def test_the_same_name_of_another_user_is_another_group() -> None:
    sim = full_of({}, cpus=2)
    other = sim.submit(a_job(memory=MIB, priority=5, freeze_with="pair"), owner=BOB)
    sim.round()
    sim.settle()
    sim.tick(3600.0)
    urgent(sim)
    assert preempted(sim) == [other]


def test_nobody_is_frozen_for_one_of_its_own_group() -> None:
    sim = full_of({}, {})
    urgent(sim, freeze_with="pair")
    assert preempted(sim) == []


def standing_still(sim: Simulation) -> int:
    head = urgent(sim)
    sim.round()
    sim.settle()
    sim.round()
    sim.settle()
    assert [sim.records[job].state for job in (1, 2, head)] == [State.FROZEN, State.FROZEN, State.RUNNING]
    return head


def test_they_come_back_together_or_not_at_all() -> None:
    sim = full_of({}, {})
    head = standing_still(sim)
    verdicts = [sim.decide().verdict(sim.records[job]) for job in (1, 2)]
    details = [verdict.reasons[0].detail for verdict in verdicts if isinstance(verdict, NotNow)]
    assert details == ["all of 'pair' (freeze_with) come back at once: 2 CPUs wanted, 1 free"] * 2
    sim.report(head, "exited")
    assert sorted(action.job for action in sim.round().actions if isinstance(action, ThawPlace)) == [1, 2]


def test_what_one_of_them_could_have_is_kept_for_it_while_the_other_waits() -> None:
    sim = full_of({}, {})
    standing_still(sim)
    late = sim.submit(a_job(memory=MIB, priority=5, time_limit_s=1e6))
    sim.round()
    assert sim.records[late].state is State.QUEUED, "it would run beyond the end of the urgent one"


def test_one_that_waits_does_not_start_beside_frozen_ones() -> None:
    sim = full_of({}, {})
    standing_still(sim)
    third = sim.submit(a_job(memory=MIB, priority=80, freeze_with="pair"))
    sim.round()
    verdict = sim.decide().verdict(sim.records[third])
    assert isinstance(verdict, NotNow) and verdict.reasons[0].blockers == (1, 2)


def test_a_freeze_that_fails_is_tried_again_after_a_rest() -> None:
    sim = full_of({}, {})
    urgent(sim)
    assert preempted(sim) == [1, 2]
    sim.report(1, "frozen")
    sim.report(2, "freeze_failed")
    assert preempted(sim) == [], "it cannot be frozen now"
    sim.tick(REST_S)
    assert preempted(sim) == [2]


def test_what_was_torn_by_a_crash_is_made_whole() -> None:
    sim = full_of({}, {})
    head = urgent(sim)
    sim.happen(ev.Preempted(1, "1.0.1", head, MIB, sim.now))
    assert preempted(sim) == [2]
    assert sim.records[2].preempted_by == head


def test_who_is_paused_by_its_owner_keeps_nobody_waiting() -> None:
    sim = full_of({}, {})
    head = standing_still(sim)
    sim.happen(ev.PauseRequested(1, "owner"))
    sim.report(head, "exited")
    assert [action.job for action in sim.round().actions if isinstance(action, ThawPlace)] == [2]


def test_what_does_not_fit_at_once_is_no_group() -> None:
    sim = full_of({"cpus": 2})
    sim.happen(ev.PauseRequested(1, "owner"))
    sim.settle()
    second = sim.submit(a_job(cpus=2, memory=MIB, priority=10, freeze_with="pair"))
    sim.round()
    sim.settle()
    assert sim.records[second].state is State.RUNNING
    sim.tick(3600.0)
    head = urgent(sim)
    sim.round()
    sim.settle()
    sim.happen(ev.ResumeRequested(1, "owner"))
    sim.round()
    sim.settle()
    sim.report(head, "exited")
    assert [action.job for action in sim.round().actions if isinstance(action, ThawPlace)] == [1]


def test_the_most_urgent_of_them_says_when_it_is_their_turn() -> None:
    sim = full_of({}, {"priority": 60}, {"freeze_with": "", "priority": 30, "cpus": 2}, cpus=4)
    first = urgent(sim, cpus=4)
    assert preempted(sim) == [1, 2, 3]
    sim.settle()
    sim.round()
    sim.settle()
    urgent(sim, cpus=2)
    sim.report(first, "exited")
    assert sorted(action.job for action in sim.round().actions if isinstance(action, ThawPlace)) == [1, 2]
