"""Why a demand does not fit, dimension by dimension, and who holds what it wants. Pure; data, not text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jobs.host import NumaNode
from jobs.units import render_size
from jobs.verdict import MOST_BLOCKERS, Reason
from scheduler.capacity import Capacity, Hold, Ledger
from scheduler.cores import free_of
from scheduler.demand import Demand


def reasons(free: Ledger, demand: Demand, job: int, *, headroom: bool = True) -> tuple[Reason, ...]:
    """At least one. `free` is the ledger at the end of the round."""
    nodes = _nodes(free.capacity, demand)
    found = [
        *_jobs(free),
        *_ports(free, demand, job),
        *_cpus(free, demand, nodes),
        *_memory(free, demand, nodes, headroom),
        *_pages(free, demand, nodes),
        *_generic(free, demand),
    ]
    if not found:
        found = [Reason("placement", 1, 0, detail="no set of memory nodes has the CPUs and the memory together")]
    return tuple(found)


def of_all(free: Ledger, demands: Sequence[Demand], job: int, *, headroom: bool = True) -> tuple[Reason, ...]:
    """Of each alternative; those after the first are named."""
    return tuple(
        replace(reason, detail=f"variant {demand.variant}: {replace(reason, blockers=())}") if number else reason
        for number, demand in enumerate(demands)
        for reason in reasons(free, demand, job, headroom=headroom)
    )


def all_impossible(capacity: Capacity, demands: Sequence[Demand]) -> str:
    """Of alternatives none of which fits an empty host."""
    first, *others = (impossible(capacity, demand) for demand in demands)
    return "; ".join((first, *(f"variant {number}: {said}" for number, said in enumerate(others, 1))))


def impossible(capacity: Capacity, demand: Demand) -> str:
    """The first thing that this host does not have at all; "" when the demand fits an empty host by dimension."""
    known = {node.id for node in capacity.nodes}
    if not isinstance(demand.numa, str) and (missing := sorted(set(demand.numa) - known)):
        has = ", ".join(map(str, sorted(known)))
        return f"placement.numa: this host has no memory node {missing[0]}; it has {has}"
    nodes = _nodes(capacity, demand)
    where = "" if isinstance(demand.numa, str) else f" on memory nodes {', '.join(map(str, demand.numa))}"
    cpus = sum(len(node.cpus) for node in nodes)
    if demand.wide > cpus:
        return f"resources.cpus: {demand.cpus or demand.shares:g} wanted, this host has {cpus}{where}"
    memory = sum(capacity.memory[node.id] for node in nodes)
    if demand.memory_bytes > memory:
        return (
            f"resources.memory: {render_size(demand.memory_bytes)} wanted, this host can give {render_size(memory)}"
            f"{where}"
        )
    for size, wanted in demand.hugepages:
        pages = sum(capacity.pages.get((node.id, size), 0) for node in nodes)
        if wanted > pages:
            return f"resources.hugepages: {wanted} of {render_size(size)} wanted, this host has {pages}{where}"
    for name, wanted in demand.generic:
        if name not in capacity.generic:
            has = ", ".join(sorted(capacity.generic)) or "none"
            return f"resources.generic.{name}: this host has no such resource; it has {has}"
        there = sum(each.there for each in capacity.generic[name].instances)
        if wanted > there:
            return f"resources.generic.{name}: {wanted} wanted, this host has {there}"
    return "no set of memory nodes of this host has the CPUs, the memory and the huge pages together"


def _nodes(capacity: Capacity, demand: Demand) -> list[NumaNode]:
    return [node for node in capacity.nodes if isinstance(demand.numa, str) or node.id in demand.numa]


def _held(reason: Reason, jobs: Iterable[int]) -> Reason:
    found = sorted({job for job in jobs if job > 0})  # negative: an earmark, see `order`
    return replace(reason, blockers=tuple(found[:MOST_BLOCKERS]), others=max(0, len(found) - MOST_BLOCKERS))


def _touches(hold: Hold, cpus: set[int]) -> bool:
    return not cpus.isdisjoint(hold.exclusive) or any(cpu in cpus for cpu, _ in hold.shared)


def _jobs(free: Ledger) -> list[Reason]:
    most = free.capacity.max_jobs
    detail = f"{most} jobs are running or frozen; the setting max_jobs allows no more"
    return [Reason("jobs", 1, 0, "jobs", detail=detail)] if free.jobs >= most else []


def _ports(free: Ledger, demand: Demand, job: int) -> list[Reason]:
    return [
        _held(Reason(f"port:{port}/{protocol}", 1, 0, "ports"), holders)
        for protocol, port in demand.ports
        if (holders := free.ports.get((protocol, port), set()) - {job})
    ]


def _cpus(free: Ledger, demand: Demand, nodes: list[NumaNode]) -> list[Reason]:
    cpus = {cpu for node in nodes for cpu in node.cpus}
    if demand.whole_cores:
        parts = [part for node in nodes for part in free.capacity.parts[node.id]]
        have = sum(free_of(part, free.owner, free.shared).room(whole=True) for part in parts)
    elif demand.cpus:
        have = sum(free.is_free(cpu) for cpu in cpus)
    else:
        have = sum(free.milli_left(cpu) >= demand.milli_each for cpu in cpus)
    if have >= demand.wide:
        return []
    holders = (job for job, hold in free.holds.items() if _touches(hold, cpus))
    detail = f"cpus: {demand.wide} on whole cores wanted, {have} free" if demand.whole_cores else ""
    return [_held(Reason("cpus", demand.wide, have, "cpus", detail=detail), holders)]


def _memory(free: Ledger, demand: Demand, nodes: list[NumaNode], headroom: bool) -> list[Reason]:
    have = sum(max(0, free.free_memory(node.id, headroom=headroom)) for node in nodes)
    if have >= demand.memory_bytes:
        return []
    ids = {node.id for node in nodes}
    holders = (job for job, hold in free.holds.items() if any(node in ids and size for node, size in hold.memory))
    detail = f"memory: {render_size(demand.memory_bytes)} wanted, {render_size(have)} free"
    return [_held(Reason("memory", demand.memory_bytes, have, "bytes", detail=detail), holders)]


def _pages(free: Ledger, demand: Demand, nodes: list[NumaNode]) -> list[Reason]:
    found = []
    for size, wanted in demand.hugepages:
        have = sum(max(0, free.free_pages(node.id, size)) for node in nodes)
        if have < wanted:
            holders = (job for job, hold in free.holds.items() if any(row[1] == size for row in hold.pages))
            found.append(_held(Reason(f"hugepages:{size}", wanted, have, "pages"), holders))
    return found


def _generic(free: Ledger, demand: Demand) -> list[Reason]:
    found = []
    for name, wanted in demand.generic:
        instances = free.capacity.generic[name].instances if name in free.capacity.generic else ()
        have = sum(each.there and (name, number) not in free.generic for number, each in enumerate(instances))
        if have < wanted:
            holders = (job for (other, _), job in free.generic.items() if other == name)
            found.append(_held(Reason(f"generic:{name}", wanted, have, name), holders))
    return found
