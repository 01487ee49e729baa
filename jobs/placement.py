"""Where a job runs: exact CPUs and memory nodes. The value only; the algorithm is scheduler/allocate. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """`cpus` are exclusive when `exclusive`, else the shared pool in which `shares` of a CPU is this job's part."""

    node_id: str
    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    exclusive: bool
    shares: float = 0.0  # CPUs, for a fractional request; 0 when exclusive
    memory_bytes: int = 0
