"""Keeping room for the job that waits longest: what is free where it will run is kept from later ones. Pure."""

from __future__ import annotations

from scheduler.allocate import node_sets, on_empty
from scheduler.capacity import MILLI, Hold, Ledger
from scheduler.demand import Demand


def earmark(ledger: Ledger, job: int, demand: Demand) -> None:
    """Takes out of a scratch ledger what is free where `job` will run, so that later jobs leave it alone.

    The set of nodes that lacks least is chosen, and on it the emptiest CPUs (cores, for a job that shares none): partly
    used ones are closed for newcomers too, or they would never be empty. What is earmarked only grows from round to
    round, as running jobs end, so the job's turn comes. Charged to -job, beside what a frozen job holds already.
    """
    fits = on_empty(ledger.capacity, demand)
    options = [nodes for sets in node_sets(ledger.capacity, demand.numa) for nodes in sets if fits(nodes)]
    if not options:
        return
    nodes = min(options, key=lambda nodes: (_lack(ledger, demand, nodes), len(nodes), nodes))
    missing = demand.memory_bytes
    memory = []
    for node in nodes:
        part = min(missing, max(0, ledger.free_memory(node, headroom=False)))
        missing -= part
        memory.append((node, part))
    pages = []
    for size, wanted in demand.hugepages:
        for node in nodes:
            take = min(wanted, max(0, ledger.free_pages(node, size)))
            wanted -= take
            pages.append((node, size, take))
    cpus = tuple((cpu, part) for part, cpu in _emptiest(ledger, demand, nodes) if part)
    ledger.charge(-job, Hold(shared=cpus, memory=tuple(memory), pages=tuple(pages)))


def _emptiest(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> list[tuple[int, int]]:
    """(thousandths that are free and wanted, CPU): as many CPUs as the demand is wide, or all of so many cores."""
    each = MILLI if demand.cpus else demand.milli_each
    left = ledger.milli_left
    if not demand.whole_cores:
        cpus = [cpu for node in nodes for cpu in ledger.capacity.node[node].cpus]
        free = sorted(((min(each, left(cpu)), cpu) for cpu in cpus), key=lambda pair: (-pair[0], pair[1]))
        return free[: demand.wide]
    cores = [core for node in nodes for part in ledger.capacity.parts[node] for core in part.cores]
    found: list[tuple[int, int]] = []
    for core in sorted(cores, key=lambda core: (-sum(map(left, core)) / len(core), core)):
        if len(found) >= demand.wide:
            break
        found += [(left(cpu), cpu) for cpu in core]
    return found


def _lack(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> float:
    """The missing fractions of CPUs and memory, added."""
    each = MILLI if demand.cpus else demand.milli_each
    emptiest = _emptiest(ledger, demand, nodes)
    cpus = sum(part for part, _ in emptiest) / (each * max(1, len(emptiest)))
    free = sum(max(0, ledger.free_memory(node, headroom=False)) for node in nodes)
    return 1 - cpus + max(0, demand.memory_bytes - free) / max(1, demand.memory_bytes)
