"""What a job needs from a host. Pure. Equal demands fit or fail together, so queued jobs are grouped by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from jobs.record import Record
from jobs.spec import JobSpec
from scheduler.capacity import MILLI, milli, milli_each


@dataclass(frozen=True, slots=True)
class Demand:
    cpus: int  # whole and exclusive; 0 for a fractional request
    shares: float  # CPUs, for a fractional request; else 0
    memory_bytes: int
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, pages)
    numa: str | tuple[int, ...] = "local"
    whole_cores: bool = False  # all threads of each core that it uses
    ports: tuple[tuple[str, int], ...] = ()
    generic: tuple[tuple[str, int], ...] = ()  # (name, how many)
    kept: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (name, instances): what a frozen job never gave back
    devices: tuple[str, ...] = ()  # the nodes of those
    variant: int = 0  # which of the job's alternatives this is

    @property
    def wide(self) -> int:
        """Different CPUs needed."""
        return self.cpus or ceil(milli(self.shares) / MILLI)

    @property
    def milli_each(self) -> int:
        return milli_each(self.shares, self.wide)


def demands_of(record: Record) -> tuple[Demand, ...]:
    """Alternatives: the first that finds room is taken."""
    return tuple(demand_of(spec, variant) for variant, spec in enumerate(record.alternatives))


def demand_of(spec: JobSpec, variant: int = 0) -> Demand:
    """`spec` has that variant's resources already."""
    wanted = spec.resources
    return Demand(
        cpus=int(wanted.cpus) if wanted.whole_cpus else 0,
        shares=0.0 if wanted.whole_cpus else wanted.cpus,
        memory_bytes=wanted.memory_bytes,
        hugepages=tuple(sorted((size, pages) for size, pages in wanted.hugepages if pages)),
        numa=spec.numa,
        whole_cores=spec.cores == "whole" and wanted.whole_cpus,
        ports=tuple(sorted({(item.protocol, item.host_port) for item in spec.network.publish})),
        generic=tuple(sorted((name, count) for name, count in wanted.generic if count)),
        variant=variant,
    )


def thaw_demand(record: Record) -> Demand:
    """Of a frozen job, in the variant that it runs as. Its huge pages can't move (they are reserved, not migrated), so
    they pin it to their nodes.
    Of the generic resources it needs those that it gave back; the devices that it has open are its own still.
    """
    demand, home = demand_of(record.wanted, record.variant), record.home
    if home is None:
        return replace(demand, ports=())
    return replace(
        demand,
        numa=home.mems if demand.hugepages else demand.numa,
        ports=(),
        generic=tuple((name, count) for name, count in demand.generic if name in home.given_back),
        kept=tuple(row for row in home.generic if row[0] not in home.given_back),
        devices=home.devices,
    )
