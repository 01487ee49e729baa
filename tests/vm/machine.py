"""The hardware of one guest, and the arguments by which QEMU makes it. Pure; docs/design/vm-rig.md.

CPUs are numbered node by node, as QEMU numbers them: on two nodes of two cores with two threads, node 0 has CPUs 0-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import capabilities

CGROUPS = ("v1", "v2", "hybrid")
INITS = ("plain", "systemd")
HUGE_PAGE_MB = 2
# Distances as a four-socket board with a ring of links reports them, and a memory-only node as CXL does.
HERE, NEAR, FAR, MEMORY_ONLY = 10, 21, 31, 28


class BadMachine(ValueError):
    """A machine that QEMU cannot make, or that holds less than it promises."""


@dataclass(frozen=True)
class Machine:
    """*memory_mb* and *cpus* are shared evenly by the nodes; *memory_only_mb* is one more node without CPUs."""

    cgroup: str = "v2"
    init: str = "plain"
    numa: int = 1
    cpus: int = 2
    threads: int = 1
    memory_mb: int = 2048
    memory_only_mb: int = 0
    hugepages: int = 0  # of 2 MiB, on each node with CPUs
    offline: tuple[int, ...] = ()
    distances: tuple[tuple[int, ...], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.cgroup not in CGROUPS:
            raise BadMachine(f"cgroup {self.cgroup!r}; possible: {', '.join(CGROUPS)}")
        if self.init not in INITS:
            raise BadMachine(f"init {self.init!r}; possible: {', '.join(INITS)}")
        if self.numa < 1 or self.threads < 1 or self.cpus % (self.numa * self.threads) or self.cpus < 1:
            raise BadMachine(f"{self.cpus} CPUs don't divide into {self.numa} nodes with {self.threads} threads a core")
        if self.hugepages * HUGE_PAGE_MB * 2 > self.memory_mb // self.numa:
            raise BadMachine(f"{self.hugepages} huge pages take more than half of a node's {self.node_mb} MB")
        if 0 in self.offline or not set(self.offline) < set(range(self.cpus)):
            raise BadMachine(f"offline CPUs {self.offline}: CPU 0 stays, and there are {self.cpus}")
        if self.distances and [len(row) for row in self.distances] != [self.nodes] * self.nodes:
            raise BadMachine(f"distances: {self.nodes} rows of {self.nodes} numbers are needed")

    @property
    def nodes(self) -> int:
        return self.numa + bool(self.memory_only_mb)

    @property
    def node_mb(self) -> int:
        return self.memory_mb // self.numa


def promises(machine: Machine) -> list[str]:
    """The names of tests/capabilities.py whose lack in such a guest is a failure."""
    names = capabilities.promised_with(_FILE_SYSTEMS[machine.cgroup])
    names += [f"cpus.{machine.cpus - len(machine.offline)}", f"numa.{machine.nodes}"]
    has = {
        "hugepages": machine.hugepages,
        "smt": machine.threads > 1,
        "memory-only": machine.memory_only_mb,
        "systemd": machine.init == "systemd",
        "br_netfilter": machine.init == "plain",
    }
    return names + [name for name, there in has.items() if there]


_FILE_SYSTEMS = {"v1": ("cgroup",), "v2": ("cgroup2",), "hybrid": ("cgroup", "cgroup2")}


def hardware_arguments(machine: Machine) -> list[str]:
    """`-smp`, `-m`, `-object` and `-numa` of QEMU."""
    cores = machine.cpus // machine.numa // machine.threads
    smp = f"{machine.cpus},sockets={machine.numa},cores={cores},threads={machine.threads}"
    total_mb = machine.node_mb * machine.numa + machine.memory_only_mb
    arguments = ["-smp", smp, "-m", f"{total_mb}M"]
    per_node = machine.cpus // machine.numa
    for node in range(machine.numa):
        first = node * per_node
        arguments += _node(node, machine.node_mb, f",cpus={first}-{first + per_node - 1}")
    if machine.memory_only_mb:
        arguments += _node(machine.numa, machine.memory_only_mb, "")
    for source, row in enumerate(distances(machine)):
        for target, distance in enumerate(row):
            if source != target:
                arguments += ["-numa", f"dist,src={source},dst={target},val={distance}"]
    return arguments


def distances(machine: Machine) -> Sequence[Sequence[int]]:
    """Between nodes: what was asked, or a ring with the memory-only node equally far from all."""
    if machine.distances:
        return machine.distances
    return [[_distance(machine, a, b) for b in range(machine.nodes)] for a in range(machine.nodes)]


def _distance(machine: Machine, a: int, b: int) -> int:
    if a == b:
        return HERE
    if machine.numa in (a, b):
        return MEMORY_ONLY
    return NEAR if (a - b) % machine.numa in (1, machine.numa - 1) else FAR


def _node(number: int, size_mb: int, cpus: str) -> list[str]:
    memory = f"memory-backend-ram,id=ram{number},size={size_mb}M"
    return ["-object", memory, "-numa", f"node,nodeid={number},memdev=ram{number}{cpus}"]


def kernel_parameters(machine: Machine) -> list[str]:
    """What the guest's start scripts read from /proc/cmdline."""
    parameters = [f"jobs_vm.cgroup={machine.cgroup}", f"jobs_vm.hugepages={machine.hugepages}"]
    parameters += [f"jobs_vm.offline={','.join(map(str, machine.offline))}"] if machine.offline else []
    if machine.init == "systemd":
        parameters += ["jobs_vm.init=systemd", "systemd.unit=jobs-vm.target", *_SYSTEMD_HIERARCHY[machine.cgroup]]
    return parameters


_SYSTEMD_HIERARCHY = {
    "v2": ("systemd.unified_cgroup_hierarchy=1",),
    "hybrid": ("systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=0"),
    "v1": ("systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=1"),
}
