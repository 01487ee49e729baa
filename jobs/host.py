"""What a host is and offers, as values; filled by `runtime/hostcaps` and `scheduler/topology`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

CONTROLLERS = (
    "memory", "hugetlb", "cpu", "cpuacct", "cpuset", "io", "net_cls", "net_prio", "devices", "freezer", "pids",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ControllerMount:
    """Where one controller lives. `path` is the mount point of its hierarchy; blkio is called `io` here."""

    controller: str
    version: int  # 1 | 2
    path: str


@dataclass(frozen=True, slots=True)
class HostCaps:
    """Probed once by the daemon. `controllers` lacks what is absent; `unified` is cgroup2's mount point or ""."""

    kernel: str
    boot_id: str
    controllers: dict[str, ControllerMount]
    unified: str
    freezer: str  # "v2" whenever a unified hierarchy is mounted, else "v1", else ""
    namespaces: frozenset[str]  # of: pid net ipc mnt uts user cgroup time
    submounts: tuple[str, ...] = ()  # real filesystems mounted below / that a `host` image must bind read-only
    features: frozenset[str] = frozenset()  # "idmap", "nft", "landlock", "apparmor", "prjquota", "loop", …
    hugepage_sizes: tuple[int, ...] = ()  # bytes


@dataclass(frozen=True, slots=True)
class NumaNode:
    """`cpus` are the online CPUs that this process may use; a memory-only node has none."""

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int
    distances: tuple[tuple[int, int], ...] = ()  # (other node, distance as in ACPI SLIT)
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, free pages)


@dataclass(frozen=True, slots=True)
class Cache:
    """`cpus` share it."""

    level: int
    kind: str  # "data" | "instruction" | "unified"
    size_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoreKind:
    """Cores of one speed: hybrid machines have two or three."""

    name: str  # "performance" | "middle" | "efficiency"
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """CPUs, memory nodes and which CPUs are hardware threads of one core. `nodes` have what jobs may be given; the
    other fields tell of all online CPUs."""

    nodes: tuple[NumaNode, ...]
    siblings: tuple[tuple[int, ...], ...] = field(default=())  # groups of SMT threads
    caches: tuple[Cache, ...] = ()
    kinds: tuple[CoreKind, ...] = ()  # the fastest first; () where all cores are alike

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(sorted(cpu for node in self.nodes for cpu in node.cpus))

    @property
    def memory_bytes(self) -> int:
        return sum(node.memory_bytes for node in self.nodes)
