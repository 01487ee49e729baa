"""Where a job runs: exact CPUs and memory nodes. The value only; the algorithm is scheduler/allocate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Placement:
    """`cpus` are exclusive when `exclusive`; else other fractional jobs run on them too and `shares` CPUs of time,
    the same part of each, belong to this job."""

    node_id: str
    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    exclusive: bool
    shares: float = 0.0  # CPUs, for a fractional request; 0 when exclusive
    memory_bytes: int = 0
    memory: tuple[tuple[int, int], ...] = ()  # (memory node, bytes reserved there); sums to memory_bytes
    hugepages: tuple[tuple[int, int, int], ...] = ()  # (memory node, page size in bytes, pages)
    idle: tuple[int, ...] = ()  # threads of its last whole core that it does not use and nobody else gets
    generic: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (name of a generic resource, its instances)
    given_back: tuple[str, ...] = ()  # those of the names that a freeze gives back
    devices: tuple[str, ...] = ()  # device nodes of the instances
    variant: int = 0  # which of the job's alternatives it is; 0: the spec's own resources


def from_json(data: dict[str, Any]) -> Placement:
    """Inverse of `dataclasses.asdict`; lists become tuples again."""
    return Placement(
        **{
            **data,
            "cpus": tuple(data["cpus"]),
            "mems": tuple(data["mems"]),
            "idle": tuple(data.get("idle", ())),
            "memory": tuple((node, size) for node, size in data.get("memory", ())),
            "hugepages": tuple((node, size, pages) for node, size, pages in data.get("hugepages", ())),
            "generic": tuple((name, tuple(instances)) for name, instances in data.get("generic", ())),
            "given_back": tuple(data.get("given_back", ())),
            "devices": tuple(data.get("devices", ())),
        }
    )
