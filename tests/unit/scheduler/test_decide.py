"""One round, by example: what is done first, who may pass whom, and what a job hears that has to wait."""

from __future__ import annotations

from typing import Any

from jobs import events as ev
from jobs.record import State
from jobs.verdict import Going, Never, NotNow, Reason
from scheduler.actions import Action, Freeze, Place, Reprioritise, Start, Stop, ThawPlace
from scheduler.decide import clock_points
from tests.builders import GIB, MIB, a_capacity, a_job
from tests.fakes.simulation import Simulation


def a_simulation(**host: Any) -> Simulation:
    return Simulation(a_capacity(**host))


def running(sim: Simulation, **spec: Any) -> int:
    """A job that was placed at once and runs."""
    job = sim.submit(a_job(**spec))
    sim.round()
    assert sim.report(job, "started"), sim.records[job]
    return job


def frozen(sim: Simulation, *, resident: int = MIB, keep: bool = False, **spec: Any) -> int:
    job = running(sim, **spec)
    sim.happen(ev.PauseRequested(job, "owner", keep))
    sim.report(job, "frozen", resident=resident)
    return job


def decided(sim: Simulation) -> list[tuple[str, int]]:
    return [(type(action).__name__, action.job) for action in sim.decide().actions]


def the(sim: Simulation, kind: type[Action]) -> Action:
    (action,) = (action for action in sim.decide().actions if isinstance(action, kind))
    return action


# ── new jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_urgency_then_submit_order() -> None:
    sim = a_simulation(cpus_per_node=8)
    for urgency in (10, 90, 50, 90):
        sim.submit(a_job(priority=urgency))
    assert decided(sim) == [("Place", 2), ("Place", 4), ("Place", 3), ("Place", 1)]


def test_a_changed_urgency_changes_the_order() -> None:
    sim = a_simulation()
    for _ in range(2):
        sim.submit(a_job())
    sim.happen(ev.PriorityChanged(2, urgency=51))
    assert decided(sim) == [("Place", 2), ("Place", 1)]


def test_age_is_uncapped() -> None:
    sim = a_simulation(cpus_per_node=1)
    sim.submit(a_job(priority=0))
    sim.tick(101 * 3600)
    sim.submit(a_job(priority=100))
    assert decided(sim) == [("Place", 1)]


def test_who_will_have_ended_by_the_heads_time_passes_it() -> None:
    sim = a_simulation(cpus_per_node=4)
    first = running(sim, cpus=3, time_limit_s=600)
    big = sim.submit(a_job(cpus=4))
    short, long = sim.submit(a_job(cpus=1, time_limit_s=500)), sim.submit(a_job(cpus=1, time_limit_s=700))
    assert decided(sim) == [("Place", short)]
    assert sim.decide().expected_start(big) == sim.now + 600
    sim.tick(200)
    assert decided(sim) == [], "it would end too late now"
    verdict = sim.decide().verdict(sim.records[long])
    assert isinstance(verdict, NotNow)
    assert [reason.dimension for reason in verdict.reasons] == ["order"]
    assert verdict.reasons[-1].blockers == (big,)
    sim.report(first, "exited")
    assert decided(sim) == [("Place", big)]


def test_nothing_is_kept_for_a_job_that_waits_for_a_frozen_one() -> None:
    """Who holds a job frozen may hold it for ever; the CPUs would idle as long."""
    sim = a_simulation(cpus_per_node=4, memory_per_node=8 * GIB)
    frozen(sim, memory=7 * GIB, resident=7 * GIB)
    sim.submit(a_job(cpus=4, memory=2 * GIB))
    small = sim.submit(a_job(cpus=1, memory=GIB))
    assert decided(sim) == [("Place", small)]


