"""What an execution needs before the launcher is asked: slot, cgroups, writable layer, image, mounts; then the plan.

Each thing taken is pushed on `Undo` at once. Mount sources and image folders are opened by the launcher with the
submitter's own rights, never the daemon's, and travel as descriptors.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.errors import HostError, JobsError, StepFailed
from jobs.events import Owner
from jobs.placement import Placement
from jobs.record import Record
from jobs.spec import JobSpec, Mount
from jobs.units import parse_size
from runtime import exitrecord
from runtime.cgroups.group import JobGroup
from runtime.cgroups.limits import Limits, limits_of
from runtime.plan import BoundMount, Identity, ImageRoot, Inputs, exec_request, identity, plan
from scheduler.generic import variables
from scheduler.node.devices import rules_for
from scheduler.node.environment import environment_of
from scheduler.node.host import Host
from scheduler.node.leases import Slot, extra_ids
from scheduler.node.undo import Undo

HOST_ROOT = ImageRoot(kind="host", lower=("/",))


@dataclass(slots=True)
class Prepared:
    """A container that is ready to be created, or one that was adopted (then without slot, plan and descriptors)."""

    group: JobGroup
    inputs: Inputs
    slot: Slot | None = None
    address: str = ""
    plan: bytes = b""
    fds: tuple[int, ...] = ()
    owned_fds: list[int] = field(default_factory=list)

    def close_fds(self) -> None:
        """The launcher has its own copies by now, or never will."""
        while self.owned_fds:
            os.close(self.owned_fds.pop())

    def exec_request(self, argv: Sequence[str], *, tty: bool, env: Sequence[tuple[str, str]]) -> bytes:
        return exec_request(self.inputs, argv, tty=tty, env=env, freezers=self.group.freezer_files)


def limits(host: Host, record: Record) -> Limits:
    """Limits of the record as it is now: its placement, weights and class."""
    if record.placement is None:
        raise HostError(f"job {record.job} has no placement")
    return limits_of(
        record.wanted,
        record.placement,
        cpu_weight=record.cpu_weight,
        io_weight=record.io_weight,
        network_class=record.network_class,
        devices=rules_for(dict.fromkeys((*record.wanted.resources.devices, *record.placement.devices))),
        interfaces=host.interfaces,
        io_devices=host.io_devices,
    )


async def prepare(host: Host, record: Record, undo: Undo) -> Prepared:
    """Raises StepFailed or another JobsError; what was taken until then is on `undo`."""
    spec, owner, execution = record.spec, record.owner, str(record.execution)
    spool = spool_of(host, execution)
    os.makedirs(spool, mode=0o700, exist_ok=True)

    uids, gids = _wanted_ids(spec, owner)
    slot = await host.slots.acquire(spec.network.mode, uids, gids)
    undo.push("slot", lambda: host.slots.release(slot))
    _write_lease(spool, slot.id_base)  # before the kernel is touched: a daemon after a crash gives nothing away twice

    group = host.tree.open(execution)
    undo.push("cgroups", group.remove)
    group = host.tree.create(execution, limits(host, record))

    basis = _inputs(host, record, slot.id_base, group)
    prepared = Prepared(group, basis, slot, slot.attachment.address if slot.attachment else "")
    who = identity(spec, owner, slot.id_base, slot.extra_uids, slot.extra_gids)
    fds = _Fds(prepared.owned_fds)
    try:
        image = await _image(host, spec, owner, undo, fds)
        block = (slot.id_base, slot.id_base) if image.idmapped else (0, 0)
        upper = await host.uppers.acquire(spec.image.writable_bytes, owner=block)
        undo.push("writable layer", lambda: host.uppers.release(upper, discard=True))
        prepared.inputs = replace(
            basis,
            image=image,
            userns_fd=fds.borrow(slot.userns),
            netns_fd=fds.borrow(slot.netns) if slot.netns >= 0 else -1,
            upper_fd=fds.borrow(upper.fd),
            hosts_dir=host.network.hosts_dir(owner.uid) if slot.attachment else "",
            mounts=await _mounts(host, spec, owner, who, fds),
        )
        prepared.plan, prepared.fds = plan(prepared.inputs).to_bytes(), fds.given()
    except BaseException:
        prepared.close_fds()
        raise
    return prepared


async def readopt(host: Host, record: Record, undo: Undo) -> Prepared:
    """The same things for a container that an earlier daemon made. Its descriptors died with that daemon."""
    execution = str(record.execution)
    lease = read_lease(spool_of(host, execution))
    group = host.tree.open(execution)
    base = int(lease["id_base"]) if lease else 0
    source = record.spec.image.source
    prepared = Prepared(group, _inputs(host, record, base, group))
    if lease:

        async def free() -> None:
            host.blocks.free(base)

        undo.push("id block", free)
    if source != "host" and not source.startswith("dir:"):
        with suppress(JobsError):  # the image's files are held by the mounts; only its environment for exec is missing
            prepared.inputs = replace(prepared.inputs, image=_hold(host, source, undo))
    attachment = host.network.adopt(execution)
    if attachment is not None:
        prepared.address = attachment.address
        undo.push("network", lambda: host.network.detach(attachment))
    undo.push("cgroups", group.remove)
    return prepared


def of_array(record: Record) -> tuple[tuple[str, str], ...]:
    """What a task is told of its array, as environment variables."""
    if not record.array or record.spec.array is None:
        return ()
    told = {"ID": record.array, "INDEX": record.index, "SIZE": record.spec.array.size}
    return tuple((f"JOBS_ARRAY_{name}", str(value)) for name, value in told.items())


def _inputs(host: Host, record: Record, id_base: int, group: JobGroup) -> Inputs:
    """All but the descriptors."""
    uids, gids = _wanted_ids(record.spec, record.owner)
    execution = str(record.execution)
    place = record.placement or record.home
    return Inputs(
        execution_id=execution,
        spec=record.wanted,
        owner=record.owner,
        caps=host.caps,
        id_base=id_base,
        image=HOST_ROOT,
        spool=spool_of(host, execution),
        hostname=f"job-{record.job}",
        init=host.init,
        userns_fd=-1,
        extra_ids=extra_ids(id_base, uids),
        extra_gids=extra_ids(id_base, gids),
        mon_procs=group.mon_procs,
        run_procs=group.run_procs,
        run_unified=group.run_unified,
        resolv=host.network.resolv_conf(),
        cpus=record.placement.cpus if record.placement else (),
        nodes=tuple(node.id for node in host.topology.nodes if node.memory_bytes),
        hide=(host.settings.state_dir, host.settings.run_dir),
        log_limit_bytes=parse_size(host.settings.log_limit),
        devices=place.devices if place else (),
        env=environment_of(record) + of_array(record) + (_granted(record, place, host) if place else ()),
        seccomp=host.seccomp,
    )


def _granted(record: Record, place: Placement, host: Host) -> tuple[tuple[str, str], ...]:
    """What tells the job which of its alternatives it runs as, and which instances it has."""
    variant = (("JOBS_VARIANT", str(record.variant)),) if record.spec.variants else ()
    return (*variant, *variables(place.generic, host.topology.generic))


def _wanted_ids(spec: JobSpec, owner: Owner) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Uids and gids that must have a place in the job's user namespace."""
    if spec.run_as == "me":
        return (owner.uid,), (owner.gid, *owner.groups)
    return (0 if spec.run_as == "root" else int(spec.run_as),), (owner.gid,)


