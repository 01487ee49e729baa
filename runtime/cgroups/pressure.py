"""Pressure of the container (PSI): how long tasks of it could not go on for want of something. v2 core files, which a
hybrid host has as well; absent where the kernel was built without PSI or booted with psi=0.
"""

from __future__ import annotations

from runtime.cgroups.files import read
from runtime.cgroups.place import Place


def waited_s(place: Place) -> tuple[float, float, float]:
    """For a CPU, for memory, for a disk: seconds in which at least one task waited; 0 where it isn't counted."""
    cpu, memory, io = (_total_s(f"{place.run}/{name}.pressure") for name in ("cpu", "memory", "io"))
    return cpu, memory, io


def _total_s(path: str) -> float:
    """Of `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`, in microseconds (Documentation/accounting/psi.rst)."""
    try:
        lines = read(path).splitlines()
    except OSError:
        return 0.0
    some = next((line for line in lines if line.startswith("some ")), "")
    return int(some.rpartition("total=")[2] or 0) / 1e6