def test_nothing_is_kept_for_a_job_that_waits_for_a_port() -> None:
    sim = a_simulation()
    first = running(sim, publish=[8080])
    waits = sim.submit(a_job(publish=[8080]))
    other = sim.submit(a_job(publish=[8081]))
    assert decided(sim) == [("Place", other)]
    verdict = sim.decide().verdict(sim.records[waits])
    assert isinstance(verdict, NotNow)
    assert (verdict.reasons[0].dimension, verdict.reasons[0].blockers) == ("port:8080/tcp", (first,))
    sim.report(first, "exited")
    assert ("Place", waits) not in decided(sim), "the port is the old job's until it is cleaned up"
    sim.report(first, "cleaned")
    assert ("Place", waits) in decided(sim)


def test_two_jobs_of_one_round_do_not_share_a_port() -> None:
    sim = a_simulation()
    for _ in range(2):
        sim.submit(a_job(publish=[8080]))
    assert decided(sim) == [("Place", 1)]


def test_no_more_jobs_than_the_setting_allows_frozen_ones_counted() -> None:
    sim = Simulation(a_capacity(cpus_per_node=8, max_jobs=2))
    frozen(sim)
    for _ in range(2):
        sim.submit(a_job())
    assert decided(sim) == [("Place", 2)]
    verdict = sim.decide().verdict(sim.records[3])
    assert isinstance(verdict, NotNow) and verdict.reasons[0].dimension == "jobs"


def test_verdicts_name_the_short_dimension_and_who_has_it() -> None:
    sim = a_simulation(cpus_per_node=4, memory_per_node=4 * GIB)
    one = running(sim, cpus=2, memory=GIB)
    for spec in (a_job(cpus=3), a_job(memory=4 * GIB), a_job(cpus=5), a_job(memory=5 * GIB), a_job(numa=(3,))):
        sim.submit(spec)
    decision = sim.decide()
    cpus, memory, never, no_memory, no_node = (decision.verdict(sim.records[job]) for job in range(2, 7))
    assert isinstance(cpus, NotNow) and isinstance(memory, NotNow)
    assert [str(reason) for reason in cpus.reasons] == ["cpus: 3 wanted, 2 free, held by job 1"]
    assert [str(reason) for reason in memory.reasons] == ["memory: 4.0GiB wanted, 3.0GiB free, held by job 1"]
    assert cpus.reasons[0].blockers == (one,)
    assert never == Never("resources.cpus: 5 wanted, this host has 4")
    assert no_memory == Never("resources.memory: 5.0GiB wanted, this host can give 4.0GiB")
    assert no_node == Never("placement.numa: this host has no memory node 3; it has 0")


def test_a_held_job_says_who_holds_it() -> None:
    sim = a_simulation()
    job = sim.submit(a_job(), hold=True)
    assert decided(sim) == []
    assert sim.decide().verdict(sim.records[job]) == NotNow((Reason("held", 1, 0, detail="held by its owner"),))


def test_new_weights_of_a_frozen_job_do_not_hide_who_holds_it() -> None:
    sim = a_simulation()
    job = frozen(sim)
    sim.happen(ev.PriorityChanged(job, cpu_weight=300))
    assert sim.decide().verdict(sim.records[job]) == NotNow((Reason("held", 1, 0, detail="held by its owner"),))


def test_jobs_of_one_shape_share_a_verdict() -> None:
    sim = a_simulation(cpus_per_node=2)
    for _ in range(5):
        sim.submit(a_job())
    decision = sim.decide()
    assert [action.job for action in decision.actions] == [1, 2]
    assert decision.verdict(sim.records[1]) == Going("Place")
    assert len({decision.verdict(sim.records[job]) for job in (3, 4, 5)}) == 1


# ── jobs on the node ────────────────────────────────────────────────────────────────────────────────────────────────


