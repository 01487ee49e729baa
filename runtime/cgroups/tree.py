"""The product's root group in every hierarchy, and the groups of executions below it.

What lives where comes from HostCaps; pure v2, pure v1 and hybrid hosts take the same way through this file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from jobs.errors import StepFailed
from jobs.host import HostCaps
from jobs.ids import is_execution_id
from runtime.cgroups import blkio, cpuset, memory, vacate
from runtime.cgroups.files import read, write
from runtime.cgroups.group import JobGroup, make_groups
from runtime.cgroups.limits import Limits
from runtime.cgroups.net_priority import by_bpf
from runtime.cgroups.place import Place

# v2's names of what has to be passed on to children. `freezer` and `devices` are no v2 controllers but always there.
_PASSED_ON = {"memory": "memory", "hugetlb": "hugetlb", "cpu": "cpu", "cpuset": "cpuset", "io": "io", "pids": "pids"}

_HINTS = {
    errno.EBUSY: "a v2 group that holds processes can't pass controllers on; let them live in a group below it",
    errno.EROFS: "in a container, mount the cgroup filesystem writable (docker run --privileged --cgroupns=private)",
    errno.ENOENT: "a group above the setting cgroup_root has not that controller; systemd gives it with Delegate=yes",
}


class CgroupTree:
    """`root` is a group below each hierarchy's root, for example `jobs` or `jobs-cgroup.service/jobs`."""

    def __init__(self, caps: HostCaps, root: str) -> None:
        self.caps = caps
        self.root = root.strip("/")
        mounts = dict(caps.controllers)
        if caps.freezer == "v2":
            mounts.pop("freezer", None)  # exactly one freezer per job
        self._bases = {name: (mount.version, mount.path) for name, mount in mounts.items()}
        if by_bpf(caps):
            self._bases["net_egress"] = (2, caps.unified)

    def prepare(self, io_devices: tuple[tuple[int, int], ...] = ()) -> None:
        """The root groups exist and can carry job groups. Safe to repeat. Raises StepFailed.

        `io_devices`: (major, minor) of the disks whose traffic `JobGroup.usage` is to count.
        """
        for version, path in self._hierarchies():
            self._prepare_hierarchy(version, path, io_devices)

    def create(self, execution_id: str, limits: Limits) -> JobGroup:
        """job/, job/mon and job/run in every hierarchy, each limit written and read back. Raises StepFailed.

        On failure the groups stay for `JobGroup.remove` (by way of `open`), which the caller owns.
        """
        group = self.open(execution_id)
        for version, path in self._hierarchies():
            self._make(Place(version, self._job(path, execution_id)), path)
        group.apply(limits)
        return group

    def open(self, execution_id: str) -> JobGroup:
        """The groups of an execution that may have been made by an earlier daemon. Touches nothing."""
        places = {name: Place(version, self._job(path, execution_id)) for name, (version, path) in self._bases.items()}
        unified = Place(2, self._job(self.caps.unified, execution_id)) if self.caps.unified else None
        return JobGroup(execution_id, places, unified)

    def names(self) -> list[str]:
        """Execution ids that have a group in any hierarchy now; groups of other names are not ours."""
        found: set[str] = set()
        for _, path in self._hierarchies():
            try:
                entries = list(os.scandir(f"{path}/{self.root}"))
            except OSError:
                continue
            found.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(filter(is_execution_id, found))

    def widen(self) -> None:
        """After CPUs came back: the root groups may have them again. The groups of jobs are written by their limits."""
        mount = self.caps.controllers.get("cpuset")
        if mount is None or mount.version == 2:
            return
        for group in self._steps_down(mount.path):
            cpuset.widen(group)

    def remove_root(self) -> None:
        """Removes the root groups; raises StepFailed while an execution is left in one."""
        for _, path in self._hierarchies():
            group = f"{path}/{self.root}"
            try:
                os.rmdir(group)
            except OSError as refused:
                if refused.errno not in (errno.ENOENT, errno.ENODEV):
                    hint = f"executions left: {', '.join(self.names()) or 'none'}"
                    raise StepFailed("cgroup:remove-root", refused.errno or 0, group, hint=hint) from refused

    # Inside

    def _hierarchies(self) -> list[tuple[int, str]]:
        """(version, mount point), each once."""
        found = dict.fromkeys(self._bases.values())
        if self.caps.unified:
            found[(2, self.caps.unified)] = None
        return sorted(found)

    def _controllers(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, (_, where) in self._bases.items() if where == path))

    def _job(self, path: str, execution_id: str) -> str:
        return f"{path}/{self.root}/{execution_id}"

    def _steps_down(self, path: str) -> Iterator[str]:
        """`path/a`, `path/a/b` … down to the root group."""
        for part in self.root.split("/"):
            path = f"{path}/{part}"
            yield path

    def _prepare_hierarchy(self, version: int, path: str, io_devices: tuple[tuple[int, int], ...]) -> None:
        controllers = self._controllers(path)
        above = path
        try:
            for group in self._steps_down(path):
                if version == 2:
                    _pass_on_for_sure(above, path, controllers)
                os.makedirs(group, mode=0o755, exist_ok=True)
                if version == 1:
                    _prepare_v1(group, controllers)
                above = group
            if version == 2:
                _pass_on_for_sure(above, path, controllers)
            elif "io" in controllers:
                blkio.start_counting(above, io_devices)
        except OSError as refused:
            hint = _HINTS.get(refused.errno or 0, "")
            raise StepFailed("cgroup:prepare", refused.errno or 0, refused.filename or path, hint=hint) from refused

    def _make(self, place: Place, path: str) -> None:
        controllers = self._controllers(path)
        try:
            make_groups(place)
            if place.version == 2:
                pass_on(place.job, controllers)
        except OSError as refused:
            raise StepFailed("cgroup:create", refused.errno or 0, str(refused.filename or place.job)) from refused


def pass_on(group: str, controllers: tuple[str, ...]) -> None:
    """Enables what is missing of `controllers` in a v2 group's children."""
    wanted = {_PASSED_ON[name] for name in controllers if name in _PASSED_ON}
    missing = sorted(wanted - set(read(f"{group}/cgroup.subtree_control").split()))
    if missing:
        write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))


def _pass_on_for_sure(group: str, mount_point: str, controllers: tuple[str, ...]) -> None:
    """Also for a group that holds processes, where those are ours to move. Raises OSError(EBUSY) where they are not."""
    try:
        pass_on(group, controllers)
    except OSError as refused:
        if refused.errno != errno.EBUSY or not vacate.may_vacate(group, mount_point):
            raise
        vacate.vacate(group, lambda: pass_on(group, controllers))


def _prepare_v1(group: str, controllers: tuple[str, ...]) -> None:
    if "cpuset" in controllers:
        cpuset.inherit(group)
    if "memory" in controllers:
        memory.hierarchical(group)
