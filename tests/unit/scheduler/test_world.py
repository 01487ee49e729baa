"""What the world keeps of a job, and for how long."""

from __future__ import annotations

from jobs import events as ev
from scheduler.world import World
from tests.builders import MIB, History, a_capacity, a_job
from tests.fakes.simulation import Simulation


def test_a_job_is_forgotten_when_it_is_final_and_cleaned_up() -> None:
    sim = Simulation(a_capacity())
    job = sim.submit(a_job())
    assert list(sim.world.live) == [job] and not sim.world.active
    sim.round()
    assert list(sim.world.active) == [job] and not len(sim.world.lines)
    sim.report(job, "started")
    sim.report(job, "exited")
    assert list(sim.world.live) == [job] and not sim.world.active, "its clean-up is still to come"
    assert not sim.world.ledger.holds, "its CPUs are free as soon as its processes are gone"
    sim.report(job, "cleaned")
    assert sim.world == World.of(sim.capacity)


def test_only_what_asks_for_something_is_looked_at_in_a_round() -> None:
    frozen = History(1).placed(0).started().paused().frozen(resident=MIB)
    running, limited = History(2).placed(1).started(at=90.0), History(3, time_limit_s=60.0).placed(2).started(at=90.0)
    starting = History(4).placed(3)
    world = World.of(a_capacity(), [each.record for each in (frozen, running, limited, starting)], now=100.0)
    assert set(world.asking) == {1, 4}
    assert (set(world.frozen), set(world.limited)) == ({1}, {3})
    assert world.ends == [(150.0, 3), (3690.0, 2)], "the limit, else the queue's estimate"


def test_an_estimate_that_was_outlived_is_doubled() -> None:
    running = History(1, time_limit_s=60.0).placed(0).started(at=100.0)
    world = World.of(a_capacity(), [running.record], now=100.0)
    seen = []
    for now in (159.0, 160.0, 219.0, 220.0, 500.0):
        world.tick(now)
        seen.append(world.ends[0][0])
    assert seen == [160.0, 220.0, 220.0, 340.0, 580.0]
    assert world == World.of(a_capacity(), [running.record], now=500.0)


def test_frozen_time_does_not_count_for_an_estimate() -> None:
    history = History(1, time_limit_s=60.0).placed(0).started(at=100.0).paused().frozen(ran_s=50.0)
    world = World.of(a_capacity(), [history.record], now=1000.0)
    assert world.ends == []
    thawed = history.resumed().thaw_placed(0).then(ev.Thawed(1, "1.0.1", 0.001, 1000.0)).record
    world = World.of(a_capacity(), [thawed], now=1000.0)
    assert world.ends == [(1010.0, 1)]
