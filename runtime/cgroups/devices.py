"""Which device nodes the container may open. v1: the devices controller; v2: a BPF program on the group. On `run`."""

from __future__ import annotations

import errno
import os
import stat

from runtime.cgroups.device_bpf import program
from runtime.cgroups.files import NotKept, read, write
from runtime.cgroups.limits import DeviceRule, Limits
from runtime.cgroups.place import Place
from runtime.cgroups.programs import DEVICE, attach

_EVERYTHING = "a *:* rwm"  # devices.list of a group that was never told


def rule_for(path: str, access: str = "rw") -> DeviceRule:
    """The rule for a device node of the host. Raises OSError(ENODEV) when `path` is something else.

    By the node's own name: a link could lead anywhere, and elsewhere a moment later.
    """
    found = os.lstat(path)
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        raise OSError(errno.ENODEV, "not a device node", path)
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
    return DeviceRule(kind, os.major(found.st_rdev), os.minor(found.st_rdev), access)


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    if place.version == 2:
        attach(place.run, DEVICE, program(limits.devices))
    else:
        _allow_list(place.run, {str(rule) for rule in limits.devices})
    return ()


def _allow_list(group: str, wanted: set[str]) -> None:
    """First allows what is missing, then denies what is too much: running programs never meet a moment of deny-all.

    Only a group that was never told is emptied first, and that is before anything runs in it.
    """
    shown = set(read(f"{group}/devices.list").splitlines())
    if _EVERYTHING in shown:
        write(f"{group}/devices.deny", "a")
        shown = set()
    for rule in sorted(wanted - shown):
        write(f"{group}/devices.allow", rule)
    for rule in sorted(shown - wanted):
        write(f"{group}/devices.deny", rule)
    kept = set(read(f"{group}/devices.list").splitlines())
    if kept != wanted:
        raise NotKept(f"{group}/devices.list", "; ".join(sorted(wanted)), "; ".join(sorted(kept)))
