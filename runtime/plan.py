"""From a job's spec and what was leased for it to the ordered steps of its start. Pure.

The order is what docs/design/kernel.md forces; a delicate place says why; tests/unit/runtime/test_plan.py guards it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.events import Owner
from jobs.host import HostCaps
from jobs.spec import JobSpec
from runtime import steps as s
from runtime.steps import Step

INSIDE_IDS = 65536  # ids 0 to 65535 inside a job are id_base + id outside
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN = "/run/jobs"  # our folder inside the job: reaper, script, hosts
TTY_GROUP = 5  # Debian's and nearly everybody's gid of `tty`
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What containers.conf(5), runc and systemd-nspawn hide or protect: it tells about the host or acts on it.
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
FRESH_PLACES = ("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/home")  # a host image's own are never seen
RLIMIT_CORE, RLIMIT_NOFILE = 4, 7  # asm-generic/resource.h
RLIMITS = ((RLIMIT_CORE, 0, 0), (RLIMIT_NOFILE, 1024, 524288))  # systemd's defaults; a core is no output of a job
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LEAST_TMPFS = 16 << 20


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """Layers of a root, top first: absolute host paths, or "fd:N" for the N-th descriptor that travels with the plan.

    `idmapped`: the job's root owns what root owns in the layers. Never for folders that we did not unpack ourselves.
    """

    kind: str  # "host" | "layers"
    lower: tuple[str, ...]
    idmapped: bool = False
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoundMount:
    """`fd`: index of an O_PATH descriptor that was opened with the submitter's rights. `idmap_fd`: index, or -1."""

    fd: int
    target: str
    read_only: bool = True
    idmap_fd: int = -1


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a start depends on. Descriptors are indices of the list given to `Launcher.create`."""

    execution_id: str
    spec: JobSpec
    owner: Owner
    caps: HostCaps
    id_base: int
    image: ImageRoot
    spool: str
    hostname: str
    init: str
    userns_fd: int
    netns_fd: int = -1  # -1: the host's network
    extra_ids: tuple[tuple[int, int], ...] = ()  # (inside, outside) of uids above 65535
    extra_gids: tuple[tuple[int, int], ...] = ()
    mon_procs: tuple[str, ...] = ()
    run_procs: tuple[str, ...] = ()
    run_unified: str = ""
    upper: str = ""  # host folder with `upper` and `work` inside
    upper_fd: int = -1  # or its descriptor; neither: a tmpfs
    hosts_dir: str = ""  # host folder with the file `hosts`, which may be replaced by rename at any time
    resolv: str = ""
    devices: tuple[str, ...] = ()  # device nodes of the host that come with its generic resources
    cpus: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()  # the host's memory nodes
    mounts: tuple[BoundMount, ...] = ()
    hide: tuple[str, ...] = ()  # host paths to hide in a host image
    log_limit_bytes: int = 1 << 30
    env: tuple[tuple[str, str], ...] = ()
    seccomp: bytes = b""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the program runs as: ids inside, and the host's ids behind them."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    host_uid: int
    host_gid: int


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    orders: s.MonitorOrders
    stages: s.Stages

    def to_bytes(self) -> bytes:
        """For monitor and container; the launcher passes it on unread."""
        return s.plan_to_json(self.orders, self.stages)

    def describe(self) -> list[str]:
        """One line per step, with its stage and label."""
        return [
            f"{stage}: {s.label(step)}: {step.describe()}"
            for stage, listed in zip(s.Stages._fields, self.stages, strict=True)
            for step in listed
        ]


def plan(inputs: Inputs) -> LaunchPlan:
    """The steps of one start, in the only order that works."""
    who = identity(inputs.spec, inputs.owner, inputs.id_base, inputs.extra_ids, inputs.extra_gids)
    orders = s.MonitorOrders(
        execution_id=inputs.execution_id,
        spool=inputs.spool,
        log_limit_bytes=inputs.log_limit_bytes,
        output_uid=who.host_uid,
        output_gid=who.host_gid,
        mon_procs=inputs.mon_procs,
    )
    stages = s.Stages(
        prepare=tuple(_host_power(inputs)),
        enter=tuple(_entering(inputs)),
        container=tuple(_container(inputs, who)),
        drop=tuple(_payload(inputs, who)),
    )
    return LaunchPlan(orders, stages)


# ── ids ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def identity(
    spec: JobSpec,
    owner: Owner,
    id_base: int,
    extra_ids: tuple[tuple[int, int], ...] = (),
    extra_gids: tuple[tuple[int, int], ...] = (),
) -> Identity:
    """`run_as` resolved. Groups without a place in the job's map are left out. Raises ValueError for an unmapped id."""
    if spec.run_as == "me":
        uid, gid, groups = owner.uid, owner.gid, owner.groups
    else:
        uid = 0 if spec.run_as == "root" else int(spec.run_as)
        gid, groups = (uid if uid < INSIDE_IDS else owner.gid), ()
    mapped = tuple(group for group in groups if _outside(group, id_base, extra_gids) is not None)
    host_uid, host_gid = _outside(uid, id_base, extra_ids), _outside(gid, id_base, extra_gids)
    if host_uid is None or host_gid is None:
        raise ValueError(f"uid {uid} or gid {gid} has no place in the job's id map")
    return Identity(uid, gid, mapped, host_uid, host_gid)


