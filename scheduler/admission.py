"""Could this job ever run here? What can never run is refused at submission, with the key and what is possible. Pure.

Whether it fits *now* is the business of `decide`; whether paths and devices exist, of those who open them.
"""

from __future__ import annotations

from dataclasses import replace

from jobs.host import CONTROLLERS, HostCaps
from jobs.spec import UNLIMITED, JobSpec, Resources, resolved
from jobs.units import render_size
from scheduler import shortage
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger
from scheduler.demand import demand_of


def never(spec: JobSpec, capacity: Capacity, caps: HostCaps) -> tuple[str, ...]:
    """One reason per thing this host can't give, each beginning with the spec's key; empty: it could run."""
    ways = [resolved(spec, variant) for variant in range(len(spec.variants) + 1)]
    found = [_hugepages(way.resources, caps) or _placement(way, capacity) for way in ways]
    others = [f"variant {number}: {said}" for number, each in enumerate(found[1:], 1) for said in each]
    everywhere = [said for way in ways for said in (*_controllers(way.resources, caps), *_devices(way, capacity))]
    return (*(() if not all(found) else (*found[0], *others)), *dict.fromkeys(everywhere), *_namespaces(spec, caps),
            *_ports(spec))  # fmt: skip


def _placement(spec: JobSpec, capacity: Capacity) -> list[str]:
    demand = demand_of(spec)
    if allocate(Ledger(capacity), demand) is None:
        return [shortage.impossible(capacity, demand)]
    if spec.retry.memory_factor == 1:
        return []
    most = replace(demand, memory_bytes=spec.retry.memory_most_bytes)
    if allocate(Ledger(capacity), most) is None:
        return [shortage.impossible(capacity, most).replace("resources.memory", "retry.memory_most")]
    return []


def _hugepages(wanted: Resources, caps: HostCaps) -> list[str]:
    has = ", ".join(render_size(size) for size in sorted(caps.hugepage_sizes)) or "none"
    return [
        f"resources.hugepages: this host has no pages of {render_size(size)}; it has {has}"
        for size, count in wanted.hugepages
        if count and size not in caps.hugepage_sizes
    ]


def _devices(spec: JobSpec, capacity: Capacity) -> list[str]:
    """What is given by number is not taken by path."""
    return [
        f"resources.devices: {path} belongs to '{name}'; ask for it with resources.generic.{name}"
        for path in spec.resources.devices
        for name, item in capacity.generic.items()
        if any(path in instance.devices for instance in item.instances)
    ]


def _controllers(wanted: Resources, caps: HostCaps) -> list[str]:
    """Only limits that were asked for: a default that the host can't keep is not the user's mistake."""
    limited = wanted.io.read_bytes_s != UNLIMITED or wanted.io.write_bytes_s != UNLIMITED
    asked = {
        "io": ("resources.io", limited),
        "hugetlb": ("resources.hugepages", any(count for _, count in wanted.hugepages)),
        "devices": ("resources.devices", bool(wanted.devices)),
    }
    return [
        f"{key}: this host has no '{controller}' controller; it has {_present(caps)}"
        for controller, (key, given) in asked.items()
        if given and controller not in caps.controllers and not _covered(controller, caps)
    ]


def _covered(controller: str, caps: HostCaps) -> bool:
    """On pure v2 a BPF program does what v1's devices controller did."""
    return controller == "devices" and bool(caps.unified)


def _present(caps: HostCaps) -> str:
    return ", ".join(name for name in CONTROLLERS if name in caps.controllers) or "none"


def _namespaces(spec: JobSpec, caps: HostCaps) -> list[str]:
    if spec.network.mode != "host" and "net" not in caps.namespaces:
        return ['network.mode: this host has no network namespaces; "host" is possible']
    return []


def _ports(spec: JobSpec) -> list[str]:
    seen: set[tuple[str, int]] = set()
    found = []
    for item in spec.network.publish:
        key = item.protocol, item.host_port
        if key in seen:
            found.append(f"network.publish: port {item.host_port}/{item.protocol} is given twice")
        seen.add(key)
    if spec.network.publish and spec.network.mode != "bridge":
        found.append(f'network.publish: only with mode = "bridge", this job has mode = "{spec.network.mode}"')
    return found
