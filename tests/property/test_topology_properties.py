"""Whatever sysfs says, the topology is usable; whatever the topology, a placement is right and the best."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.host import Cache, CoreKind, NumaNode, Package, Topology, topology_from_json
from jobs.machine import bare, view_of
from jobs.topology_svg import draw as draw_svg
from jobs.topology_text import draw
from scheduler import allocate as allocation
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for
from scheduler.capture import Captured
from scheduler.demand import demand_of
from scheduler.offer import Offer
from scheduler.topology import read_topology
from tests.builders import GIB, a_job

CPUS = 12
LISTS = st.sampled_from(["", "0", "0-3", "0-11", "1,3,5", "4-7", "8-11", "9-20", "3-1", "x", "0-99999999", "\0"])
NUMBERS = st.sampled_from(["0", "1", "-1", "36", "", "x", "²"])
SIZES = st.sampled_from(["32K", "16M", "", "x"])
_CPU, _NODE = "/sys/devices/system/cpu", "/sys/devices/system/node"


@st.composite
def trees(draw_: Any) -> dict[str, str]:
    """Files that contradict each other in every way."""
    paths = {f"{_CPU}/{name}": LISTS for name in ("online", "present", "possible", "isolated")}
    paths |= {f"/sys/devices/{pmu}/cpus": LISTS for pmu in ("cpu_core", "cpu_atom", "cpu_lowpower")}
    for cpu in range(0, CPUS, 3):
        topology, cache = f"{_CPU}/cpu{cpu}/topology", f"{_CPU}/cpu{cpu}/cache/index3"
        paths |= {f"{topology}/{name}_cpus_list": LISTS for name in ("core", "die", "cluster")}
        paths |= {f"{topology}/physical_package_id": NUMBERS, f"{_CPU}/cpu{cpu}/cpu_capacity": NUMBERS}
        paths |= {f"{cache}/level": NUMBERS, f"{cache}/size": SIZES, f"{cache}/shared_cpu_list": LISTS}
    paths[f"{_NODE}/online"] = LISTS
    for node in (0, 1, 5):
        paths |= {f"{_NODE}/node{node}/cpulist": LISTS, f"{_NODE}/node{node}/distance": LISTS}
        paths[f"{_NODE}/node{node}/meminfo"] = st.sampled_from(["", "Node 0 MemTotal: 1048576 kB", "MemTotal: x kB"])
    paths["/proc/self/status"] = LISTS.map(lambda cpus: f"Cpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0-5\n")
    chosen = draw_(st.sets(st.sampled_from(sorted(paths))))
    return {path: draw_(paths[path]) for path in sorted(chosen)}


@settings(max_examples=200, deadline=None)
@given(trees())
def test_any_tree_is_read_and_drawn(files: dict[str, str]) -> None:
    tree = Captured(files)
    topology = read_topology(tree.read, tree.listdir)
    assert topology.cpus and len(set(topology.cpus)) == len(topology.cpus), "a CPU is on one node"
    threads = [cpu for core in topology.siblings for cpu in core]
    assert len(set(threads)) == len(threads) and set(topology.cpus) <= set(threads), "and in one core"
    assert not set(topology.cpus) & {item.cpu for item in topology.withheld}
    assert topology_from_json(json.loads(json.dumps(asdict(topology)))) == topology
    capacity = Capacity.of(topology)
    assert set(capacity.core_of) == set(topology.cpus) == set(capacity.part_of)
    assert draw(view_of(bare(topology))) and draw_svg(view_of(bare(topology)))


@st.composite
def topologies(draw_: Any) -> Topology:
    """Nodes of several caches and kinds of cores, cores of one to four threads, some of them not for jobs."""
    nodes, siblings, caches, kinds = [], [], [], ([], [])
    cpu = 0
    for node in range(draw_(st.integers(1, 3))):
        inside = []
        for _ in range(draw_(st.integers(0 if node else 1, 3))):
            first = cpu
            slow = draw_(st.booleans())
            for _ in range(draw_(st.integers(1, 3))):
                core = tuple(range(cpu, cpu + draw_(st.sampled_from([1, 2, 2, 4]))))
                cpu += len(core)
                siblings.append(core)
                kinds[slow].extend(core)
                inside += [thread for thread in core if draw_(st.integers(0, 9))]
            caches.append(Cache(3, "unified", 1 << 20, tuple(range(first, cpu))))
        size = draw_(st.sampled_from([GIB, 4 * GIB]))
        distances = tuple((other, 10 if other == node else 20 + abs(other - node)) for other in range(3))
        nodes.append(NumaNode(node, tuple(inside), size, distances))
    named = (CoreKind("performance", tuple(kinds[0])), CoreKind("efficiency", tuple(kinds[1])))
    two = draw_(st.booleans()) and all(kinds)
    middle = draw_(st.integers(0, cpu))
    packages = (Package(0, tuple(range(middle))), Package(1, tuple(range(middle, cpu))))
    return Topology(tuple(nodes), tuple(siblings), tuple(caches), named if two else (), packages)


JOBS = st.builds(
    a_job,
    cpus=st.one_of(st.integers(1, 9), st.sampled_from([0.25, 0.5, 1.5, 2.75])),
    memory=st.integers(1, 3 * GIB),
    numa=st.one_of(st.sampled_from(["local", "local", "spread", "any"]), st.just((0,)), st.just((0, 2))),
    cores=st.sampled_from(["shared", "whole"]),
)


@settings(max_examples=300, deadline=None)
@given(topologies(), st.lists(JOBS, max_size=10))
def test_placements_on_any_topology(topology: Topology, jobs: list[Any]) -> None:
    capacity = Capacity.of(topology)
    ledger = Ledger(capacity)
    for job, spec in enumerate(jobs, 1):
        demand = demand_of(spec)
        placement = allocate(ledger, demand)
        assert placement == the_best_of_all(ledger, demand), "the search that stops early finds the same"
        if placement is None:
            continue
        taken = (*placement.cpus, *placement.idle)
        assert len(placement.cpus) == demand.wide and len(set(taken)) == len(taken)
        assert ledger.refusal(placement) == ""
        assert sum(size for _, size in placement.memory) == demand.memory_bytes
        if demand.whole_cores:
            assert set(taken) == {thread for cpu in placement.cpus for thread in capacity.core_of[cpu]}
            last = [core for core in {capacity.core_of[cpu] for cpu in placement.cpus} if {*core} & {*placement.idle}]
            assert len(last) <= len({capacity.node_of[cpu] for cpu in taken}), "idle: on one core of a node at most"
        if isinstance(spec.numa, tuple):
            assert {*placement.mems, *(capacity.node_of[cpu] for cpu in taken)} <= set(spec.numa)
        ledger.charge(job, hold_for(placement))  # raises where something is given twice
    for job in range(1, len(jobs) + 1):
        ledger.release(job)
    assert ledger == Ledger(capacity)


def the_best_of_all(ledger: Ledger, demand: Any) -> Any:
    """By ranking every placement of a group, without any of the short cuts."""
    offer = Offer(ledger, demand, headroom=True)
    if demand.wide > ledger.capacity.cpus or not offer.has_generic():
        return None
    for sets in allocation.node_sets(ledger.capacity, demand.numa):
        ranked = []
        for nodes in sets:
            if (placement := allocation._on(offer, nodes)) is not None:
                harm = allocation._harm(offer, placement, frozenset())
                away, far, sockets, *beside = allocation._nearness(offer, nodes)
                ranked.append(((harm[0], away, far, sockets, *harm[1:], *beside, nodes), placement))
        if ranked:
            return min(ranked, key=lambda pair: pair[0])[1]
    return None
