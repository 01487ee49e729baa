"""A job that gets other CPUs and nodes than it had: threads, pages and policy follow, and the record is true again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crowd import DEADLINE_S, Crowd, build_tools, client_of, submit
from installation import Installation, wait_for
from kernel_account import account, by_node, cpusets_left, groups
from placement_jobs import MIB, SLACK, Asked, even, used

from jobs.client import Client
from jobs.protocol import Pause
from runtime.cgroups import cpuset
from runtime.cgroups.limits import Limits

pytestmark = pytest.mark.needs("root", "cpus.2", "tool.gcc")
SEVERAL_NODES = pytest.mark.needs("numa.4", "cpus.8")


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation(reserve_memory=str(256 * MIB)) as running:
        yield running


@pytest.fixture(scope="module")
def tools(site: Installation) -> str:
    return build_tools(site)


@pytest.fixture
def client(site: Installation) -> Client:
    return client_of(site)


@pytest.fixture
def run(site: Installation, client: Client, tools: str) -> Crowd:
    """Jobs are added to it as a test goes on."""
    return Crowd(site, client, {})


def start(run: Crowd, tools: str, *asked: Asked) -> list[int]:
    """Ids of jobs that run, have touched their memory and were looked at."""
    given = submit(run.site, asked, tools)
    run.asked |= given
    wait_for(lambda: all(map(run.ready, given)), DEADLINE_S, run.explain)
    run.look(list(given))
    return list(given)


def until(run: Crowd, job: int, state: str) -> None:
    wait_for(lambda: run.client.job(job).state == state, DEADLINE_S, run.explain)


def come_back_elsewhere(run: Crowd, tools: str, job: int, blocker: Asked) -> list[int]:
    """Pauses the job, gives its place to another one, and resumes it. Both run then."""
    run.client.pause(job, Pause())
    until(run, job, "frozen")
    (other,) = start(run, tools, blocker)
    assert set(run.recorded[other].cpus) >= set(run.recorded[job].cpus), "a paused job gives its CPUs back"
    run.client.resume(job)
    until(run, job, "running")
    return [job, other]


def test_cpus_that_come_later_are_used(run: Crowd, tools: str) -> None:
    """Since Linux 6.2 a mask set with sched_setaffinity is kept beside the cpuset, and only what is in both is used."""
    (job,) = start(run, tools, Asked(1, "widened", 1, '"local"', (), threads=2))
    place = groups(run.site, run.recorded[job].execution).places["cpuset"]
    cpuset.apply(place, Limits(memory_bytes=0, cpus=(0, 1), mems=run.recorded[job].mems))
    assert {thread.cpus for thread in account(run.site, run.recorded[job].execution).threads} == {(0, 1)}
    run.let_go([job])


@SEVERAL_NODES
def test_pages_follow_a_job_that_is_resumed_on_another_node(run: Crowd, tools: str) -> None:
    (job,) = start(run, tools, Asked(1, "mover", 2, '"local"', (), threads=4, processes=2, mib=8))
    before, (home,) = run.seen[job], run.recorded[job].mems
    both = come_back_elsewhere(run, tools, job, Asked(1, "blocker", 2, f"[{home}]", ()))
    run.look(both)
    after, record = run.seen[job], run.recorded[job]
    print(f"\nfrom node {home}: {by_node(before.private)}; on node {record.mems}: {by_node(after.private)}")
    assert home not in record.mems
    assert (after.cpus, after.mems) == (record.cpus, record.mems)
    assert {(thread.cpus, thread.mems) for thread in after.threads} == {(record.cpus, record.mems)}
    assert sum(after.private.values()) == sum(before.private.values())
    assert set(after.private) <= set(record.mems), "every page moved"
    assert {node for node, size in after.charged.items() if size} <= set(record.mems)
    run.let_go(both)
    assert cpusets_left(run.site) == []


@SEVERAL_NODES
def test_a_spread_job_goes_round_its_new_nodes(run: Crowd, tools: str) -> None:
    (job,) = start(run, tools, Asked(1, "spread-mover", 2, '"spread"', (), mib=48))
    nodes = run.recorded[job].mems
    both = come_back_elsewhere(run, tools, job, Asked(1, "spread-blocker", 4, str(list(nodes)), ()))
    run.look(both)
    after, record = run.seen[job], run.recorded[job]
    print(f"\nnodes {nodes} -> {record.mems}: {by_node(after.private)}, {sorted(after.policies)}")
    assert not set(record.mems) & set(nodes)
    assert used(after.private) == record.mems
    assert even(1)(after) == ""
    run.let_go(both)


@SEVERAL_NODES
def test_a_daemon_that_returns_gives_nothing_twice(run: Crowd, tools: str) -> None:
    pair = start(run, tools, Asked(1, "two", 2, '"local"', ()), Asked(1, "half", 0.5, "[3]", ()))
    run.site.kill_daemon()
    run.site.start_daemon()
    run.site.wait_ready()
    given = submit(run.site, [Asked(1, "all", 8, '"any"', ()), Asked(1, "five", 5, '"any"', (), mib=8)], tools)
    run.asked |= given
    everything, rest = given
    wait_for(lambda: run.ready(rest), DEADLINE_S, run.explain)
    run.look([*pair, rest])  # no CPU is two jobs'
    assert run.client.job(everything).state == "queued"
    cpus = [cpu for job in (*pair, rest) for cpu in run.recorded[job].cpus]
    assert sorted(cpus) == list(range(8))
    run.let_go([*pair, rest])
    wait_for(lambda: run.ready(everything), DEADLINE_S, run.explain)
    run.look([everything])
    assert run.seen[everything].cpus == tuple(range(8))
    assert sum(run.seen[everything].private.values()) < run.asked[everything].touched + SLACK
    run.let_go([everything])
