"""The class that packets of a job in the host's network carry, for tc's cgroup filter and nftables. v1 only."""

from __future__ import annotations

from runtime.cgroups.files import put
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """Not hierarchical: the sockets of a task carry the id of the task's own group. Live sockets are re-tagged."""
    put(f"{place.run}/net_cls.classid", str(limits.class_id))
    return ()
