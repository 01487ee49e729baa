"""skb->priority per interface of the initial namespace, for a job in the host's network. v1 only."""

from __future__ import annotations

import errno

from runtime.cgroups.files import confirm, exchange
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """One pair per write: the kernel drops a second one without a word (docs/design/kernel.md)."""
    path = f"{place.run}/net_prio.ifpriomap"
    gone = []
    for interface, priority in limits.interface_priorities:
        pair = f"{interface} {priority}"
        try:
            shown = exchange(path, pair)
        except OSError as refused:
            if refused.errno != errno.ENODEV:
                raise
            gone.append(interface)
            continue
        confirm(path, pair, shown, pair in shown.splitlines())
    return tuple(f"interface {name} is gone: it has no priority" for name in gone)