def _outside(inside: int, id_base: int, extra: tuple[tuple[int, int], ...]) -> int | None:
    return id_base + inside if 0 <= inside < INSIDE_IDS else dict(extra).get(inside)


# ── the host's power ────────────────────────────────────────────────────────────────────────────────────────────────


def _host_power(inputs: Inputs) -> list[Step]:
    """Detached mounts. The overlay comes after the binds: for it the host's mount namespace is left."""
    image_owner = inputs.id_base if inputs.image.idmapped else 0
    found: list[Step] = [s.Bind(f"dev/{name}", f"/dev/{name}", read_only=False, device=True) for name in DEVICES]
    found += [s.Bind(path, path, read_only=False, device=True) for path in _devices(inputs)]
    found.append(s.Bind("init", inputs.init))
    if inputs.hosts_dir:
        found.append(s.Bind("hosts", inputs.hosts_dir))
    if inputs.netns_fd < 0:
        found.append(s.Bind("sys", "/sys"))  # mounting a new one is for the owner of the network namespace
    found += [s.Bind(path, path, optional=True) for path in _submounts(inputs)]
    for index, mount in enumerate(inputs.mounts):
        found.append(s.Bind(f"mount-{index}", fd=mount.fd, read_only=mount.read_only, idmap_fd=mount.idmap_fd))
    found.append(
        s.Overlay(
            inputs.image.lower,
            inputs.userns_fd if inputs.image.idmapped else -1,
            inputs.upper,
            inputs.upper_fd,
            inputs.spec.image.writable_bytes,
            image_owner,
        )
    )
    if inputs.image.kind == "host":
        found.append(s.Private("var-tmp", "var-tmp", inputs.id_base, 0o1777))
    found += _root_folders(inputs, image_owner)
    if inputs.resolv:
        found.append(s.RootFile("/etc/resolv.conf", image_owner, text=inputs.resolv))
    if inputs.hosts_dir:  # a link, so that the file's replacement by rename is seen inside
        found.append(s.RootFile("/etc/hosts", image_owner, link=f"{OWN}/hosts.d/hosts"))
    return found


def _devices(inputs: Inputs) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*inputs.spec.resources.devices, *inputs.devices)))


def _submounts(inputs: Inputs) -> list[str]:
    """Filesystems below the host's root, outermost first. Those that a fresh filesystem covers anyway are left out."""
    if inputs.image.kind != "host":
        return []
    return sorted(path for path in inputs.caps.submounts if not _below(path, (*FRESH_PLACES, *inputs.hide)))


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _root_folders(inputs: Inputs, owner: int) -> list[Step]:
    """Mount points that the root must have. Those below a fresh filesystem or a bound folder are looked for there."""
    host = inputs.image.kind == "host"
    own = ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc", *(["/root", "/home", "/var/tmp"] if host else [])]
    elsewhere = (*FRESH_PLACES, *_submounts(inputs)) if host else FRESH_PLACES[:5]
    found: list[Step] = [s.RootFolder(path, owner) for path in own]
    for mount in inputs.mounts:
        others = [other.target for other in inputs.mounts if other is not mount]
        if not _below(mount.target, (*elsewhere, *others)):
            found.append(s.RootFolder(mount.target, owner, mount.fd))
    return found


# ── between host and container ──────────────────────────────────────────────────────────────────────────────────────


def _entering(inputs: Inputs) -> list[Step]:
    """Groups first: joining needs the host's power, and a cgroup namespace shows "/" only of groups joined before."""
    unified = (f"{inputs.run_unified}/cgroup.procs",) if inputs.run_unified else ()
    procs = tuple(dict.fromkeys((*inputs.run_procs, *unified)))
    found: list[Step] = [s.JoinGroups(procs)] if procs else []
    return [*found, s.EnterNamespaces(inputs.userns_fd, inputs.netns_fd)]


# ── the container ───────────────────────────────────────────────────────────────────────────────────────────────────


