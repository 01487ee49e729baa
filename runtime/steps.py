"""Each step of a start as data. Pure: what is to be done; `runtime/perform.py` does it, `runtime/plan.py` orders it.

`label` gives the word in "failed at step 'overlay' on …". A descriptor is an index into those that travel with the
plan, -1 for none; a *detached* mount is known by a name that an earlier step gave it. Paths are the job's unless the
field says otherwise. Standard library only.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

# By the monitor, with the host's power


class JoinGroups(NamedTuple):
    """Writes "0" into each cgroup.procs or tasks file."""

    procs: tuple[str, ...]

    def describe(self) -> str:
        return f"join {len(self.procs)} cgroups"


class Bind(NamedTuple):
    """A detached copy of one mount (not of those below it), from a host path or a descriptor."""

    name: str
    source: str = ""
    fd: int = -1
    read_only: bool = True
    device: bool = False  # a device node: without nodev
    idmap_fd: int = -1
    optional: bool = False  # no such source: the later Place is skipped too

    def describe(self) -> str:
        mode = "ro" if self.read_only else "rw"
        source = self.source or f"descriptor {self.fd}"
        return f"take {source} as {self.name} ({mode}{', idmapped' * (self.idmap_fd >= 0)})"


class Overlay(NamedTuple):
    """The job's root. Layers: host paths or "fd:N", top first. Without `upper` and `upper_fd` a tmpfs is the upper."""

    lower: tuple[str, ...]
    idmap_fd: int
    upper: str
    upper_fd: int
    tmpfs_bytes: int
    owner: int  # host id that owns the root folder

    def describe(self) -> str:
        return f"overlay of {len(self.lower)} layers"


class RootFolder(NamedTuple):
    """Makes a mount point, with its parents, in the detached root where missing: a file where `like_fd` is one."""

    path: str
    owner: int
    like_fd: int = -1

    def describe(self) -> str:
        return f"mount point {self.path} in the root"


class RootFile(NamedTuple):
    """Replaces what is at `path` in the detached root by a file with `text`, or by a link to `link`."""

    path: str
    owner: int
    text: str = ""
    link: str = ""

    def describe(self) -> str:
        return f"write {self.path} in the root"


class Private(NamedTuple):
    """A folder beside `upper`, on the same limited filesystem, as a detached mount: disk space without overlay."""

    name: str
    folder: str
    owner: int
    mode: int

    def describe(self) -> str:
        return f"folder {self.folder} of the writable layer as {self.name}"


# By the process between monitor and container: still with the host's power, then no longer


class EnterNamespaces(NamedTuple):
    userns_fd: int
    netns_fd: int  # -1: stays in the host's

    def describe(self) -> str:
        return "enter the slot's user" + (" and network" if self.netns_fd >= 0 else "") + " namespace"


# By the container: root of the job's user namespace


class BecomeRoot(NamedTuple):
    """Before any file is made: ids that the namespace does not map give EOVERFLOW."""

    def describe(self) -> str:
        return "become root of the user namespace"


class Hostname(NamedTuple):
    name: str

    def describe(self) -> str:
        return f"hostname {self.name}"


class Fresh(NamedTuple):
    """A new filesystem at `target`. `plain`: no symbolic link may be on the way."""

    fstype: str
    target: str
    options: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    executable: bool = True
    plain: bool = False

    def describe(self) -> str:
        return f"mount {self.fstype} at {self.target}" + " (ro)" * self.read_only


class Place(NamedTuple):
    """Moves a detached mount to `target`, which is made where it is missing and the job's root may make it."""

    name: str
    target: str

    def describe(self) -> str:
        return f"place {self.name} at {self.target}"


class Folder(NamedTuple):
    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def describe(self) -> str:
        return f"folder {self.path}"


class Link(NamedTuple):
    path: str
    to: str

    def describe(self) -> str:
        return f"link {self.path} to {self.to}"


class File(NamedTuple):
    path: str
    text: str
    mode: int

    def describe(self) -> str:
        return f"write {self.path}"


class Cover(NamedTuple):
    """Hides what is there: a file behind /dev/null, a folder behind an empty read-only one. Absent: nothing to hide."""

    path: str

    def describe(self) -> str:
        return f"hide {self.path}"


class ReadOnly(NamedTuple):
    """A folder or file of a filesystem made before, read-only. Absent: nothing to do."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"


class Pivot(NamedTuple):
    """The job's root becomes the root; the old one is let go."""

    def describe(self) -> str:
        return "pivot_root"


# After go: powers are given up one by one. Also done by a process that enters a running job.


class Limits(NamedTuple):
    """(number, soft, hard) as setrlimit(2) knows them; never above the hard limit that is there."""

    limits: tuple[tuple[int, int, int], ...]

    def describe(self) -> str:
        return f"{len(self.limits)} resource limits"


class Affinity(NamedTuple):
    """() gives back every CPU that the cpuset allows."""

    cpus: tuple[int, ...]

    def describe(self) -> str:
        return f"CPUs {', '.join(map(str, self.cpus)) or 'all'}"


class Interleave(NamedTuple):
    """New pages go round these memory nodes, as far as the cpuset has them; a program may set another policy."""

    nodes: tuple[int, ...]

    def describe(self) -> str:
        return f"interleave memory over nodes {', '.join(map(str, self.nodes))}"


class DropBounding(NamedTuple):
    """Needs CAP_SETPCAP, so before the ids change; without it an exec by uid 0 would give capabilities back."""

    def describe(self) -> str:
        return "empty the bounding and ambient sets"


