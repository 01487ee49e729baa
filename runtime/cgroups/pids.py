"""How many processes and threads the container may have. On `run`: a fork bomb takes nothing from the monitor."""

from __future__ import annotations

from runtime.cgroups.files import number, put
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    put(f"{place.run}/pids.max", "max" if limits.pids < 0 else str(limits.pids))
    return ()


def current(place: Place) -> int:
    return number(f"{place.run}/pids.current")
