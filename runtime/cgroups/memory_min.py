"""memory.min: memory of a job that is not reclaimed for others. v2 only.

A group is protected only as far as every group above it is (Documentation/admin-guide/cgroup-v2.rst), so the product's
root group claims the sum of what its jobs claim. What lies above that is not ours to write: there it becomes a note.
"""

from __future__ import annotations

import math
import os

from runtime.cgroups.files import exists, number, put, read
from runtime.cgroups.place import Place

_PAGE = os.sysconf("SC_PAGE_SIZE")


def protect(place: Place, wanted_bytes: int) -> tuple[str, ...]:
    """The monitor has no part of it: `run` claims all that `job` does."""
    wanted = wanted_bytes // _PAGE * _PAGE  # the kernel counts whole pages
    if wanted == number(f"{place.run}/memory.min"):
        return ()
    for group in (place.run, place.job):
        put(f"{group}/memory.min", str(wanted))
    root = os.path.dirname(place.job)
    _claim(root)
    short = _least_above(root)
    if wanted and short is not None:
        return (f"memory_min holds only as far as {short}/memory.min, which is the host's to raise",)
    return ()


def release(place: Place) -> None:
    """After the groups of a job are gone: the root group claims less."""
    root = os.path.dirname(place.job)
    if number(f"{root}/memory.min"):
        _claim(root)


def _claim(root: str) -> None:
    names = [entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    put(f"{root}/memory.min", str(sum(number(f"{root}/{name}/memory.min") for name in names)))


def _least_above(root: str) -> str | None:
    """The nearest group above that is protected less than the root group."""
    claimed = _claimed(root)
    above = os.path.dirname(root)
    while exists(f"{above}/memory.min"):  # the root of the hierarchy has none
        if _claimed(above) < claimed:
            return above
        above = os.path.dirname(above)
    return None


def _claimed(group: str) -> float:
    shown = read(f"{group}/memory.min")
    return math.inf if shown == "max" else int(shown)
