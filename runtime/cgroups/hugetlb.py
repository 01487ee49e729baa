"""Huge pages of the container. A size that was not asked for gets none: huge pages come from a pool all jobs share."""

from __future__ import annotations

import errno
import os

from runtime.cgroups.files import exists, put
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place

_UNITS = (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10))


def size_name(size_bytes: int) -> str:
    """2097152 → `2MB`, as mm/hugetlb_cgroup.c names its files."""
    unit, factor = next(pair for pair in _UNITS if size_bytes >= pair[1])
    return f"{size_bytes // factor}{unit}"


def size_bytes(name: str) -> int:
    """Inverse of `size_name`."""
    return int(name[:-2]) * dict(_UNITS)[name[-2:]]


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """Limits reservations too, so that mmap(2) fails at once instead of a SIGBUS at the first touch."""
    suffix = "max" if place.version == 2 else "limit_in_bytes"
    wanted = {size: pages * size for size, pages in limits.hugepages}
    for name in sorted(os.listdir(place.run)):
        parts = name.split(".")
        if parts[0] != "hugetlb" or len(parts) != 3 or parts[2] != suffix:
            continue
        allowed = str(wanted.pop(size_bytes(parts[1]), 0))
        put(f"{place.run}/{name}", allowed)
        reserved = f"{place.run}/hugetlb.{parts[1]}.rsvd.{suffix}"
        if exists(reserved):
            put(reserved, allowed)
    for size in wanted:
        path = f"{place.run}/hugetlb.{size_name(size)}.{suffix}"
        raise OSError(errno.ENOENT, "this host has no huge pages of that size", path)
    return ()
