"""Huge pages come from the node that the job is on, are nobody else's, and go back to the pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crowd import DEADLINE_S, Crowd, build_tools, client_of, submit
from installation import Installation, wait_for
from kernel_account import free_hugepages
from placement_jobs import HUGE, MIB, Asked

from jobs.protocol import Pause

pytestmark = pytest.mark.needs("root", "numa.4", "cpus.8", "hugepages", "tool.gcc")


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation(reserve_memory=str(256 * MIB)) as running:
        yield running


@pytest.fixture(scope="module")
def tools(site: Installation) -> str:
    return build_tools(site)


@pytest.fixture
def run(site: Installation) -> Crowd:
    return Crowd(site, client_of(site), {})


def start(run: Crowd, tools: str, *asked: Asked) -> list[int]:
    given = submit(run.site, asked, tools)
    run.asked |= given
    wait_for(lambda: all(map(run.ready, given)), DEADLINE_S, run.explain)
    run.look(list(given))
    return list(given)


def paged(name: str, pages: int, numa: str, cpus: float = 1) -> Asked:
    """Takes all the pages that it asks for."""
    return Asked(1, name, cpus, numa, (), mib=pages * HUGE // MIB, hugepages=pages)


def test_pages_come_from_the_node_of_the_job(run: Crowd, tools: str) -> None:
    before = free_hugepages()
    one, two = start(run, tools, paged("huge-2", 4, "[2]"), paged("huge-local", 3, '"local"'))
    (other,) = run.recorded[two].mems
    assert run.seen[one].huge == {2: 4 * HUGE}
    assert run.seen[two].huge == {other: 3 * HUGE}
    taken = {node: before[node] - count for node, count in free_hugepages().items() if count != before[node]}
    assert taken == ({2: 4, other: 3} if other != 2 else {2: 7})
    run.let_go([one, two])
    assert free_hugepages() == before


def test_more_than_one_node_has(run: Crowd, tools: str) -> None:
    """The pages themselves decide how many nodes the job is on."""
    before = free_hugepages()
    most = max(before.values())
    (job,) = start(run, tools, paged("huge-two-nodes", most + 2, '"local"'))
    assert len(run.recorded[job].mems) == 2
    assert set(run.seen[job].huge) == set(run.recorded[job].mems)
    assert sum(run.seen[job].huge.values()) == (most + 2) * HUGE
    run.let_go([job])
    assert free_hugepages() == before


def test_who_asked_for_none_gets_none(run: Crowd, tools: str) -> None:
    """The same program without the key: the mapping is refused, not killed at the first touch."""
    toml = Asked(1, "thief", 1, '"local"', (), mib=2).toml(tools).replace('"2"]', '"2", "huge"]')
    job = run.site.submit(toml)
    assert run.site.wait(job) == 3
    assert "mmap: Cannot allocate memory" in run.site.output(job, "--stderr")


def test_a_paused_job_keeps_its_pages_and_comes_back_to_them(run: Crowd, tools: str) -> None:
    """Huge pages are reserved where they are and can't move: the job waits for CPUs of that node."""
    (job,) = start(run, tools, paged("huge-paused", 4, '"local"', cpus=2))
    (home,) = run.recorded[job].mems
    during = free_hugepages()
    run.client.pause(job, Pause())
    wait_for(lambda: run.client.job(job).state == "frozen", DEADLINE_S, run.explain)
    assert free_hugepages() == during
    (blocker,) = start(run, tools, Asked(1, "huge-blocker", 2, f"[{home}]", ()))
    run.client.resume(job)
    (later,) = start(run, tools, Asked(1, "huge-later", 2, '"any"', ()))
    assert run.client.job(job).state == "frozen", "a round has passed; there is room elsewhere, and it is not for it"
    run.let_go([blocker, later])
    wait_for(lambda: run.client.job(job).state == "running", DEADLINE_S, run.explain)
    run.look([job])
    assert (run.recorded[job].mems, run.seen[job].huge) == ((home,), {home: 4 * HUGE})
    run.let_go([job])
