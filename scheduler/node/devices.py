"""Device nodes that a job gets, as cgroup rules. Whether one may be opened is still up to the node's own mode."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from jobs.errors import StepFailed
from runtime.cgroups.devices import rule_for
from runtime.cgroups.limits import DeviceRule

EVERYBODYS = ("/dev/shm", "/dev/mqueue", "/dev/pts", "/dev/fd")  # folders in which users make names


def rules_for(paths: Iterable[str]) -> tuple[DeviceRule, ...]:
    """Raises StepFailed for a path that is no device node on this host."""
    return tuple(_rule(path) for path in paths)


def _rule(path: str) -> DeviceRule:
    try:
        if any(path.startswith(f"{folder}/") for folder in EVERYBODYS):
            raise PermissionError(errno.EPERM, "not a device of this host", path)
        return rule_for(path)
    except OSError as error:
        raise StepFailed("device", error.errno or 0, path, hint="this host has no such device node") from error
