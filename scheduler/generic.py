"""What there is of the resources that the settings name: their instances, device nodes and memory nodes. Pure.

The host is looked at through `Look`. An instance keeps its number: by its place in the list, or in the order of the
names that a pattern finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.generic import MOST_INSTANCES, GenericSetting
from jobs.host import Generic, Instance


@dataclass(frozen=True, slots=True)
class Look:
    """`matches(pattern)`: paths; `number(path)`: "char/226:128" or "block/7:0" of a device node, "" of anything else;
    `read(path)`: a file's text, raises OSError.
    """

    matches: Callable[[str], Sequence[str]]
    number: Callable[[str], str]
    read: Callable[[str], str]


def present(settings: Sequence[GenericSetting], look: Look) -> tuple[Generic, ...]:
    return tuple(
        Generic(given.name, _instances(given, look), given.release_when_frozen, given.env) for given in settings
    )


def variables(granted: Sequence[tuple[str, tuple[int, ...]]], known: Sequence[Generic]) -> tuple[tuple[str, str], ...]:
    """What tells a job which instances it has. JOBS_GENERIC_GPU has the host's numbers. A variable of the operator's
    choice counts devices as the program finds them, from 0 on: it sees no others than its own."""
    chosen = {item.name: item for item in known if item.env}
    found: dict[str, str] = {}
    for name, numbers in granted:
        found[f"JOBS_GENERIC_{name.upper()}"] = ",".join(map(str, numbers))
        if name in chosen:
            own = any(each.devices for each in chosen[name].instances)
            found[chosen[name].env] = ",".join(map(str, range(len(numbers)) if own else numbers))
    return tuple(found.items())


def missing(found: Sequence[Generic]) -> list[str]:
    """One line per instance whose device nodes are not there; nobody gets it."""
    return [
        f"generic.{item.name}: instance {number} is left out: no device node {' or no '.join(instance.devices)}"
        for item in found
        for number, instance in enumerate(item.instances)
        if not instance.there
    ]


def _instances(given: GenericSetting, look: Look) -> tuple[Instance, ...]:
    if given.count:
        return tuple(Instance(node=_place(given, number)) for number in range(given.count))
    nodes = given.devices
    if given.pattern:
        found = sorted(filter(look.number, look.matches(given.pattern)), key=_by_number)
        nodes = tuple((path,) for path in found[:MOST_INSTANCES] if path not in given.shared)
    return tuple(_instance(given, number, row, look) for number, row in enumerate(nodes))


def _instance(given: GenericSetting, number: int, row: tuple[str, ...], look: Look) -> Instance:
    devices = tuple(dict.fromkeys((*row, *given.shared)))
    place = _place(given, number) if given.numa else _node_of(look, row[0])
    return Instance(devices, place, all(map(look.number, devices)))


def _place(given: GenericSetting, number: int) -> int:
    return given.numa[number] if number < len(given.numa) else -1


def _node_of(look: Look, path: str) -> int:
    """The memory node of the device behind a node, as its bus tells (Documentation/ABI/testing/sysfs-bus-pci); -1."""
    if not (number := look.number(path)):
        return -1
    for above in ("device", "device/device"):  # a disk's device is its controller, and that one's is on the bus
        try:
            return int(look.read(f"/sys/dev/{number}/{above}/numa_node"))
        except (OSError, ValueError):
            continue
    return -1


def _by_number(path: str) -> list[tuple[int, str]]:
    """nvidia2 before nvidia10."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"([0-9]+)", path)]