def _container(inputs: Inputs, who: Identity) -> list[Step]:
    half = str(max(inputs.spec.resources.memory_bytes // 2, _LEAST_TMPFS))
    host = inputs.image.kind == "host"
    found: list[Step] = [s.BecomeRoot(), s.Hostname(inputs.hostname)]
    found += [s.Place(path, path) for path in _submounts(inputs)]
    found += [
        s.Fresh("proc", "/proc", executable=False, plain=True),
        *_sysfs(inputs),
        *_dev(inputs, half),
        s.Fresh("tmpfs", "/run", (("mode", "755"), ("size", half))),
        s.Fresh("tmpfs", "/tmp", (("mode", "1777"), ("size", half))),
    ]
    if host:
        found += [
            s.Place("var-tmp", "/var/tmp"),
            s.Fresh("tmpfs", "/root", (("mode", "700"), ("size", half))),
            s.Fresh("tmpfs", "/home", (("mode", "755"), ("size", half))),
        ]
    found += [s.Folder(OWN), s.Place("init", f"{OWN}/init")]
    if inputs.hosts_dir:
        found.append(s.Place("hosts", f"{OWN}/hosts.d"))
    if inputs.spec.script:
        found.append(s.File(f"{OWN}/script", inputs.spec.script, 0o555))
    home = _home(inputs)
    if home.startswith("/home/"):
        found.append(s.Folder(home, 0o700, who.uid, who.gid))
    if host:
        # What lies in a fresh place is not seen anyway; /run/jobs there, the default run folder, is OWN.
        found += [s.Cover(path) for path in inputs.hide if not _below(path, FRESH_PLACES)]
    # Outermost first: a mount below another one's target would be hidden by it.
    order = sorted(range(len(inputs.mounts)), key=lambda index: inputs.mounts[index].target.rstrip("/"))
    found += [s.Place(f"mount-{index}", inputs.mounts[index].target) for index in order]
    # After the job's own mounts, so that none of them can lie over a mask.
    found += [s.ReadOnly(path) for path in READ_ONLY]
    found += [s.Cover(path) for path in MASKED]
    found.append(s.Pivot())
    return found


def _sysfs(inputs: Inputs) -> list[Step]:
    own: Step = s.Fresh("sysfs", "/sys", read_only=True, executable=False, plain=True)
    return [own if inputs.netns_fd >= 0 else s.Place("sys", "/sys"), *_cgroups(inputs.caps)]


def _cgroups(caps: HostCaps) -> list[Step]:
    """The hierarchies as the job's cgroup namespace shows them, read-only, with the host's folder names.

    Beside a v2 that has all the rest, net_cls and net_prio are not shown: language runtimes look for their limits at
    /sys/fs/cgroup itself, and a v1 layout there would hide them.
    """
    by_path: dict[str, list[str]] = {}
    for mount in caps.controllers.values():
        if mount.version == 1:
            by_path.setdefault(mount.path, []).append("blkio" if mount.controller == "io" else mount.controller)
    if caps.unified and all(name in ("net_cls", "net_prio") for names in by_path.values() for name in names):
        by_path = {}
    if not by_path:
        return [s.Fresh("cgroup2", "/sys/fs/cgroup", read_only=True, executable=False)] if caps.unified else []
    found: list[Step] = [s.Fresh("tmpfs", "/sys/fs/cgroup", (("mode", "755"), ("size", "1m")), executable=False)]
    for path, names in sorted(by_path.items()):
        folder = f"/sys/fs/cgroup/{path.rstrip('/').rpartition('/')[2]}"
        options = tuple((name, "") for name in sorted(names))
        found += [s.Folder(folder), s.Fresh("cgroup", folder, options, read_only=True, executable=False)]
    if caps.unified:
        folder = "/sys/fs/cgroup/unified"
        found += [s.Folder(folder), s.Fresh("cgroup2", folder, read_only=True, executable=False)]
    return [*found, s.ReadOnly("/sys/fs/cgroup")]


def _dev(inputs: Inputs, half: str) -> list[Step]:
    """Nodes are bound: mknod is not for a user namespace. /dev holds nothing of the image (CVE-2025-31133)."""
    found: list[Step] = [s.Fresh("tmpfs", "/dev", (("mode", "755"), ("size", "64k")), plain=True)]
    found += [s.Place(f"dev/{name}", f"/dev/{name}") for name in DEVICES]
    found += [s.Folder(path) for path in ("/dev/pts", "/dev/shm", "/dev/mqueue")]
    found += [s.Place(path, path) for path in _devices(inputs)]
    pts = (("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", str(TTY_GROUP)))
    found += [
        s.Fresh("devpts", "/dev/pts", pts, executable=False),
        s.Fresh("tmpfs", "/dev/shm", (("mode", "1777"), ("size", half)), executable=False),
        s.Fresh("mqueue", "/dev/mqueue", executable=False),
        s.Link("/dev/ptmx", "pts/ptmx"),
        s.Link("/dev/fd", "/proc/self/fd"),
    ]
    return [
        *found,
        *(s.Link(f"/dev/{name}", f"/proc/self/fd/{fd}") for fd, name in enumerate(("stdin", "stdout", "stderr"))),
    ]


# ── giving up powers ────────────────────────────────────────────────────────────────────────────────────────────────


def _payload(inputs: Inputs, who: Identity) -> list[Step]:
    """The reaper as pid 1, the program as its child."""
    env = environment(inputs)
    argv = (f"{OWN}/script",) if inputs.spec.script else inputs.spec.command
    return [*_drop(inputs, who, argv[0], env), s.Execute(f"{OWN}/init", ("init", "--", *argv), env)]


def _drop(inputs: Inputs, who: Identity, program: str, env: tuple[tuple[str, str], ...]) -> list[Step]:
    """Folder and program are looked at with the job's own rights: after the ids, before the filter."""
    found: list[Step] = [
        s.Limits(RLIMITS),
        s.Affinity(_pinned(inputs)),
        *([s.Interleave(inputs.nodes)] if inputs.spec.numa == "spread" and inputs.nodes else []),
        s.DropBounding(),
        s.BecomeUser(who.uid, who.gid, who.groups),
        s.DropCapabilities(),
        s.NoNewPrivileges(),
        s.Keyring(),
        s.WorkingFolder(workdir(inputs)),
        s.FindProgram(program, dict(env).get("PATH", PATH)),
        s.CloseDescriptors(),
    ]
    return [*found, s.Seccomp(base64.b64encode(inputs.seccomp).decode())] if inputs.seccomp else found


def _pinned(inputs: Inputs) -> tuple[int, ...]:
    """Where a cpuset holds the job, no mask of its own: since Linux 6.2 a mask is kept beside the cpuset, and after a
    resume on other CPUs the job would get only those that are in both (docs/design/placement-kernel.md).
    """
    return () if "cpuset" in inputs.caps.controllers else inputs.cpus


def exec_request(
    inputs: Inputs, argv: Sequence[str], *, tty: bool, env: Sequence[tuple[str, str]] = (), freezers: Sequence[str] = ()
) -> bytes:
    """For `Launcher.open_exec`: the same user, groups, limits and filter as the job's own program; no reaper.

    `freezers`: paths of cgroup.events or freezer.state files; a frozen group is refused with EBUSY.
    """
    who = identity(inputs.spec, inputs.owner, inputs.id_base, inputs.extra_ids, inputs.extra_gids)
    values = tuple((dict(environment(inputs)) | {"TERM": "xterm"} | dict(env)).items())
    return s.exec_orders_to_json(
        s.ExecOrders(
            tty=tty,
            join=inputs.mon_procs,
            run_procs=inputs.run_procs,
            run_unified=inputs.run_unified,
            freezers=tuple(freezers),
            output_uid=who.host_uid,
            output_gid=who.host_gid,
            drop=(*_drop(inputs, who, argv[0], values), s.Execute("", tuple(argv), values)),
        )
    )


# ── what the program finds ──────────────────────────────────────────────────────────────────────────────────────────


def workdir(inputs: Inputs) -> str:
    """The spec's; else the bound folder of submission; else the image's; else the root."""
    submitted = inputs.spec.submitted_from if inputs.spec.submit_dir != "none" else ""
    return inputs.spec.workdir or submitted or inputs.image.workdir or "/"


def environment(inputs: Inputs) -> tuple[tuple[str, str], ...]:
    """Built from nothing; of the launcher's own environment nothing gets in. Later ones win: image, daemon, spec."""
    name = _user_name(inputs)
    base = {"PATH": PATH, "HOME": _home(inputs), "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}
    job = {"JOBS_ID": inputs.execution_id.partition(".")[0], "JOBS_EXECUTION": inputs.execution_id}
    return tuple((base | dict(inputs.image.env) | job | dict(inputs.env) | dict(inputs.spec.env)).items())


def _user_name(inputs: Inputs) -> str:
    if inputs.spec.run_as == "root":
        return "root"
    name = inputs.owner.name if inputs.spec.run_as == "me" else inputs.spec.run_as
    return name if _PLAIN_NAME.fullmatch(name) else str(inputs.owner.uid)


def _home(inputs: Inputs) -> str:
    name = _user_name(inputs)
    return "/root" if name == "root" else f"/home/{name}"
