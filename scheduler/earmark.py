"""Keeping what is free of a place for whoever will run there, so that others leave it alone. Pure."""

from __future__ import annotations

from jobs.placement import Placement
from scheduler.capacity import NOTHING, Hold, Ledger, hold_for


def keep(ledger: Ledger, key: int, place: Placement, held: Hold = NOTHING) -> None:
    """Charges to `key` what is free of `place` in a scratch ledger; partly used CPUs are closed for newcomers too.

    `held`: what whoever comes keeps already, so that it need not be kept for it again. `release(key)` undoes it.
    """
    own = dict(held.memory)
    memory = tuple(
        (node, min(size, max(0, ledger.free_memory(node, headroom=False))))
        for node, wanted in place.memory
        if (size := max(0, wanted - own.get(node, 0)))
    )
    own_pages = {(node, size): pages for node, size, pages in held.pages}
    pages = tuple(
        (node, size, min(count, max(0, ledger.free_pages(node, size))))
        for node, size, wanted in place.hugepages
        if (count := max(0, wanted - own_pages.get((node, size), 0)))
    )
    cpus = tuple((cpu, left) for cpu in (*place.cpus, *place.idle) if (left := ledger.milli_left(cpu)))
    generic = tuple(each for each in hold_for(place).generic if each not in ledger.generic)
    ledger.charge(key, Hold(shared=cpus, memory=memory, pages=pages, generic=generic))
