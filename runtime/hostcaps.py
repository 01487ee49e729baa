"""What this host offers, probed once by the daemon. Parsing is pure (text in, values out); `probe` reads and tries.

Nothing is assumed: every controller is looked up in /proc/self/mountinfo and cgroup.controllers, so pure v2, pure v1
and hybrid hosts are rows of the same table.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from jobs.host import CONTROLLERS, ControllerMount, HostCaps
from runtime.cgroups import device_bpf, net_egress, programs
from runtime.cgroups.private_mounts import is_foreign, unescape

_KERNEL_NAME = {"io": "blkio"}  # ours → v1's
_V2_NAME = {"cpuacct": "cpu"}  # cpu.stat carries cpuacct's figures
_V2_ALWAYS = ("freezer", "devices")  # core files, and BPF
_NAMESPACES = {"pid", "net", "ipc", "mnt", "uts", "user", "cgroup", "time"}

# Filesystems without the host's software on them: the kernel's views, and what hangs when its server is away.
_PSEUDO = {
    "proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts", "tmpfs", "ramfs", "mqueue", "hugetlbfs", "debugfs",
    "tracefs", "securityfs", "configfs", "pstore", "efivarfs", "bpf", "binfmt_misc", "autofs", "fusectl", "rpc_pipefs",
    "nsfs", "selinuxfs", "sockfs", "pipefs", "nfsd", "resctrl",
}  # fmt: skip
_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "lustre", "gpfs", "glusterfs", "afs", "ncpfs",
    "ocfs2", "gfs2", "beegfs", "orangefs", "pvfs2", "davfs", "fuse",
}  # fmt: skip
# Mounted afresh in each job, or people's data, or the host's own business: a job gets these by its own mounts only.
_LEFT_OUT = (
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/boot", "/efi", "/home", "/root", "/mnt", "/media", "/srv",
    "/snap", "/lost+found",
)  # fmt: skip
_KERNELS = ("/proc", "/sys", "/dev", "/run", "/boot")
_REAPERS = ("catatonit", "tini-static")  # static programs that reap, kept by others


@dataclass(frozen=True, slots=True)
class MountLine:
    """One line of /proc/self/mountinfo."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    root: str
    point: str
    fstype: str
    source: str
    super_options: tuple[str, ...]


def parse_mountinfo(text: str) -> list[MountLine]:
    """In the order of mounting. Lines of another shape are left out: the file may be cut off or from a later kernel."""
    found = []
    for line in text.splitlines():
        head, separator, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3 or not re.fullmatch(r"\d+:\d+", fields[2]):
            continue
        major, _, minor = fields[2].partition(":")
        found.append(
            MountLine(
                mount_id=int(fields[0]),
                parent_id=int(fields[1]),
                device=(int(major), int(minor)),
                root=unescape(fields[3]),
                point=unescape(fields[4]),
                fstype=rest[0],
                source=unescape(rest[1]),
                super_options=tuple(rest[2].split(",")),
            )
        )
    return found


def visible(mounts: Iterable[MountLine]) -> list[MountLine]:
    """Without the mounts that a later one hides, at the same point or above it."""
    shown: list[MountLine] = []
    for mount in mounts:
        shown = [other for other in shown if other.point != mount.point and not _below(other.point, mount.point)]
        shown.append(mount)
    return shown


def find_controllers(
    mounts: Iterable[MountLine], v2_controllers: Callable[[str], str], private_dir: str = ""
) -> dict[str, ControllerMount]:
    """controller → where it lives; absent ones are missing. `v2_controllers(mount point)` reads cgroup.controllers.

    Of the mounts that daemons make for themselves only those in `private_dir` count: others go with their daemon.
    A hierarchy may be mounted more than once: the mount of its root wins over a part of it, the first over later ones.
    """
    shown = [mount for mount in visible(mounts) if not is_foreign(mount.source, mount.point, private_dir)]
    whole_first = sorted((mount for mount in shown if mount.fstype == "cgroup"), key=lambda mount: mount.root != "/")
    unified = find_unified(shown)
    offered = set(v2_controllers(unified).split()) if unified else set()
    found: dict[str, ControllerMount] = {}
    for name in CONTROLLERS:
        v1 = next((mount for mount in whole_first if _KERNEL_NAME.get(name, name) in mount.super_options), None)
        if v1 is not None:
            found[name] = ControllerMount(name, 1, v1.point)
        elif unified and (name in _V2_ALWAYS or _V2_NAME.get(name, name) in offered):
            found[name] = ControllerMount(name, 2, unified)
    return found


def find_unified(mounts: Iterable[MountLine]) -> str:
    """Mount point of cgroup2, or "". The mount of its root wins over a part of it."""
    points = sorted((mount for mount in mounts if mount.fstype == "cgroup2"), key=lambda mount: mount.root != "/")
    return points[0].point if points else ""


