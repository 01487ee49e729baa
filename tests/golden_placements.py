"""What the scheduler gives, on every captured machine, for a fixed list of requests: tests/data/placements/NAME.txt.

    .venv/bin/python tests/golden_placements.py          writes them anew; then review what changed

Each request is put to the empty machine; then sixteen jobs come one after the other and stay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from builders import MIB, a_job

from jobs import cpuset, topology_text
from jobs.host import Topology
from jobs.machine import view_of
from jobs.placement import Placement
from jobs.protocol import Machine, NodeMemory, Placed
from jobs.units import render_size
from scheduler import shortage
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for
from scheduler.capture import Captured
from scheduler.demand import demand_of
from scheduler.topology import read_topology

DATA = Path(__file__).parent / "data"
MACHINES = sorted(path.stem for path in (DATA / "sysfs").glob("*.json"))
RESERVE_BYTES = 64 * MIB
Job = dict[str, Any]  # arguments of a_job


@dataclass(frozen=True)
class Size:
    """Of a machine, so that one list of requests asks something of each."""

    cpus: int
    node_cpus: int  # of its largest node
    memory: int
    node_memory: int
    nodes: tuple[int, ...]  # with CPUs
    memory_only: tuple[int, ...]
    pages: int  # of 2 MiB
    node_pages: int

    @classmethod
    def of(cls, capacity: Capacity) -> Size:
        pages = [capacity.pages.get((node.id, 2 * MIB), 0) for node in capacity.nodes]
        return cls(
            cpus=capacity.cpus,
            node_cpus=max(len(node.cpus) for node in capacity.nodes),
            memory=sum(capacity.memory.values()),
            node_memory=max(capacity.memory.values()),
            nodes=tuple(node.id for node in capacity.nodes if node.cpus),
            memory_only=tuple(node.id for node in capacity.nodes if not node.cpus),
            pages=sum(pages),
            node_pages=max(pages),
        )


REQUESTS: list[tuple[str, Callable[[Size], Job]]] = [
    ("one CPU", lambda host: {"cpus": 1}),
    ("two CPUs", lambda host: {"cpus": 2}),
    ("three CPUs", lambda host: {"cpus": 3}),
    ("eight CPUs", lambda host: {"cpus": 8}),
    ("one CPU, whole core", lambda host: {"cpus": 1, "cores": "whole"}),
    ("two CPUs, whole cores", lambda host: {"cpus": 2, "cores": "whole"}),
    ("three CPUs, whole cores", lambda host: {"cpus": 3, "cores": "whole"}),
    ("as many CPUs as a node has", lambda host: {"cpus": host.node_cpus}),
    ("one more than a node has", lambda host: {"cpus": host.node_cpus + 1}),
    ("half of all CPUs, whole cores", lambda host: {"cpus": max(1, host.cpus // 2), "cores": "whole"}),
    ("all CPUs", lambda host: {"cpus": host.cpus}),
    ("spread, two CPUs", lambda host: {"cpus": 2, "numa": "spread"}),
    ("spread, a CPU for each node", lambda host: {"cpus": len(host.nodes), "numa": "spread"}),
    ("spread, three CPUs, whole cores", lambda host: {"cpus": 3, "numa": "spread", "cores": "whole"}),
    ("any, one more than a node has", lambda host: {"cpus": host.node_cpus + 1, "numa": "any"}),
    ("on the last node with CPUs", lambda host: {"cpus": 1, "numa": (host.nodes[-1],)}),
    ("on the first and the last, four CPUs", lambda host: {"cpus": 4, "numa": (host.nodes[0], host.nodes[-1])}),
    ("on the first and all memory-only nodes", lambda host: {"cpus": 2, "numa": (host.nodes[0], *host.memory_only)}),
    ("half a CPU", lambda host: {"cpus": 0.5}),
    ("one and a half", lambda host: {"cpus": 1.5}),
    ("five and a half", lambda host: {"cpus": 5.5}),
    ("memory of a node and a half, one CPU", lambda host: {"cpus": 1, "memory": host.node_memory * 3 // 2}),
    ("the same, spread, four CPUs", lambda host: {"cpus": 4, "memory": host.node_memory * 3 // 2, "numa": "spread"}),
    ("all memory", lambda host: {"cpus": 1, "memory": host.memory}),
    ("four huge pages", lambda host: {"cpus": 1, "hugepages": [(2 * MIB, 4)]}),
    ("more huge pages than a node has", lambda host: {"cpus": 2, "hugepages": [(2 * MIB, host.node_pages + 1)]}),
    ("more CPUs than there are", lambda host: {"cpus": host.cpus + 1}),
    ("a node that is not there", lambda host: {"cpus": 1, "numa": (999,)}),
]

SEQUENCE: list[Callable[[Size], Job]] = [
    lambda host: {"cpus": 2},
    lambda host: {"cpus": 1, "cores": "whole"},
    lambda host: {"cpus": 0.5},
    lambda host: {"cpus": max(1, host.node_cpus // 2)},
    lambda host: {"cpus": 1},
    lambda host: {"cpus": 0.75},
    lambda host: {"cpus": 3},
    lambda host: {"cpus": 0.5},
    lambda host: {"cpus": max(1, host.cpus // 4), "numa": "spread"},
    lambda host: {"cpus": 2, "cores": "whole"},
    lambda host: {"cpus": 1.5},
    lambda host: {"cpus": 1, "numa": (host.nodes[-1],)},
    lambda host: {"cpus": max(1, host.cpus // 8), "numa": "any"},
    lambda host: {"cpus": 1, "memory": host.node_memory // 2},
    lambda host: {"cpus": 4},
    lambda host: {"cpus": 1},
]


def topology_of(machine: str) -> Topology:
    files = Captured(json.loads((DATA / "sysfs" / f"{machine}.json").read_text()))
    return read_topology(files.read, files.listdir)


def capacity_of(machine: str) -> Capacity:
    return Capacity.of(topology_of(machine), reserve_bytes=RESERVE_BYTES, node_id=machine)


def a_demand(job: Job, host: Size) -> Any:
    return demand_of(a_job(**{"memory": max(MIB, host.memory // 256), **job}))


def sequence(machine: str) -> Iterator[tuple[int, Job, Placement | None, Ledger]]:
    """Each of the sixteen with what it got, and the ledger that holds it."""
    ledger = Ledger(capacity_of(machine))
    host = Size.of(ledger.capacity)
    for number, make in enumerate(SEQUENCE, 1):
        placement = allocate(ledger, a_demand(make(host), host))
        if placement is not None:
            ledger.charge(number, hold_for(placement))
        yield number, make(host), placement, ledger


def page(machine: str) -> str:
    capacity = capacity_of(machine)
    host = Size.of(capacity)
    lines = [drawing(machine, []), "", "each on the empty machine:", ""]
    for name, make in REQUESTS:
        demand = a_demand(make(host), host)
        placement = allocate(Ledger(capacity), demand)
        got = words(placement) if placement else f"never: {shortage.impossible(capacity, demand)}"
        lines.append(f"{name:38}  {asked(make(host)):34}  {got}")
    placed = []
    lines += ["", "sixteen that stay:", ""]
    for number, job, placement, _ in sequence(machine):
        lines.append(f"{number:2}  {asked(job):34}  {words(placement) if placement else 'no room'}")
        if placement:
            placed.append(Placed(number, f"job-{number}", "me", "running", placement.cpus, placement.idle,
                                 placement.exclusive, placement.shares, placement.memory))  # fmt: skip
    return "\n".join(line.rstrip() for line in [*lines, "", drawing(machine, placed)]) + "\n"


def drawing(machine: str, placed: list[Placed]) -> str:
    capacity = capacity_of(machine)
    memory = tuple(NodeMemory(node, size) for node, size in capacity.memory.items())
    whole = Machine(machine, asdict(topology_of(machine)), memory, tuple(placed))
    return topology_text.draw(view_of(whole), 110).partition("\n\na  job")[0]


def asked(job: Job) -> str:
    words_ = [f"{job['cpus']:g} CPU"]
    words_ += [render_size(job["memory"])] if "memory" in job else []
    words_ += [f"{count} pages" for _, count in job.get("hugepages", [])]
    numa = job.get("numa", "local")
    words_ += [f"nodes {cpuset.render(numa)}" if isinstance(numa, tuple) else numa]
    words_ += ["whole cores"] if job.get("cores") == "whole" else []
    return ", ".join(words_)


def words(placement: Placement) -> str:
    found = f"CPUs {cpuset.render(placement.cpus)}"
    found += f", {cpuset.render(placement.idle)} idle" if placement.idle else ""
    found += "" if placement.exclusive else f" for {placement.shares:g}"
    found += "; memory " + ", ".join(f"{node}: {render_size(size)}" for node, size in placement.memory)
    pages = [f"{node}: {count} of {render_size(size)}" for node, size, count in placement.hugepages]
    return found + (f"; pages {', '.join(pages)}" if pages else "")


if __name__ == "__main__":
    for name in MACHINES:
        (DATA / "placements" / f"{name}.txt").write_text(page(name))
        print(f"tests/data/placements/{name}.txt")
