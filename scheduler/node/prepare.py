"""What an execution needs before the launcher is asked: slot, cgroups, writable layer, image, mounts; then the plan.

Each thing taken is pushed on `Undo` at once. Mount sources and image folders are opened by the launcher with the
submitter's own rights, never the daemon's, and travel as descriptors (DESIGN §10).
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from config.settings import Settings
from jobs.errors import HostError, StepFailed
from jobs.events import Event, Owner
from jobs.host import HostCaps, Topology
from jobs.placement import Placement
from jobs.record import Record
from jobs.spec import JobSpec, Mount
from jobs.units import parse_size
from netbridge.network import Attachment, Network
from runtime import exitrecord
from runtime.cgroups.limits import Limits, limits_of
from runtime.cgroups.tree import CgroupTree, JobGroup
from runtime.client import Launcher
from runtime.images.store import ImageStore
from runtime.images.uppers import Uppers
from runtime.plan import BoundMount, ImageRoot, Inputs, plan
from scheduler.node.leases import INSIDE_IDS, Slot, SlotPool
from scheduler.node.undo import Undo


@dataclass(slots=True)
class Host:
    """Everything of this host that executions share; made once by `scheduler.daemon`."""

    node_id: str
    settings: Settings
    caps: HostCaps
    topology: Topology
    tree: CgroupTree
    slots: SlotPool
    uppers: Uppers
    images: ImageStore
    network: Network | None
    launcher: Callable[[], Awaitable[Launcher]]
    report: Callable[[Event], Awaitable[object]]
    init: str  # path of the static reaper
    seccomp: bytes
    io_devices: tuple[str, ...] = ()  # "major:minor" of the disks that io limits are written for


@dataclass(slots=True)
class Prepared:
    """A container that is ready to be created, or one that was adopted (then without plan and fds)."""

    group: JobGroup
    slot: Slot | None
    address: str = ""
    plan: bytes = b""
    fds: tuple[int, ...] = ()
    owned_fds: list[int] = field(default_factory=list)
    init_pid: int = 0
    run_as: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"

    def close_fds(self) -> None:
        while self.owned_fds:
            os.close(self.owned_fds.pop())


def identity(spec: JobSpec, owner: Owner) -> tuple[int, int, tuple[int, ...]]:
    """(uid, gid, groups) of the program, as ids inside the job's user namespace."""
    if spec.run_as == "me":
        return owner.uid, owner.gid, owner.groups
    if spec.run_as == "root":
        return 0, 0, ()
    return int(spec.run_as), int(spec.run_as) if int(spec.run_as) < INSIDE_IDS else owner.gid, ()


def limits(host: Host, record: Record) -> Limits:
    """Limits of the record as it is now: its placement, weights and class."""
    if record.placement is None:
        raise HostError(f"job {record.job} has no placement")
    return limits_of(
        record.spec,
        record.placement,
        cpu_weight=record.cpu_weight,
        io_weight=record.io_weight,
        network_class=record.network_class,
        devices=record.spec.resources.devices,
        interfaces=host.network.interfaces() if host.network is not None else (),
        io_devices=host.io_devices,
    )


async def prepare(host: Host, record: Record, undo: Undo) -> Prepared:
    """Raises StepFailed or another JobsError; what was taken until then is on `undo`."""
    spec, owner, execution = record.spec, record.owner, str(record.execution)
    spool = f"{host.settings.state_dir}/spool/{execution}"
    os.makedirs(spool, mode=0o700, exist_ok=True)
    uid, gid, groups = identity(spec, owner)

    slot = await host.slots.acquire(spec.network.mode, (uid,), (gid, *groups))
    undo.push("slot", lambda: host.slots.release(slot))
    _write_lease(spool, slot)

    group = host.tree.create(execution, limits(host, record))
    undo.push("cgroups", group.remove)

    prepared = Prepared(group, slot, slot.attachment.address if slot.attachment else "")
    fds = _Fds(prepared.owned_fds)
    try:
        userns = fds.borrow(slot.userns)
        netns = fds.borrow(slot.netns) if slot.netns >= 0 else -1
        upper = await host.uppers.acquire(spec.image.writable_bytes)
        undo.push("writable layer", lambda: host.uppers.release(upper))
        image = await _image(host, spec, owner, undo, fds)
        mounts = await _mounts(host, spec, owner, slot, (uid, gid, groups), fds)
        built = plan(
            Inputs(
                execution_id=execution,
                spec=spec,
                owner=owner,
                caps=host.caps,
                id_base=slot.id_base,
                extra_ids=slot.extra_uids,
                extra_gids=slot.extra_gids,
                mon_procs=group.mon_procs,
                run_procs=group.run_procs,
                run_unified=group.run_unified,
                image=image,
                upper=upper.path,
                spool=spool,
                hostname=f"job-{record.job}",
                hosts_dir=host.network.hosts_dir(owner.uid) if slot.attachment and host.network else "",
                resolv=host.network.resolv_conf() if host.network else "",
                init=host.init,
                cpus=record.placement.cpus if record.placement else (),
                userns_fd=userns,
                netns_fd=netns,
                mounts=mounts,
                hide=(host.settings.state_dir, host.settings.run_dir),
                log_limit_bytes=parse_size(host.settings.log_limit),
                env=(("JOBS_ID", str(record.job)), ("JOBS_EXECUTION", execution)),
                seccomp=host.seccomp,
            )
        )
    except BaseException:
        prepared.close_fds()
        raise
    prepared.plan, prepared.fds = built.to_bytes(), fds.given()
    return prepared