def find_submounts(mounts: Iterable[MountLine]) -> tuple[str, ...]:
    """Real filesystems with the host's software on them that an overlay of `/` alone would not show, such as /usr."""
    shown = visible(mounts)
    points = [mount.point for mount in shown if mount.point != "/" and _is_software(mount)]
    return tuple(sorted(points))


def may_hang(fstype: str) -> bool:
    """Filesystems of a server, or mounted by being looked at: nothing but their name is known without waiting."""
    return fstype.split(".")[0] in _NETWORK or fstype == "autofs"  # fuse.sshfs


def is_for_files(mount: MountLine) -> bool:
    """Somebody's files may be on it: no view of the kernel's, no host software."""
    return mount.fstype not in _PSEUDO - {"tmpfs"} and not _is_software(mount) and not mount.point.startswith(_KERNELS)


def _is_software(mount: MountLine) -> bool:
    if mount.fstype in _PSEUDO or may_hang(mount.fstype):
        return False
    return not any(mount.point == place or _below(mount.point, place) for place in _LEFT_OUT)


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/") and path != folder


def parse_hugepage_sizes(names: Iterable[str]) -> tuple[int, ...]:
    """`hugepages-2048kB` → 2097152; from the names in /sys/kernel/mm/hugepages."""
    matches = (re.fullmatch(r"hugepages-(\d+)kB", name) for name in names)
    return tuple(sorted(int(match[1]) << 10 for match in matches if match))


def parse_filesystems(text: str) -> frozenset[str]:
    """/proc/filesystems → names."""
    return frozenset(line.split()[-1] for line in text.splitlines() if line.split())


def forced_v1(caps: HostCaps) -> HostCaps:
    """The same host as if no unified hierarchy were mounted: v1's freezer and v1's way of killing."""
    v1 = {name: mount for name, mount in caps.controllers.items() if mount.version == 1}
    return replace(caps, controllers=v1, unified="", freezer="v1" if "freezer" in v1 else "")


def find_reaper(setting: str = "") -> str:
    """Path of what becomes pid 1 of jobs, "" where there is none. `setting`: a path that was asked for."""
    if setting:
        return setting if os.access(setting, os.X_OK) and os.path.isfile(setting) else ""
    places = "/usr/bin:/usr/sbin:/usr/local/bin:/bin"
    return next((found for name in _REAPERS if (found := shutil.which(name, path=places))), "")


def probe(private_dir: str = "", *, load: bool = True) -> HostCaps:
    """Reads once, after `private_mounts.mount_missing(private_dir)`. A file that is missing means "has not".

    `load`: BPF programs are loaded for a moment, to know whether they can be.
    """
    mounts = parse_mountinfo(_text("/proc/self/mountinfo"))
    unified = find_unified(visible(mounts))
    controllers = find_controllers(mounts, lambda point: _text(f"{point}/cgroup.controllers"), private_dir)
    return HostCaps(
        kernel=os.uname().release,
        boot_id=_text("/proc/sys/kernel/random/boot_id").strip(),
        controllers=controllers,
        unified=unified,
        freezer="v2" if unified else "v1" if "freezer" in controllers else "",
        namespaces=frozenset(_NAMESPACES & set(_names("/proc/self/ns"))),
        submounts=find_submounts(mounts),
        features=frozenset(_features(load)),
        hugepage_sizes=parse_hugepage_sizes(_names("/sys/kernel/mm/hugepages")),
    )


def _features(load: bool) -> Iterable[str]:
    """Each by what the kernel shows. What only trying can tell (idmapping a filesystem) is tried at its use."""
    filesystems = parse_filesystems(_text("/proc/filesystems"))
    lsm = _text("/sys/kernel/security/lsm").strip().split(",")
    found = {
        "overlay": "overlay" in filesystems,
        "loop": os.path.exists("/dev/loop-control"),
        "fuse": os.path.exists("/dev/fuse"),
        "psi": os.path.exists("/proc/pressure/cpu"),
        "swap": len(_text("/proc/swaps").splitlines()) > 1,
        "seccomp": os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        "apparmor": "apparmor" in lsm,
        "landlock": "landlock" in lsm,
        "selinux": "selinux" in lsm,
        "nft": shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin") is not None,
        "criu": shutil.which("criu", path="/usr/sbin:/sbin:/usr/bin:/bin") is not None,
        "idmap": _kernel_at_least((5, 12)),
        "cgroup-kill": _kernel_at_least((5, 14)),
        "bpf-devices": load and programs.loadable(programs.DEVICE, device_bpf.program(())),
        "bpf-egress": load and programs.loadable(programs.EGRESS, net_egress.program(1)),
    }
    return (name for name, has in found.items() if has)


def _kernel_at_least(wanted: tuple[int, int]) -> bool:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return match is not None and (int(match[1]), int(match[2])) >= wanted


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
