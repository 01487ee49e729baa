"""Who delayed a job: the journal's entries told one by one; the parts sum to the wait."""

from __future__ import annotations

import pytest

from jobs import events as ev
from jobs.policy import Limits, Policy, Queue
from jobs.record import State
from jobs.spec import Moment
from tests.builders import ALICE, BOB, a_job
from tests.fakes.story import Story, daemon_started


def test_who_had_the_cpus_one_after_the_other() -> None:
    story = Story()
    first = story.submit(a_job(cpus=4), owner=BOB)
    story.go_on()
    second = story.submit(a_job(cpus=3, priority=90), owner=BOB)
    third = story.submit(a_job(cpus=1, priority=90, time_limit_s=10), owner=BOB)
    story.tick(5)
    job = story.submit(a_job(cpus=4))
    story.tick(60)
    story.ends(first)
    story.go_on()
    story.tick(30)
    story.ends(third)
    story.go_on(10)
    story.ends(second)
    story.go_on()
    assert story.records[job].state is State.RUNNING
    assert story.told(job) == {("cpus", first): 60.0, ("cpus", second): 25.0, ("cpus", third): 15.0}


def test_a_hold_a_begin_and_a_dependency_are_told_as_such() -> None:
    story = Story()
    before = story.submit(a_job(cpus=1))
    story.go_on()
    job = story.submit(a_job(begin=Moment(after_s=100)), needs=[("afterok", before)], hold=True)
    story.tick(20)
    story.happen(ev.HoldReleased(job, "owner"))
    story.tick(200)
    story.ends(before)
    story.go_on()
    assert story.told(job) == {("held", 0): 20.0, ("begin", 0): 80.0, ("dependency", before): 120.0}


def test_limits_and_closed_queues() -> None:
    story = Story(Policy(queues=(Queue(per_user=Limits(jobs=1)),)))
    first = story.submit(a_job())
    story.go_on()
    job = story.submit(a_job())
    story.go_on(10)
    story.change(ev.QueueChanged(0, "default", "drained", story.now))
    story.go_on(5)
    story.ends(first)
    story.go_on(7)
    story.change(ev.QueueChanged(0, "default", "open", story.now))
    story.go_on()
    assert story.records[job].state is State.RUNNING
    assert story.told(job) == {("limit:jobs", 0): 10.0, ("queue", 0): 12.0}


def test_frozen_for_a_more_urgent_one_counts_as_waiting() -> None:
    story = Story()
    job = story.submit(a_job(cpus=4, priority=10))
    story.go_on()
    story.tick(3600)
    urgent = story.submit(a_job(cpus=4, priority=90), owner=BOB)
    story.go_on()
    story.go_on()
    assert (story.records[job].state, story.records[urgent].state) == (State.FROZEN, State.RUNNING)
    story.tick(50)
    story.ends(urgent)
    story.go_on()
    assert story.records[job].state is State.RUNNING
    assert story.told(job) == {("cpus", urgent): 50.0}


def test_room_that_no_daemon_saw() -> None:
    story = Story()
    first = story.submit(a_job(cpus=4))
    story.go_on()
    job = story.submit(a_job(cpus=4))
    story.tick(10)
    story.ends(first)
    story.tick(300)
    story.journal.append((story.now, [daemon_started(story.now)]))
    story.go_on()
    blaming = story.blame(job)
    told = {(part.cause, part.job): part.seconds for part in blaming.parts()}
    assert told == {("cpus", first): 10, ("daemon", 0): 300}
    assert blaming.restarts == [story.now]


def test_what_is_not_known_is_said() -> None:
    story = Story()
    del story.journal[0]
    first = story.submit(a_job(cpus=4))
    story.go_on()
    job = story.submit(a_job(cpus=4))
    story.tick(10)
    story.journal.append((story.now, [daemon_started(story.now)]))
    story.tick(20)
    assert story.told(job) == {("unknown", 0): 10, ("cpus", first): 20}


@pytest.mark.parametrize("every", [1, 7])
def test_the_parts_sum_to_the_wait(every: int) -> None:
    story = Story()
    for number in range(40):
        story.submit(a_job(cpus=1 + number % 4, priority=number * 7 % 100), owner=(ALICE, BOB)[number % 2])
        story.go_on(3.0)
        running = [each for each, record in story.records.items() if record.state is State.RUNNING]
        if number % 3 == 0 and running:
            story.ends(running[0])
    for job, record in story.records.items():
        waits = (record.started_at or story.now) - record.submitted_at
        if not record.freezes:
            assert sum(story.told(job, every=every).values()) == pytest.approx(waits)
            assert all(cause != "unknown" for cause, _ in story.told(job))


def test_the_world_of_the_past_is_the_one_that_was() -> None:
    story = Story(Policy(queues=(Queue(), Queue("night"))))
    for number in range(12):
        story.submit(a_job(cpus=1 + number % 3, queue=("default", "night")[number % 2]))
        story.go_on(2.0)
        if number % 4 == 3:
            story.ends(min(story.world.active))
    world = story.past(story.now).open(story.now)
    assert world is not None
    for each in (world, story.world):
        each.tick(story.now)
        each.step_shares()  # standings are brought up to date in steps of their own
    assert world == story.world