class _Fds:
    """The descriptors that go with the plan; the plan names them by their index here."""

    def __init__(self, owned: list[int]) -> None:
        self._fds: list[int] = []
        self._owned = owned

    def borrow(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def own(self, fd: int) -> int:
        """Closed by us after the launcher has its own copy."""
        self._owned.append(fd)
        return self.borrow(fd)

    def given(self) -> tuple[int, ...]:
        return tuple(self._fds)


async def _image(host: Host, spec: JobSpec, owner: Owner, undo: Undo, fds: _Fds) -> ImageRoot:
    source = spec.image.source
    if source == "host":
        return ImageRoot(kind="host", lower=("/",), idmapped=False)
    if source.startswith("dir:"):
        path = source.removeprefix("dir:")
        fd = fds.own(await _open_as_owner(host, owner, "image", path, os.O_PATH | os.O_DIRECTORY))
        return host.images.directory(fd, path)
    root = host.images.hold(source)

    async def release() -> None:
        host.images.release(source)

    undo.push("image", release)
    return root


async def _mounts(
    host: Host, spec: JobSpec, owner: Owner, slot: Slot, run_as: tuple[int, int, tuple[int, ...]], fds: _Fds
) -> tuple[BoundMount, ...]:
    wanted = list(spec.mounts)
    if spec.submit_dir != "none":
        wanted.append(Mount(spec.submitted_from, spec.submitted_from, spec.submit_dir))
    if not wanted:
        return ()
    launcher = await host.launcher()
    uid, gid, groups = run_as
    # On disk the submitter's id, in the job the id that its program runs with; nobody else's files change hands.
    uid_map = f"{owner.uid} {_outside(slot.id_base, slot.extra_uids, uid)} 1\n"
    pairs = {owner.gid: gid} | ({group: group for group in groups} if spec.run_as == "me" else {})
    gid_map = "".join(f"{disk} {_outside(slot.id_base, slot.extra_gids, seen)} 1\n" for disk, seen in pairs.items())
    idmap = fds.own(await launcher.idmap_userns(uid_map, gid_map))
    bound = []
    for mount in wanted:
        fd = fds.own(await _open_as_owner(host, owner, "mount", mount.source, os.O_PATH))
        bound.append(BoundMount(fd=fd, target=mount.target, read_only=mount.mode == "ro", idmap_fd=idmap))
    return tuple(bound)


def _outside(base: int, extra: tuple[tuple[int, int], ...], inside: int) -> int:
    return base + inside if inside < INSIDE_IDS else dict(extra)[inside]


async def _open_as_owner(host: Host, owner: Owner, step: str, path: str, flags: int) -> int:
    try:
        return await (await host.launcher()).open_as(owner.uid, owner.gid, owner.groups, path, flags)
    except OSError as error:
        raise StepFailed(
            step, error.errno or 0, path, hint=f"opened with the rights of uid {owner.uid}, who submitted the job"
        ) from error


# ── what a later daemon must know ───────────────────────────────────────────────────────────────────────────────


def _write_lease(spool: str, slot: Slot) -> None:
    """Before the kernel is touched, so that a daemon that starts after a crash gives nothing away twice."""
    attachment = slot.attachment
    lease: dict[str, Any] = {"id_base": slot.id_base}
    if attachment is not None:
        lease["attachment"] = attachment.to_json()
    fd = os.open(f"{spool}/lease.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(lease).encode())
    finally:
        os.close(fd)
    os.rename(f"{spool}/lease.new", f"{spool}/lease.json")


def read_lease(spool: str) -> dict[str, Any] | None:
    """What `_write_lease` wrote; None when there is none or it is half written."""
    try:
        with open(f"{spool}/lease.json", "rb") as file:
            found = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


async def readopt(host: Host, record: Record, undo: Undo) -> Prepared:
    """The same things for a container that an earlier daemon made. Descriptors died with that daemon."""
    execution = str(record.execution)
    spool = f"{host.settings.state_dir}/spool/{execution}"
    lease = read_lease(spool) or {}
    group = host.tree.open(execution)
    prepared = Prepared(group, None)
    if "id_base" in lease:
        base = int(lease["id_base"])

        async def free() -> None:
            host.slots.free_block(base)

        undo.push("id block", free)
    if "attachment" in lease and host.network is not None:
        attachment = Attachment.from_json(lease["attachment"])
        prepared.address = attachment.address
        network = host.network
        undo.push("network", lambda: network.detach(attachment))
    undo.push("cgroups", group.remove)
    marker = exitrecord.read_marker(f"{spool}/started")
    prepared.init_pid = marker.init_pid if marker else 0
    return prepared


def leased_blocks(leases: list[dict[str, Any]]) -> list[int]:
    return [int(lease["id_base"]) for lease in leases if "id_base" in lease]


def placement_of(record: Record) -> Placement:
    if record.placement is None:
        raise HostError(f"job {record.job} has no placement")
    return record.placement
