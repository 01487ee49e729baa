"""Disk bandwidth and weight. Rates are on `run` (v1's throttle does not look at parents), the weight is on `job`."""

from __future__ import annotations

import os
from contextlib import suppress

from jobs.spec import UNLIMITED
from runtime.cgroups.files import confirm, exchange, exists, read, write
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place

DEFAULT_WEIGHT = 100  # io.weight's own
_NO_RATES = ("max", "max")  # a device without a limit has no line at all
_V1_RATES = ("blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")
BUFFERED_WRITES = "buffered writes are not throttled by cgroup v1: its blkio sees reads and direct writes only"


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    notes = [*_weight(place, limits.io_weight)]
    if place.version == 2:
        _rates_v2(place, limits)
    else:
        _rates_v1(place, limits)
        if limits.io_write_bytes_s != UNLIMITED:
            notes.append(BUFFERED_WRITES)
    if not limits.io_devices and min(limits.io_read_bytes_s, limits.io_write_bytes_s) != UNLIMITED:
        notes.append("no block device is behind the job's folders: its I/O rates hold nowhere")
    return tuple(notes)


def bfq_weight(weight: int) -> int:
    """io.weight 1–10000 → BFQ's 1–1000, with 100 in both the default (systemd's BFQ_WEIGHT, src/core/cgroup.c)."""
    return weight if weight <= 100 else 100 + (weight - 100) * (1000 - 100) // (10_000 - 100)


def _weight(place: Place, weight: int) -> list[str]:
    """Every file that the host's I/O schedulers brought along: v2 has one of the cost model and one of BFQ."""
    bfq = bfq_weight(weight)
    for name, value in (("io.weight", weight), ("io.bfq.weight", bfq), ("blkio.bfq.weight", bfq)):
        path = f"{place.job}/{name}"
        if exists(path):
            shown = exchange(path, str(value))
            confirm(path, str(value), shown, shown.splitlines()[0].split()[-1] == str(value))  # `default 100`, or `100`
    if weight == DEFAULT_WEIGHT or _heeded(place):
        return []
    return ["io.weight is ignored: no disk of this host has BFQ as its scheduler, or the cost model (io.cost.qos)"]


def _heeded(place: Place) -> bool:
    """Whether any I/O scheduler that is switched on looks at weights. `io.weight` alone says only that one could be."""
    if exists(f"{place.job}/io.bfq.weight") or exists(f"{place.job}/blkio.bfq.weight"):
        return True
    top = os.path.dirname(place.job)
    while exists(f"{top}/cgroup.events"):  # up to the root of the hierarchy, which alone has io.cost.qos
        top = os.path.dirname(top)
    return "enable=1" in _text(f"{top}/io.cost.qos")


def _rates_v1(place: Place, limits: Limits) -> None:
    """Only what differs is written: each write empties the device's queue first, whoever filled it (Linux 6.15)."""
    for name, rate in zip(_V1_RATES, (limits.io_read_bytes_s, limits.io_write_bytes_s), strict=True):
        path = f"{place.run}/{name}"
        wanted = {f"{major}:{minor}": max(rate, 0) for major, minor in limits.io_devices}
        have = _rates_v1_of(read(path))
        for device in sorted({*have, *wanted}):
            allowed = wanted.get(device, 0)  # 0 takes a rule away
            if have.get(device, 0) != allowed:
                shown = exchange(path, f"{device} {allowed}")
                confirm(path, f"{device} {allowed}", shown, _rates_v1_of(shown).get(device, 0) == allowed)


def _rates_v1_of(text: str) -> dict[str, int]:
    lines = (line.split() for line in text.splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}


def _rates_v2(place: Place, limits: Limits) -> None:
    path = f"{place.run}/io.max"
    rates = (_rate(limits.io_read_bytes_s), _rate(limits.io_write_bytes_s))
    wanted = {f"{major}:{minor}": rates for major, minor in limits.io_devices}
    have = _rates_v2_of(read(path))
    for device in sorted({*have, *wanted}):
        read_rate, write_rate = wanted.get(device, _NO_RATES)
        if have.get(device, _NO_RATES) != (read_rate, write_rate):
            rule = f"{device} rbps={read_rate} wbps={write_rate}"
            shown = exchange(path, rule)
            confirm(path, rule, shown, _rates_v2_of(shown).get(device, _NO_RATES) == (read_rate, write_rate))


def _rate(bytes_s: int) -> str:
    return "max" if bytes_s < 0 else str(bytes_s)


def _rates_v2_of(text: str) -> dict[str, tuple[str, str]]:
    """`8:0 rbps=1048576 wbps=max riops=max wiops=max` per device."""
    shown = {}
    for line in text.splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        shown[device] = (values.get("rbps", "max"), values.get("wbps", "max"))
    return shown


def start_counting(group: str, devices: tuple[tuple[int, int], ...]) -> None:
    """v1, once per device: since Linux 6.10 throttle's figures begin with the first rule written, even an empty one."""
    for major, minor in devices:
        with suppress(OSError):  # a device that can't be throttled; only figures are lost
            write(f"{group}/{_V1_RATES[0]}", f"{major}:{minor} 0")


def moved_bytes(place: Place) -> tuple[int, int]:
    """(read, written) by the container. v1: see `start_counting`; Linux 6.1 counts only groups with a rate."""
    if place.version == 2:
        return _sum_v2(_text(f"{place.run}/io.stat"))
    return _sum_v1(_text(f"{place.run}/blkio.throttle.io_service_bytes_recursive"))


def _text(path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""


def _sum_v1(text: str) -> tuple[int, int]:
    lines = [line.split() for line in text.splitlines()]
    totals = [sum(int(line[2]) for line in lines if len(line) == 3 and line[1] == kind) for kind in ("Read", "Write")]
    return totals[0], totals[1]


def _sum_v2(text: str) -> tuple[int, int]:
    pairs = [pair.split("=", 1) for line in text.splitlines() for pair in line.split()[1:]]
    totals = [sum(int(value) for name, value in pairs if name == kind) for kind in ("rbytes", "wbytes")]
    return totals[0], totals[1]