class _Fds:
    """The descriptors that go with the plan; the plan names them by their index here."""

    def __init__(self, owned: list[int]) -> None:
        self._fds: list[int] = []
        self._owned = owned

    def borrow(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def own(self, fd: int) -> int:
        self._owned.append(fd)
        return self.borrow(fd)

    def given(self) -> tuple[int, ...]:
        return tuple(self._fds)


async def _image(host: Host, spec: JobSpec, owner: Owner, undo: Undo, fds: _Fds) -> ImageRoot:
    source = spec.image.source
    if source == "host":
        return HOST_ROOT
    if source.startswith("dir:"):
        path = source.removeprefix("dir:")
        # Opened for reading: the overlay shows the folder to the job whatever its mode, so its mode is asked here.
        index = fds.own(await _open_as_owner(host, owner, "image", path, os.O_RDONLY | os.O_DIRECTORY))
        _must_be_a_root(host, fds.given()[index], path)
        return host.images.directory(index, path)
    return _hold(host, source, undo)


def _must_be_a_root(host: Host, fd: int, path: str) -> None:
    """The kernel's own filesystems would show past our masks, the daemon's folders past their modes. StepFailed."""
    real = os.readlink(f"/proc/self/fd/{fd}")
    for below in ("/proc", "/sys", "/dev", "/run", host.settings.state_dir, host.settings.run_dir):
        if real == below or real.startswith(f"{below}/"):
            raise StepFailed("image", errno.EPERM, path, hint=f"nothing below {below} can be the root of a job")


def _hold(host: Host, name: str, undo: Undo) -> ImageRoot:
    root = host.images.hold(name)

    async def release() -> None:
        host.images.release(name)

    undo.push("image", release)
    return root


async def _mounts(host: Host, spec: JobSpec, owner: Owner, who: Identity, fds: _Fds) -> tuple[BoundMount, ...]:
    wanted = list(spec.mounts)
    if spec.submit_dir != "none":
        wanted.append(Mount(spec.submitted_from, spec.submitted_from, spec.submit_dir))
    if not wanted:
        return ()
    # On disk the submitter's id, in the job the id that its program runs with; nobody else's files change hands.
    uid_map = f"{owner.uid} {who.host_uid} 1\n"
    gid_map = f"{owner.gid} {who.host_gid} 1\n"
    idmap = fds.own(await (await host.launcher()).idmap_userns(uid_map, gid_map))
    return tuple(
        [
            BoundMount(
                fd=fds.own(await _open_as_owner(host, owner, "mount", mount.source, os.O_PATH)),
                target=mount.target,
                read_only=mount.mode == "ro",
                idmap_fd=idmap,
            )
            for mount in wanted
        ]
    )


async def _open_as_owner(host: Host, owner: Owner, step: str, path: str, flags: int) -> int:
    try:
        launcher = await host.launcher()
        return await launcher.open_as(owner.uid, owner.gid, owner.groups, path, os.O_CLOEXEC | flags)
    except OSError as error:
        raise StepFailed(
            step, error.errno or 0, path, hint=f"opened with the rights of uid {owner.uid}, who submitted the job"
        ) from error


# ── what a later daemon must know ───────────────────────────────────────────────────────────────────────────────


def spool_of(host: Host, execution: str) -> str:
    return f"{host.settings.state_dir}/spool/{execution}"


def _write_lease(spool: str, id_base: int) -> None:
    fd = os.open(f"{spool}/lease.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps({"id_base": id_base}).encode())
    finally:
        os.close(fd)
    os.rename(f"{spool}/lease.new", f"{spool}/lease.json")


def read_lease(spool: str) -> dict[str, Any] | None:
    """What `_write_lease` wrote; None when there is none or it is not whole."""
    try:
        with open(f"{spool}/lease.json", "rb") as file:
            found = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and "id_base" in found else None


def init_pid(host: Host, execution: str) -> int:
    """Pid 1 of the container, as the host counts; 0 when it is not known."""
    marker = exitrecord.read_marker(f"{spool_of(host, execution)}/started")
    return marker.init_pid if marker else 0
