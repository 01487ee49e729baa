"""What one job may use, as one value that the controller modules write down. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.placement import Placement
from jobs.priority_class import PriorityClass
from jobs.spec import UNLIMITED, JobSpec


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """A device node that may be used. `minor` None: every minor. `access` of r, w; m (mknod) is never needed."""

    kind: str  # "c" | "b"
    major: int
    minor: int | None
    access: str = "rw"

    def __str__(self) -> str:
        """As devices.allow wants it: `c 1:3 rw`."""
        return f"{self.kind} {self.major}:{'*' if self.minor is None else self.minor} {self.access}"


# Documentation/admin-guide/devices.txt; the nodes that every container has (OCI runtime spec, "Default Devices").
STANDARD_DEVICES = (
    DeviceRule("c", 1, 3),  # null
    DeviceRule("c", 1, 5),  # zero
    DeviceRule("c", 1, 7),  # full
    DeviceRule("c", 1, 8),  # random
    DeviceRule("c", 1, 9),  # urandom
    DeviceRule("c", 5, 0),  # tty
    DeviceRule("c", 5, 2),  # ptmx
    DeviceRule("c", 136, None),  # pts/*
)


@dataclass(frozen=True, slots=True)
class Limits:
    """All units as the names say. A field at its default asks for nothing and still overwrites an older limit."""

    memory_bytes: int
    memory_high_bytes: int = 0  # 0: none
    memory_min_bytes: int = 0
    swap_bytes: int = 0
    pids: int = UNLIMITED
    cpu_weight: int = 100  # 1–10000
    cpu_quota: float = 0.0  # CPUs' worth of time; 0: none, the cpuset says it all
    cpus: tuple[int, ...] = ()  # (): as the parent group
    mems: tuple[int, ...] = ()
    io_weight: int = 100  # 1–10000
    io_devices: tuple[tuple[int, int], ...] = ()  # (major, minor) of whole disks that the rates hold for
    io_read_bytes_s: int = UNLIMITED
    io_write_bytes_s: int = UNLIMITED
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, pages); other sizes get none
    devices: tuple[DeviceRule, ...] = STANDARD_DEVICES
    class_id: int = 0  # tc handle for net_cls
    interface_priorities: tuple[tuple[str, int], ...] = field(default=())  # (interface, skb priority) for net_prio
    socket_priority: int = 0  # skb priority of what the job's sockets send, for net_egress; 0: not ours to set


def limits_of(
    spec: JobSpec,
    placement: Placement,
    *,
    cpu_weight: int,
    io_weight: int,
    network_class: str,
    devices: tuple[DeviceRule, ...] = (),
    interfaces: tuple[str, ...] = (),
    io_devices: tuple[tuple[int, int], ...] = (),
) -> Limits:
    """Spec and placement → Limits. The weights and the class are the job's present ones, not the spec's.

    Whole CPUs are pinned and need no quota; a fraction of a CPU is a share of the pool and gets one, so that it bites.
    """
    wanted = spec.resources
    priority = PriorityClass(network_class).skb_priority
    return Limits(
        memory_bytes=wanted.memory_bytes,
        memory_high_bytes=wanted.memory_high_bytes,
        memory_min_bytes=wanted.memory_min_bytes,
        swap_bytes=wanted.swap_bytes,
        pids=wanted.pids,
        cpu_weight=cpu_weight,
        cpu_quota=0.0 if placement.exclusive else placement.shares or wanted.cpus,
        cpus=placement.cpus,
        mems=placement.mems,
        io_weight=io_weight,
        io_devices=io_devices,
        io_read_bytes_s=wanted.io.read_bytes_s,
        io_write_bytes_s=wanted.io.write_bytes_s,
        hugepages=wanted.hugepages,
        devices=(*STANDARD_DEVICES, *devices),
        class_id=priority,
        interface_priorities=tuple((name, priority) for name in interfaces),
        socket_priority=priority if spec.network.mode == "host" else 0,
    )
