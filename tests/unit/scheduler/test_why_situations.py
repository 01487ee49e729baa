"""`jobs why` in situations that people meet. The texts are those of docs/howto/why.md: one source for both."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import events as ev
from jobs.events import Owner
from jobs.policy import Limits, Policy, Queue, Reservation
from jobs.render import Look
from jobs.render_blame import page as blame_page
from jobs.render_why import page
from jobs.spec import Depends, Moment
from scheduler.api.access import Access
from scheduler.api.why_views import blame_view, why_view
from scheduler.blame import Blame
from scheduler.explain import Asked, answer, answer_if, best, cheapest
from tests.builders import ALICE, BOB, GIB, MIB, a_capacity, a_job, licences
from tests.fakes.simulation import Simulation
from tests.fakes.story import Story

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "why.md"
NOW = 1780304400.0  # 2026-06-01 09:00 UTC
ROOT = Owner(0, 0, name="root")
Situation = Callable[[], tuple[Simulation, int]]
SITUATIONS: dict[str, Situation] = {}


def situation(title: str) -> Callable[[Situation], Situation]:
    def keep(make: Situation) -> Situation:
        SITUATIONS[title] = make
        return make

    return keep


def a_site(policy: Policy | None = None, **host: Any) -> Simulation:
    return Simulation(a_capacity(**{"cpus_per_node": 4, "memory_per_node": 8 * GIB, **host}), policy, now=NOW)


def running(sim: Simulation, **spec: Any) -> int:
    job = sim.submit(a_job(**spec))
    sim.round()
    sim.settle()
    return job


def told(sim: Simulation, job: int, *, to: Owner = ROOT) -> str:
    sim.world.tick(sim.now)
    record = sim.records[job]
    found = answer(sim.world, record, sim.now)
    changes = [each for each in cheapest(sim.world, record, found.explanation, sim.now) if each is not None]
    why = why_view(found.with_changes(best(changes)), to, Access())
    return page(why, Look(now=sim.now))


def texts_in_docs() -> dict[str, str]:
    found = re.findall(r"^## (.+?)\n(?:(?!^## ).)*?```text\n(.*?)\n```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


# ── the situations ──────────────────────────────────────────────────────────────────────────────────────────────────


@situation("More CPUs than this host has")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    return sim, sim.submit(a_job(cpus=8, name="train"))


@situation("No CPU is free now")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    running(sim, cpus=3, name="sim", time_limit_s=2400)
    return sim, sim.submit(a_job(cpus=2, name="train"))


@situation("No memory on one node")
def _() -> tuple[Simulation, int]:
    sim = a_site(nodes=2)
    running(sim, cpus=1, memory=5 * GIB, numa=(0,), name="base", time_limit_s=3600)
    return sim, sim.submit(a_job(cpus=2, memory=4 * GIB, numa=(0,), name="train"))


@situation("Huge pages")
def _() -> tuple[Simulation, int]:
    sim = a_site(hugepages=((2 * MIB, 64),))
    running(sim, cpus=1, hugepages=((2 * MIB, 48),), name="base")
    return sim, sim.submit(a_job(cpus=1, hugepages=((2 * MIB, 32),), name="train"))


@situation("All licences are taken")
def _() -> tuple[Simulation, int]:
    sim = a_site(generic=[licences(2)])
    for name in ("mesh", "solve"):
        running(sim, cpus=1, generic={"licence": 1}, name=name, time_limit_s=1800)
    return sim, sim.submit(a_job(cpus=1, generic={"licence": 1}, name="train"))


@situation("A user's limit in a queue")
def _() -> tuple[Simulation, int]:
    sim = a_site(Policy(queues=(Queue(per_user=Limits(cpus=2)),)))
    running(sim, cpus=1, name="first", time_limit_s=600)
    running(sim, cpus=1, name="second", time_limit_s=900)
    return sim, sim.submit(a_job(cpus=1, name="third"))


@situation("The queue is closed")
def _() -> tuple[Simulation, int]:
    sim = a_site(Policy(queues=(Queue(), Queue("night", state="drained"))))
    return sim, sim.submit(a_job(cpus=1, queue="night", name="train"))


@situation("It waits for another job")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    before = running(sim, cpus=1, name="prepare", time_limit_s=900)
    return sim, sim.submit(a_job(cpus=1, name="train"), needs=[("afterok", before)])


@situation("What it waits for can never hold")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    before = running(sim, cpus=1, name="prepare")
    job = sim.submit(a_job(cpus=1, name="train", depends=Depends(on_never="wait")), needs=[("afterok", before)])
    sim.report(before, "exited", status=1)
    sim.report(before, "cleaned")
    return sim, job


@situation("It may not begin yet")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    return sim, sim.submit(a_job(cpus=1, name="train", begin=Moment(after_s=5400)))


@situation("Somebody who waits longer has room kept")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    running(sim, cpus=3, name="sim", time_limit_s=3600)
    sim.submit(a_job(cpus=4, name="big", time_limit_s=3600), owner=BOB)
    sim.tick(1)
    return sim, sim.submit(a_job(cpus=1, name="train", time_limit_s=7200))


@situation("CPUs are reserved")
def _() -> tuple[Simulation, int]:
    sim = a_site(Policy(reservations=(Reservation("maintenance", NOW + 1800, 7200),)))
    return sim, sim.submit(a_job(cpus=1, name="train", time_limit_s=3600))


@situation("An operator holds it")
def _() -> tuple[Simulation, int]:
    sim = a_site()
    job = sim.submit(a_job(cpus=1, name="train"))
    sim.happen(ev.PauseRequested(job, "operator"))
    return sim, job


# ── what the page says is what is said ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are told in the zone of the host."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("title", SITUATIONS)
def test_the_page_shows_what_is_printed(title: str) -> None:
    sim, job = SITUATIONS[title]()
    assert told(sim, job) == texts_in_docs()[title]


def a_story() -> tuple[Story, int, float]:
    """A job that waited for two others, one after the other, and a time in between."""
    story = Story(now=NOW)
    first = story.submit(a_job(cpus=4, name="sim", time_limit_s=3600))
    story.go_on()
    job = story.submit(a_job(cpus=4, name="train"), hold=True)
    story.tick(300)
    story.happen(ev.HoldReleased(job, "owner"))
    story.tick(1200)
    then = story.now - 60
    urgent = story.submit(a_job(cpus=4, name="demo", priority=90), owner=BOB)
    story.ends(first)
    story.go_on()
    story.tick(600)
    story.ends(urgent)
    story.go_on()
    return story, job, then


def test_the_page_shows_who_delayed_it() -> None:
    story, job, _ = a_story()
    blaming = story.blame(job)
    parts = blaming.parts()
    blame = Blame(story.records[job], story.now, sum(part.seconds for part in parts), parts)
    shown = blame_page(blame_view(blame, story.records, ALICE, Access()), Look(now=story.now))
    assert shown == texts_in_docs()["Who delayed it"]


def test_the_page_shows_the_past() -> None:
    story, job, then = a_story()
    past = story.past(then)
    world, record = past.open(then), past.record(job)
    assert world is not None and record is not None
    why = why_view(answer(world, record, then), ALICE, Access(), past=True)
    assert page(why, Look(now=story.now)) == texts_in_docs()["Why it did not run then"]


def test_the_page_shows_nothing_else() -> None:
    assert sorted(texts_in_docs()) == sorted([*SITUATIONS, "Who delayed it", "Why it did not run then"])


def test_a_change_of_urgency_counts_on_freezing_where_the_queue_does_so() -> None:
    for preempt, would in (("freeze", "start as soon as others are frozen for it"), ("never", "not start now")):
        sim = a_site(Policy(queues=(Queue(preempt=preempt),)))
        running(sim, cpus=4, name="sim", time_limit_s=7200)
        sim.tick(3600)
        job = sim.submit(a_job(cpus=4, name="train"))
        told_now = told(sim, job)
        found = answer_if(sim.world, sim.records[job], Asked(urgency=90), sim.now)
        shown = page(why_view(found, ROOT, Access()), Look(now=sim.now), supposed=True)
        assert shown.startswith(f"job 2 (train) would {would}\n")
        assert ("jobs priority --urgency 51 2; that freezes job 1" in told_now) == (preempt == "freeze")


def test_jobs_of_others_are_told_by_their_ids_alone() -> None:
    sim = a_site()
    sim.submit(a_job(cpus=4, name="secret", time_limit_s=60), owner=BOB)
    sim.round()
    sim.settle()
    job = sim.submit(a_job(cpus=1))
    assert "job 1 (secret, running" in told(sim, job)
    assert "job 1 (running" in told(sim, job, to=ALICE) and "secret" not in told(sim, job, to=ALICE)
