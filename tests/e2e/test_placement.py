"""Where the kernel lets jobs run and where their pages lie, against what was asked and what was recorded.

Sixteen jobs with different placements on eight CPUs over four nodes (a virtual machine has them: scripts/test-vm).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import Crowd, build_tools, client_of, given_once, submit
from installation import Installation
from kernel_account import cpusets_left, memory_nodes, used_by_node
from placement_jobs import MIB, SLACK, Asked, sixteen

from jobs.client import Client
from runtime.cgroups.files import write

pytestmark = pytest.mark.needs("root", "numa.4", "cpus.8", "tool.gcc")

REPORTS = Path("/opt/jobs-out")
RESERVED = 256 * MIB


@pytest.fixture(scope="module")
def tools(site: Installation) -> str:
    return build_tools(site)


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    with Installation(reserve_memory=str(RESERVED)) as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Installation) -> Client:
    return client_of(site)


@pytest.fixture(scope="module")
def before(site: Installation) -> dict[int, int]:
    """By node, after a first job has woken all pools, and with the page cache emptied: pages that are to go to all
    nodes alike would else avoid a full one.
    """
    assert site.wait(site.run_script("true")) == 0
    os.sync()
    write("/proc/sys/vm/drop_caches", "3")
    return used_by_node()


@pytest.fixture(scope="module")
def table(client: Client) -> tuple[Asked, ...]:
    return sixteen(min(node.for_jobs_bytes for node in client.machine().memory))


@pytest.fixture(scope="module")
def crowd(site: Installation, client: Client, table: tuple[Asked, ...], tools: str, before: dict[int, int]) -> Crowd:
    """All sixteen, looked at and ended."""
    crowd = Crowd(site, client, submit(site, table, tools, "--hold"))
    crowd.run_in_waves()
    print(f"\n{crowd.table()}")
    if REPORTS.is_dir():
        (REPORTS / "placement.txt").write_text(crowd.table() + "\n")
    return crowd


def test_every_job_ran_to_its_end(crowd: Crowd) -> None:
    ends = {crowd.asked[job].name: crowd.client.job(job) for job in crowd.asked}
    assert {name for name, job in ends.items() if (job.state, job.exit_status) != ("completed", 0)} == set(), ends
    assert all(job.usage["oom_kills"] == 0 for job in ends.values())


def test_every_thread_may_run_where_the_record_says_and_nowhere_else(crowd: Crowd) -> None:
    for job, seen in crowd.seen.items():
        record, asked = crowd.recorded[job], crowd.asked[job]
        assert (seen.cpus, seen.mems) == (record.cpus, record.mems), asked.name
        assert {(thread.cpus, thread.mems) for thread in seen.threads} == {(record.cpus, record.mems)}, asked.name
        # the reaper, and the program's processes with their threads and their first one
        assert seen.processes == asked.processes + 1
        assert len(seen.threads) == asked.processes * (asked.threads + 1) + 1


def test_a_frozen_job_stays_where_it_is(crowd: Crowd) -> None:
    for job, seen in crowd.seen.items():
        frozen, name = crowd.frozen[job], crowd.asked[job].name
        assert (frozen.threads, frozen.cpus, frozen.mems, frozen.private) == (
            seen.threads, seen.cpus, seen.mems, seen.private
        ), name  # fmt: skip


def test_every_page_lies_on_a_node_that_was_given(crowd: Crowd) -> None:
    for job, seen in crowd.seen.items():
        asked = crowd.asked[job]
        assert set(seen.private) <= set(seen.mems), (asked.name, seen.private, seen.mems)
        assert asked.touched <= sum(seen.private.values()) <= asked.touched + SLACK, (asked.name, seen.private)
        assert {node for node, size in seen.charged.items() if size} <= set(seen.mems), (asked.name, seen.charged)
        assert abs(sum(seen.charged.values()) - sum(seen.private.values())) <= SLACK, (asked.name, seen)


def test_each_got_what_it_asked_for(crowd: Crowd) -> None:
    wrong = {
        crowd.asked[job].name: complaints
        for job, seen in crowd.seen.items()
        if (complaints := [text for expected in crowd.asked[job].expected if (text := expected(seen))])
    }
    assert wrong == {}


def test_sixteen_at_once_never_share_a_cpu(crowd: Crowd, table: tuple[Asked, ...], tools: str) -> None:
    """Without waves: each starts where and when there is room."""
    rush = Crowd(crowd.site, crowd.client, submit(crowd.site, table, tools))
    rush.run_as_they_come()
    for job, seen in rush.seen.items():
        record = rush.recorded[job]
        assert {(thread.cpus, thread.mems) for thread in seen.threads} == {(record.cpus, record.mems)}
        assert set(seen.charged) - {node for node, size in seen.charged.items() if not size} <= set(record.mems)
    given_once(crowd.site.cli("events").stdout)


def test_afterwards_every_cpu_and_byte_is_free_again(crowd: Crowd, tools: str, before: dict[int, int]) -> None:
    """The kernel has it back, and the scheduler gives the whole machine to the next one who asks."""
    assert cpusets_left(crowd.site) == []
    left = {node: size - before[node] for node, size in used_by_node().items()}
    # Over all nodes: the kernel moves pages of who is still there. Daemon, launcher and this very test have grown.
    assert sum(left.values()) < 48 * MIB, left
    host = json.loads(crowd.site.cli("show", "--host", "--json").stdout)
    most = sum(node.for_jobs_bytes for node in crowd.client.machine().memory)
    everything = Asked(1, "all", 8, '"spread"', (), limit_mib=most // MIB)
    last = Crowd(crowd.site, crowd.client, submit(crowd.site, (everything,), tools))
    last.run_as_they_come()
    (seen,) = last.seen.values()
    assert seen.cpus == tuple(cpu for node in host["nodes"] for cpu in node["cpus"])
    assert seen.mems == memory_nodes()
    assert cpusets_left(crowd.site) == []