class BecomeUser(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]

    def describe(self) -> str:
        return f"become uid {self.uid}, gid {self.gid}, groups {list(self.groups)}"


class DropCapabilities(NamedTuple):
    def describe(self) -> str:
        return "empty the effective, permitted and inheritable sets"


class NoNewPrivileges(NamedTuple):
    def describe(self) -> str:
        return "no_new_privs"


class Keyring(NamedTuple):
    def describe(self) -> str:
        return "a session keyring of its own"


class WorkingFolder(NamedTuple):
    """Entered with the job's own rights; never through a magic link such as /proc/self/fd/7 (CVE-2024-21626)."""

    path: str

    def describe(self) -> str:
        return f"enter {self.path}"


class FindProgram(NamedTuple):
    """The program must exist and be executable now: the reaper could tell a missing one by an exit status only."""

    program: str
    search: str  # PATH

    def describe(self) -> str:
        return f"look for {self.program}"


class CloseDescriptors(NamedTuple):
    """All from 3 on, at execve."""

    def describe(self) -> str:
        return "close every descriptor but 0, 1, 2"


class Seccomp(NamedTuple):
    """Compiled BPF, base64. Last before execve, so that the list needs to allow nothing that only we do."""

    program: str

    def describe(self) -> str:
        return "seccomp filter"


class Execute(NamedTuple):
    """execve of `path`, or of the program found before when it is ""."""

    path: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return f"execve {' '.join((self.path, *self.argv[1:]))}"


Step = (
    JoinGroups | Bind | Overlay | RootFolder | RootFile | Private | EnterNamespaces | BecomeRoot | Hostname | Fresh
    | Place | Folder | Link | File | Cover | ReadOnly | Pivot | Limits | Affinity | Interleave | DropBounding
    | BecomeUser | DropCapabilities | NoNewPrivileges | Keyring | WorkingFolder | FindProgram | CloseDescriptors
    | Seccomp | Execute
)  # fmt: skip

_LABELS: dict[Any, str] = {
    JoinGroups: "cgroup",
    Bind: "bind",
    Overlay: "overlay",
    RootFolder: "mount-point",
    RootFile: "root-file",
    Private: "private-folder",
    EnterNamespaces: "namespaces",
    BecomeRoot: "become-root",
    Hostname: "hostname",
    Place: "mount",
    Folder: "folder",
    Link: "link",
    File: "file",
    Cover: "mask",
    ReadOnly: "read-only",
    Pivot: "pivot-root",
    Limits: "rlimit",
    Affinity: "affinity",
    Interleave: "memory-policy",
    DropBounding: "capabilities",
    BecomeUser: "setuid",
    DropCapabilities: "capabilities",
    NoNewPrivileges: "no-new-privs",
    Keyring: "keyring",
    WorkingFolder: "workdir",
    FindProgram: "exec",
    CloseDescriptors: "close-range",
    Seccomp: "seccomp",
    Execute: "execve",
    Fresh: "mount",
}
_CLASSES: dict[str, Any] = {cls.__name__: cls for cls in _LABELS}


def label(step: Step) -> str:
    """The step's word in messages and in tests."""
    return f"mount-{step.fstype}" if isinstance(step, Fresh) else _LABELS[type(step)]


class Stages(NamedTuple):
    """A whole start, in order of time and of falling privilege."""

    prepare: tuple[Step, ...] = ()
    enter: tuple[Step, ...] = ()
    container: tuple[Step, ...] = ()
    drop: tuple[Step, ...] = ()


class MonitorOrders(NamedTuple):
    """All that the monitor needs of a plan; the stages would only sit in its memory for as long as the job runs."""

    execution_id: str
    spool: str
    log_limit_bytes: int
    output_uid: int  # host ids that own the pipes: the job may open /dev/stdout
    output_gid: int
    mon_procs: tuple[str, ...]  # its own groups


class ExecOrders(NamedTuple):
    """What a process that enters a running job is told."""

    tty: bool
    join: tuple[str, ...]  # the agent's own groups, job/mon
    run_procs: tuple[str, ...]
    run_unified: str
    freezers: tuple[str, ...]  # files that say whether the group is frozen
    output_uid: int
    output_gid: int
    drop: tuple[Step, ...]


def plan_to_json(orders: MonitorOrders, stages: Stages) -> bytes:
    """Two lines, so that each reader parses its own only."""
    return json.dumps(orders).encode() + b"\n" + json.dumps(_plain(stages)).encode()


def monitor_orders_from_json(data: bytes) -> MonitorOrders:
    return MonitorOrders._make(map(_tuples, json.loads(data.partition(b"\n")[0])))


def stages_from_json(data: bytes) -> Stages:
    return Stages._make(map(_steps, json.loads(data.partition(b"\n")[2])))


def exec_orders_to_json(orders: ExecOrders) -> bytes:
    return json.dumps(_plain(orders)).encode()


def exec_orders_from_json(data: bytes) -> ExecOrders:
    fields: list[Any] = json.loads(data)
    return ExecOrders._make([*map(_tuples, fields[:-1]), _steps(fields[-1])])


def _plain(value: Any) -> Any:
    if type(value).__name__ in _CLASSES:
        return [type(value).__name__, *map(_plain, value)]
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _steps(values: list[list[Any]]) -> tuple[Step, ...]:
    return tuple(_CLASSES[name](*map(_tuples, fields)) for name, *fields in values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
