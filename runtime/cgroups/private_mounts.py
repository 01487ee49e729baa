"""cgroup v1 hierarchies that the host compiled in and did not mount, above all net_cls and net_prio. Launcher side.

A v1 hierarchy is one thing however often it is mounted, so daemon and launcher need no common mount namespace and no
order: each calls `mount_missing` with the same directory, in its own namespace, and both see the same groups at the
same path. A setting guards net_*; before Linux 5.15 they are never mounted: that switched off cgroup-v2 socket matching
for the whole host.
"""

from __future__ import annotations

import errno
import os

from runtime import syscalls

NET_CONTROLLERS = ("net_cls", "net_prio")  # they exist on v1 only
CONTROLLERS = ("hugetlb", *NET_CONTROLLERS)
_HARMLESS_SINCE = (5, 15)  # bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode (8520e224f547)
SOURCE = "jobs"  # shown in the mount table: such a mount is a daemon's own and goes when that daemon stops


def to_mount(*, net_controllers: bool, kernel: tuple[int, int]) -> tuple[str, ...]:
    """What `mount_missing` is to be asked for; `net_controllers` is the setting. Pure."""
    return CONTROLLERS if net_controllers and kernel >= _HARMLESS_SINCE else ("hugetlb",)


def mount_missing(directory: str, controllers: tuple[str, ...] = CONTROLLERS) -> dict[str, str]:
    """Mounts what the kernel has, this namespace's v1 mounts lack and v2 does not offer, at `directory`/<controller>.

    Another daemon's private mount does not count: it may be gone tomorrow.
    Returns controller → mount point of what was mounted now. Safe to repeat. Raises OSError with the path.
    """
    with open("/proc/cgroups", encoding="ascii") as file:
        hierarchies = enabled_hierarchies(file.read())
    made: dict[str, str] = {}
    for controller in controllers:
        if controller in hierarchies and controller not in _offered(directory):
            target = f"{directory}/{controller}"
            _mount(target, joined(controller, hierarchies))
            made[controller] = target
    return made


def unmount(directory: str) -> list[str]:
    """Takes down what `mount_missing` made under `directory`, in this namespace; returns the mount points.

    Remove the groups first: a hierarchy with groups outlives its last mount (and comes back with the next one).
    """
    undone = []
    ours = [point for point in mount_points(_mountinfo(), "cgroup") if os.path.dirname(point) == directory]
    for target in reversed(ours):
        syscalls.umount2(target)
        os.rmdir(target)
        undone.append(target)
    try:
        os.rmdir(directory)
    except OSError as refused:
        if refused.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
    return undone


def enabled_hierarchies(proc_cgroups: str) -> dict[str, int]:
    """/proc/cgroups → controller → hierarchy number (0: on no v1 hierarchy). Disabled ones are left out. Pure."""
    rows = (line.split() for line in proc_cgroups.splitlines() if not line.startswith("#"))
    return {row[0]: int(row[1]) for row in rows if len(row) == 4 and row[3] == "1"}


def joined(controller: str, hierarchies: dict[str, int]) -> str:
    """The mount option: a hierarchy that is mounted elsewhere must be named with all its controllers. Pure."""
    number = hierarchies[controller]
    partners = [name for name, other in hierarchies.items() if number and other == number]
    return ",".join(partners or [controller])


def mounted_controllers(mountinfo: str, directory: str) -> set[str]:
    """Words of the super options of the v1 mounts that last for us; controllers are among them. Pure."""
    found: set[str] = set()
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split()
        if len(rest) >= 3 and rest[0] == "cgroup" and not is_foreign(rest[1], unescape(fields[4]), directory):
            found.update(rest[2].split(","))
    return found


def is_foreign(source: str, point: str, directory: str) -> bool:
    """A private mount of another daemon, or of another directory. Pure."""
    return source == SOURCE and os.path.dirname(point) != directory


def mount_points(mountinfo: str, fstype: str) -> list[str]:
    """In the order of mounting. Pure."""
    lines = (line.partition(" - ") for line in mountinfo.splitlines())
    return [unescape(head.split()[4]) for head, _, tail in lines if tail.split()[:1] == [fstype]]


def unescape(field: str) -> str:
    r"""Space, tab, newline, backslash stand as \040, \011, \012, \134 in mountinfo (proc_pid_mountinfo(5)). Pure."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def _mount(target: str, options: str) -> None:
    os.makedirs(target, mode=0o755, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        syscalls.mount(SOURCE, target, "cgroup", flags, options)
    except OSError:
        os.rmdir(target)
        raise


def _offered(directory: str) -> set[str]:
    """Controllers that this namespace can use already, on v1 or v2."""
    mountinfo = _mountinfo()
    offered = mounted_controllers(mountinfo, directory)
    for mount_point in mount_points(mountinfo, "cgroup2"):
        with open(f"{mount_point}/cgroup.controllers", encoding="ascii") as file:
            offered.update(file.read().split())
    return offered


def _mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
