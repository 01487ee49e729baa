"""What was seen of a host, as values that go through JSON: a user can send them, a test replays them. Pure.

Nothing here is judged (scheduler/doctor/diagnose.py does that), and nothing names the machine: no host name, no
hardware address, no serial number. A fact that could not be had keeps its default, which says "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from jobs.host import ControllerMount, HostCaps
from runtime.outcome import Outcome

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Folder:
    """A place that matters, and the filesystem it is on."""

    role: str  # "state" | "run" | "root" | "home" | "tmp" | "here" | "mount"
    path: str
    fstype: str
    point: str = ""  # where that filesystem is mounted
    remote: bool = False  # of a server, or mounted by being looked at: it may hang, so it was not touched
    exists: bool = True
    writable: bool = True  # by whom asks; False on a read-only mount
    free_bytes: int = -1  # -1: not looked at


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup hierarchy, and whether groups can be made where the product's root group goes."""

    version: int
    point: str
    writable: bool
    parent: str = ""  # the folder that is there of point/cgroup_root, or above it


@dataclass(frozen=True, slots=True)
class Machine:
    """CPUs and memory. Lists of CPUs as the kernel writes them: 0-3,8."""

    cpus: int = 0  # that this process may use
    online: str = ""
    offline: str = ""
    isolated: str = ""  # kept free of everybody at boot; jobs get them by a setting only
    allowed: str = ""
    nodes: tuple[int, ...] = ()
    memory_only: tuple[int, ...] = ()
    memory_bytes: int = 0
    swap_bytes: int = 0
    hugepages: dict[str, int] = field(default_factory=dict)  # "2MiB" → reserved pages


@dataclass(frozen=True, slots=True)
class Wires:
    """The host's network, as far as jobs depend on it."""

    binding: str = ""  # why libnftables can't be used from Python; "": it can
    uplink: str = ""  # interface of the default route
    queue: str = ""  # its root queue: "htb 4a0b:", "fq_codel 0:"; "" is not known
    routes: tuple[str, ...] = ()  # networks that the main table leads to, but by our bridge
    bridge: str = ""  # "": no link of that name; "ours" | "foreign"
    obstacles: tuple[str, ...] = ()  # chains of others that drop what is forwarded
    legacy: tuple[str, ...] = ()  # tables of iptables-legacy, whose rules can't be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`tries`: name → how it went (runtime/hostprobe.py); a name that is missing was not tried."""

    asked_by: str = "doctor"  # "doctor" | "jobsd" | "launcher"
    kernel: str = ""
    machine: str = ""  # uname -m
    distribution: str = ""  # "Debian GNU/Linux 12 (bookworm)"
    family: str = ""  # of package names: debian | fedora | suse | arch | alpine | ""
    init: str = ""  # "systemd" where that runs the host
    container: str = ""  # what told that this is one; "" where nothing did
    uid: int = 0
    own_users: bool = False  # in a user namespace that is not the host's
    capabilities: tuple[str, ...] = ()  # effective
    caps: HostCaps
    hierarchies: tuple[Hierarchy, ...] = ()
    compiled: dict[str, int] = field(default_factory=dict)  # enabled v1 controllers → number of their hierarchy
    disabled: tuple[str, ...] = ()  # controllers switched off at boot
    passed_on: dict[str, str] = field(default_factory=dict)  # existing v2 group on the way to ours → cgroup.controllers
    held: str = ""  # a v2 group on the way to ours whose processes are not ours to move, and so passes nothing on
    swap_limited: bool | None = None  # whether a job's swap can be limited
    io_weights: bool | None = None  # whether any disk's scheduler looks at weights
    core: Machine = field(default_factory=Machine)
    wires: Wires = field(default_factory=Wires)
    folders: tuple[Folder, ...] = ()
    modules: dict[str, str] = field(default_factory=dict)  # name → one of parsing.MODULE_STATES
    programs: dict[str, str] = field(default_factory=dict)  # name → path, "" where it is not found
    init_program: str = ""  # what would be pid 1 of jobs; "": none
    seccomp_policy: str = ""  # why the allow list can't be compiled; "": it can
    sysctls: dict[str, str] = field(default_factory=dict)
    read_only_sysctls: bool = False
    lsms: tuple[str, ...] = ()
    selinux: str = ""  # "enforcing" | "permissive" | ""
    subordinate: tuple[tuple[int, int], ...] = ()  # (first, count) of /etc/subuid and /etc/subgid
    accounts: tuple[int, ...] = ()  # uids of /etc/passwd inside our range
    open_files: int = -1  # hard limit
    clock_behind_s: float = 0.0  # how far the clock is before the time of our own files
    zones: bool = True  # whether time zones are installed
    tries: dict[str, Outcome] = field(default_factory=dict)

    @property
    def version(self) -> tuple[int, int]:
        """Of the kernel; (0, 0) when it is not known."""
        parts = self.kernel.split(".")
        digits = ["".join(char for char in part if char.isdigit()) for part in (*parts, "", "")[:2]]
        return (int(digits[0]), int(digits[1])) if digits[0] and digits[1] else (0, 0)

    @property
    def powerless(self) -> bool:
        """A plain user, or root without the one capability that is behind most of what is tried, or of less than it."""
        return self.uid != 0 or self.own_users or "sys_admin" not in self.capabilities

    @property
    def untold(self) -> str:
        """Why something is not known."""
        if self.uid != 0:
            return "only root can tell"
        if self.own_users:
            return "not told from inside a user namespace"
        return "not told without CAP_SYS_ADMIN" if self.powerless else "not tried"

    def tried(self, name: str) -> bool | None:
        """None when it was not tried, could not be, or was refused to one whom everything is refused."""
        outcome = self.tries.get(name)
        if outcome is None or (not outcome.worked and self._explained(outcome)):
            return None
        return outcome.worked

    def _explained(self, outcome: Outcome) -> bool:
        """By who asks, not by the host."""
        return self.own_users or (self.powerless and outcome.said.startswith(("EPERM", "EACCES")))

    def said(self, name: str) -> str:
        """What was found, or why not; "" where the answer tells of who asked, not of the host."""
        outcome = self.tries.get(name)
        return outcome.said if outcome and self.tried(name) is not None else ""

    def folder(self, role: str) -> Folder | None:
        return next((each for each in self.folders if each.role == role), None)


