"""What the world keeps of a job, and for how long."""

from __future__ import annotations

from scheduler.capacity import Ledger
from scheduler.world import World
from tests.builders import MIB, History, a_capacity, a_job
from tests.fakes.simulation import Simulation


def test_a_job_is_forgotten_when_it_is_final_and_cleaned_up() -> None:
    sim = Simulation(a_capacity())
    job = sim.submit(a_job())
    assert list(sim.world.live) == [job] and not sim.world.active
    sim.round()
    assert list(sim.world.active) == [job] and not sim.world.queue
    sim.report(job, "started")
    sim.report(job, "exited")
    assert list(sim.world.live) == [job] and not sim.world.active, "its clean-up is still to come"
    assert not sim.world.ledger.holds, "its CPUs are free as soon as its processes are gone"
    sim.report(job, "cleaned")
    assert sim.world == World.of(sim.capacity)


def test_what_is_held_when_all_running_jobs_have_ended() -> None:
    frozen = History(1).placed(0).started().paused().frozen(resident=MIB)
    running = History(2).placed(1).started()
    world = World.of(a_capacity(), [frozen.record, running.record])
    assert set(world.ledger.holds) == {1, 2}
    assert set(world.frozen_only().holds) == {1}
    assert world.ledger != Ledger(world.capacity), "looking changed nothing"