def test_marks_become_verbs() -> None:
    sim = a_simulation()
    job = sim.submit(a_job())
    sim.round()
    assert decided(sim) == [("Start", job)]
    sim.report(job, "started")
    assert decided(sim) == []
    sim.happen(ev.PriorityChanged(job, cpu_weight=7))
    assert isinstance(the(sim, Reprioritise), Reprioritise)
    sim.happen(ev.PauseRequested(job, "owner"))
    assert isinstance(the(sim, Freeze), Freeze)
    sim.report(job, "frozen", resident=MIB)
    assert decided(sim) == [("Reprioritise", job)]
    sim.happen(ev.ResumeRequested(job, "owner"))
    sim.round()
    assert sim.records[job].state is State.THAWING
    assert decided(sim) == [("Thaw", job), ("Reprioritise", job)]
    sim.report(job, "thawed")
    sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 0.0))
    assert decided(sim) == [("Stop", job)]


def test_a_cancel_beats_a_pause() -> None:
    sim = a_simulation()
    job = running(sim)
    sim.happen(ev.PauseRequested(job, "operator"))
    sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 0.0))
    assert decided(sim) == [("Stop", job)]


def test_the_time_limit_is_running_time() -> None:
    sim = a_simulation()
    job = running(sim, time_limit_s=60.0)
    sim.tick(59)
    assert decided(sim) == [] and clock_points(sim.records[job]) == (60.0,)
    sim.tick(1)
    assert decided(sim) == [("TimeUp", job)]
    sim.round()
    assert decided(sim) == [("Stop", job)] and clock_points(sim.records[job]) == ()


def test_a_frozen_jobs_clock_stands_still() -> None:
    sim = a_simulation()
    job = frozen(sim, time_limit_s=60.0)
    sim.tick(1000)
    assert decided(sim) == [] and clock_points(sim.records[job]) == ()
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert isinstance(the(sim, ThawPlace), ThawPlace)


# ── coming back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_thaw_has_its_place_in_the_order_of_priority_and_comes_first_among_equals() -> None:
    sim = a_simulation(cpus_per_node=2)
    job = frozen(sim, cpus=2, priority=10)
    sim.submit(a_job(cpus=2, priority=10))
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert decided(sim) == [("ThawPlace", job)]
    urgent = sim.submit(a_job(cpus=2, priority=11))
    assert decided(sim) == [("Place", urgent)]


def test_a_thaw_may_be_elsewhere_but_rather_at_home() -> None:
    sim = a_simulation(nodes=2, cpus_per_node=2)
    job = frozen(sim, cpus=2)
    home = sim.records[job].home
    assert home is not None and home.mems == (0,)
    sim.happen(ev.ResumeRequested(job, "owner"))
    action = the(sim, ThawPlace)
    assert isinstance(action, ThawPlace) and action.placement.cpus == (0, 1)
    sim.happen(ev.PauseRequested(job, "owner"))
    other = running(sim, cpus=1)
    taken = sim.records[other].placement
    assert taken is not None and taken.cpus == (0,)
    sim.happen(ev.ResumeRequested(job, "owner"))
    action = the(sim, ThawPlace)
    assert isinstance(action, ThawPlace) and (action.placement.cpus, action.placement.mems) == ((2, 3), (1,))


def test_huge_pages_pin_a_frozen_job_to_its_nodes() -> None:
    sim = a_simulation(nodes=2, cpus_per_node=1, hugepages=[(2 * MIB, 4)])
    job = frozen(sim, hugepages=[(2 * MIB, 4)])
    running(sim)
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert decided(sim) == [], "node 1 is free, but its pages are on node 0"


def test_kept_cpus_are_nobody_elses() -> None:
    sim = a_simulation(cpus_per_node=2)
    job = frozen(sim, cpus=2, keep=True)
    sim.submit(a_job())
    assert decided(sim) == []
    sim.happen(ev.ResumeRequested(job, "owner"))
    action = the(sim, ThawPlace)
    assert isinstance(action, ThawPlace) and action.placement == sim.records[job].placement