def to_json(facts: Facts) -> dict[str, Any]:
    found = asdict(facts)
    found["format"] = FORMAT
    found["caps"] = _caps_to_json(facts.caps)
    found["tries"] = {name: list(outcome) for name, outcome in facts.tries.items()}
    return found


def from_json(data: Mapping[str, Any]) -> Facts:
    """Keys of a later version are left out, missing ones keep their defaults."""
    known = {item.name for item in fields(Facts)}
    given = {key: _tuples(value) for key, value in data.items() if key in known}
    given["caps"] = _caps_from_json(data["caps"])
    given["hierarchies"] = tuple(_plain(Hierarchy, item) for item in data.get("hierarchies", ()))
    given["folders"] = tuple(_plain(Folder, item) for item in data.get("folders", ()))
    given["core"] = _plain(Machine, data.get("core", {}))
    given["wires"] = _plain(Wires, data.get("wires", {}))
    given["tries"] = {name: Outcome(*item) for name, item in data.get("tries", {}).items()}
    return Facts(**given)


def _plain(kind: type[Any], data: Mapping[str, Any]) -> Any:
    known = {item.name for item in fields(kind)}
    return kind(**{key: _tuples(value) for key, value in data.items() if key in known})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _caps_to_json(caps: HostCaps) -> dict[str, Any]:
    return {
        "kernel": caps.kernel,
        "controllers": {name: [mount.version, mount.path] for name, mount in caps.controllers.items()},
        "unified": caps.unified,
        "freezer": caps.freezer,
        "namespaces": sorted(caps.namespaces),
        "submounts": list(caps.submounts),
        "features": sorted(caps.features),
        "hugepage_sizes": list(caps.hugepage_sizes),
    }


def _caps_from_json(data: Mapping[str, Any]) -> HostCaps:
    mounts = {name: ControllerMount(name, *place) for name, place in data.get("controllers", {}).items()}
    return HostCaps(
        kernel=data.get("kernel", ""),
        boot_id="",
        controllers=mounts,
        unified=data.get("unified", ""),
        freezer=data.get("freezer", ""),
        namespaces=frozenset(data.get("namespaces", ())),
        submounts=tuple(data.get("submounts", ())),
        features=frozenset(data.get("features", ())),
        hugepage_sizes=tuple(data.get("hugepage_sizes", ())),
    )
