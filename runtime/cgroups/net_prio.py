"""skb->priority per interface of the initial namespace, for a job in the host's network. v1 only."""

from __future__ import annotations

import errno

from runtime.cgroups.files import confirm, table, write
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """One pair per write: the kernel drops a second one without a word (KERNEL.md)."""
    path = f"{place.run}/net_prio.ifpriomap"
    gone = []
    for interface, priority in limits.interface_priorities:
        try:
            write(path, f"{interface} {priority}")
        except OSError as refused:
            if refused.errno != errno.ENODEV:
                raise
            gone.append(interface)
            continue
        confirm(path, f"{interface} {priority}", table(path).get(interface) == priority)
    return tuple(f"interface {name} is gone: it has no priority" for name in gone)
