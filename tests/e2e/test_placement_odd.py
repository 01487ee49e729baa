"""Places of less even machines: hardware threads of a core (the guest `smt`), a node without CPUs (`memory-only`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import DEADLINE_S, Crowd, build_tools, client_of, submit
from installation import Installation, wait_for
from kernel_account import NODES, memory_nodes
from placement_jobs import MIB, SLACK, Asked, wide

from jobs import cpuset

pytestmark = pytest.mark.needs("root", "tool.gcc")
CPU = Path("/sys/devices/system/cpu")


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


def core(cpu: int) -> tuple[int, ...]:
    """By the kernel: the hardware threads of the CPU's core."""
    return cpuset.parse((CPU / f"cpu{cpu}/topology/thread_siblings_list").read_text())


def without_cpus() -> tuple[int, ...]:
    return tuple(node for node in memory_nodes() if not (NODES / f"node{node}/cpulist").read_text().strip())


@pytest.mark.needs("smt", "cpus.8")
def test_nobody_else_is_on_a_whole_core(run: Crowd, tools: str) -> None:
    """Three CPUs are two cores of two threads, the fourth thread idle; shared ones fill up a core together."""
    whole, *others = start(
        run,
        tools,
        Asked(1, "whole-3", 3, '"local"', (wide(3),), threads=3, cores="whole"),
        Asked(1, "shared-1", 1, '"local"', ()),
        Asked(1, "shared-1-too", 1, '"local"', ()),
        Asked(1, "half", 0.5, '"local"', ()),
    )
    mine = {thread for cpu in run.seen[whole].cpus for thread in core(cpu)}
    assert len(run.seen[whole].cpus) == 3
    assert len(mine) == 4
    assert not mine & {cpu for job in others for cpu in run.seen[job].cpus}
    one, two = (run.seen[job].cpus[0] for job in others[:2])
    assert core(one) == core(two), "a broken core is broken further before another one"
    run.let_go([whole, *others])


@pytest.mark.needs("memory-only")
def test_memory_of_a_node_without_cpus_is_given_and_given_back(run: Crowd, tools: str) -> None:
    (far,) = without_cpus()
    near = next(node for node in memory_nodes() if node != far)
    (job,) = start(run, tools, Asked(1, "near-and-far", 1, f"[{near}, {far}]", ()))
    assert run.seen[job].mems == tuple(sorted((near, far)))
    assert run.seen[job].nodes_of_cpus() == (near,)
    assert set(run.seen[job].private) == {near}, "the nearest first, by the default policy"
    run.let_go([job])


@pytest.mark.needs("memory-only")
def test_what_no_node_with_cpus_has_comes_from_the_one_without(run: Crowd, tools: str) -> None:
    """The job does not fit on the nodes with CPUs, and no page is lost."""
    (far,) = without_cpus()
    nodes = {node["id"]: node["memory_bytes"] for node in run.client.host()["nodes"]}
    near = sum(size for node, size in nodes.items() if node != far)
    total = (near + nodes[far] // 2) // MIB - 256
    (job,) = start(run, tools, Asked(1, "overflow", 1, '"any"', (), mib=total - 16, limit_mib=total))
    assert far in run.seen[job].mems
    assert run.seen[job].private[far] > SLACK
    assert sum(run.seen[job].private.values()) >= run.asked[job].touched
    run.let_go([job])


@pytest.mark.needs("memory-only")
def test_a_job_on_the_far_node_alone_is_refused(run: Crowd, tools: str) -> None:
    (far,) = without_cpus()
    path = run.site.folder / "far.toml"
    path.write_text(Asked(1, "far", 1, f"[{far}]", ()).toml(tools))
    refused = run.site.cli("submit", str(path), check=False)
    assert refused.returncode != 0
    assert "never" in refused.stderr or "CPU" in refused.stderr, refused.stderr
