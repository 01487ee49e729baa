"""What a host is and offers, as values; filled by `runtime/hostcaps` and `scheduler/topology`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

T = TypeVar("T")

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
    """`cpus` are the online CPUs that jobs may be given; a memory-only node has none."""

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int  # with its huge pages
    distances: tuple[tuple[int, int], ...] = ()  # (other node, distance as in ACPI SLIT)
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, free pages)
    hugepages_total: tuple[tuple[int, int], ...] = ()  # (page size in bytes, pages)


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
class Package:
    """A socket. `dies`: several only where the processor says so; `clusters`: cores that share something small."""

    id: int
    cpus: tuple[int, ...]
    dies: tuple[tuple[int, ...], ...] = ()
    clusters: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Withheld:
    """A CPU that exists and that no job gets. `node`: its memory node, -1 where nobody says."""

    cpu: int
    why: Literal["offline", "isolated", "outside"]  # outside: not in the affinity or the cpuset of this very process
    node: int = -1


@dataclass(frozen=True, slots=True)
class Instance:
    """One of a generic resource. `there`: its device nodes exist; one that is not there keeps its number."""

    devices: tuple[str, ...] = ()
    node: int = -1  # its memory node; -1: nobody says
    there: bool = True


@dataclass(frozen=True, slots=True)
class Generic:
    """A resource that an operator named: GPUs, licences. An instance is given to one job at a time, by its number."""

    name: str
    instances: tuple[Instance, ...] = ()
    release_when_frozen: bool = False  # a frozen job gives it back, as it does with CPUs
    env: str = ""  # a variable that tells the job which it has


@dataclass(frozen=True, slots=True)
class Topology:
    """`nodes` have what jobs may be given; the other fields tell of all online CPUs."""

    nodes: tuple[NumaNode, ...]
    siblings: tuple[tuple[int, ...], ...] = ()  # groups of hardware threads: cores
    caches: tuple[Cache, ...] = ()
    kinds: tuple[CoreKind, ...] = ()  # the fastest first; () where all cores are alike
    packages: tuple[Package, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    model: str = ""  # of the processor, in its maker's words
    generic: tuple[Generic, ...] = ()  # by name

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(sorted(cpu for node in self.nodes for cpu in node.cpus))

    @property
    def memory_bytes(self) -> int:
        return sum(node.memory_bytes for node in self.nodes)

    def last_cache_of(self) -> dict[int, int]:
        """CPU → index in `caches` of its last-level cache, if that is of level 3 or more. Only the machine's highest
        level counts: cores without one (the low-power cores of some laptops) are in nobody's group."""
        last = max((cache.level for cache in self.caches), default=0)
        shared = [(number, cache) for number, cache in enumerate(self.caches) if cache.level == last >= 3]
        return {cpu: number for number, cache in shared for cpu in cache.cpus}

    def kind_of(self) -> dict[int, int]:
        """CPU → index in `kinds`; a CPU of which nothing is said has none."""
        return {cpu: number for number, kind in enumerate(self.kinds) for cpu in kind.cpus}


def topology_from_json(data: dict[str, Any]) -> Topology:
    """Inverse of `dataclasses.asdict`; lists become tuples again. Keys of later versions are left out."""
    return Topology(
        nodes=tuple(_from(NumaNode, item) for item in data["nodes"]),
        siblings=_tuples(data.get("siblings", ())),
        caches=tuple(_from(Cache, item) for item in data.get("caches", ())),
        kinds=tuple(_from(CoreKind, item) for item in data.get("kinds", ())),
        packages=tuple(_from(Package, item) for item in data.get("packages", ())),
        withheld=tuple(_from(Withheld, item) for item in data.get("withheld", ())),
        model=data.get("model", ""),
        generic=tuple(
            _from(Generic, {**item, "instances": [_from(Instance, each) for each in item["instances"]]})
            for item in data.get("generic", ())
        ),
    )


def _from(cls: type[T], data: dict[str, Any]) -> T:
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: _tuples(value) for key, value in data.items() if key in known})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