def test_kept_cpus_are_not_enough_when_the_memory_is_gone() -> None:
    sim = a_simulation(cpus_per_node=4, memory_per_node=8 * GIB)
    job = frozen(sim, memory=4 * GIB, keep=True)
    other = frozen(sim, memory=4 * GIB)
    third = running(sim, memory=3 * GIB)  # the headroom is for one of the two, not for both
    sim.happen(ev.ResumeRequested(other, "owner"))
    sim.round()
    assert sim.records[other].state is State.THAWING
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert ("ThawPlace", job) not in decided(sim)
    verdict = sim.decide().verdict(sim.records[job])
    assert isinstance(verdict, NotNow) and verdict.reasons[0].dimension == "memory"
    sim.report(third, "exited")
    assert ("ThawPlace", job) in decided(sim)


def test_a_frozen_job_may_use_the_headroom_of_another() -> None:
    sim = a_simulation(cpus_per_node=4, memory_per_node=8 * GIB)
    one = frozen(sim, memory=5 * GIB, resident=GIB)
    two = frozen(sim, memory=3 * GIB, resident=2 * GIB)
    three = frozen(sim, memory=GIB, resident=GIB)
    sim.happen(ev.ResumeRequested(one, "owner"))
    assert ("ThawPlace", one) in decided(sim), "5 + 2 + 1 GiB"
    sim.happen(ev.ResumeRequested(two, "owner"))
    assert decided(sim) == [("ThawPlace", one)], "the older one first; not both"
    assert sim.records[three].state is State.FROZEN


def test_what_waits_to_come_back_keeps_what_is_free_from_newcomers() -> None:
    sim = a_simulation(cpus_per_node=4)
    job = frozen(sim, cpus=3)
    other = running(sim, cpus=2)
    sim.happen(ev.ResumeRequested(job, "owner"))
    sim.tick(1)
    sim.submit(a_job(cpus=1))
    new = sim.submit(a_job(cpus=1))
    assert decided(sim) == [("Place", 3)], "one of the two that will be free then"
    decision = sim.decide()
    waits, late = decision.verdict(sim.records[job]), decision.verdict(sim.records[new])
    assert isinstance(waits, NotNow) and waits.reasons[0].blockers == (other, 3)
    assert isinstance(late, NotNow) and late.reasons[-1].blockers == (job,)


def test_new_work_never_takes_the_memory_that_a_frozen_job_needs_to_come_back() -> None:
    sim = a_simulation(cpus_per_node=4, memory_per_node=8 * GIB)
    job = frozen(sim, memory=6 * GIB, resident=GIB)
    sim.submit(a_job(memory=3 * GIB))
    assert decided(sim) == [], "1 GiB is resident, 5 more may come again, so 2 GiB are left"
    sim.submit(a_job(memory=2 * GIB))
    assert decided(sim) == [("Place", 3)]
    sim.round()
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert ("ThawPlace", job) in decided(sim)


def test_a_cancelled_frozen_job_is_thawed_for_its_signal_when_there_is_room() -> None:
    sim = a_simulation(cpus_per_node=2)
    job = frozen(sim, cpus=2)
    sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 0.0))
    assert decided(sim) == [("ThawPlace", job)]
    sim.round()
    assert decided(sim) == [("Thaw", job), ("Stop", job)]


def test_and_stopped_as_it_is_when_there_is_none() -> None:
    sim = a_simulation(cpus_per_node=2)
    job = frozen(sim, cpus=2)
    running(sim)
    sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 0.0))
    assert decided(sim) == [("Stop", job)]


def test_a_frozen_jobs_port_stays_its_own_while_it_comes_back() -> None:
    sim = a_simulation()
    job = frozen(sim, publish=[8080])
    sim.submit(a_job(publish=[8080]))
    sim.happen(ev.ResumeRequested(job, "owner"))
    assert decided(sim) == [("ThawPlace", job)]


def test_actions_carry_the_version_they_were_decided_on() -> None:
    sim = a_simulation()
    job = sim.submit(a_job())
    for kind in (Place, Start):
        assert the(sim, kind).version == sim.records[job].version
        sim.round()
    sim.report(job, "started")
    sim.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 0.0))
    assert the(sim, Stop) == Stop(job, sim.records[job].version)
    assert the(sim, Stop) != Freeze(job, sim.records[job].version)
