"""Control groups: where each controller lives, whether groups can be made there, the freezer, memory and swap. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.host import CONTROLLERS
from jobs.units import render_size
from scheduler.doctor.facts import Facts, Hierarchy
from scheduler.doctor.finding import JOBSD, Finding, ok

if TYPE_CHECKING:
    from config.settings import Settings

# What users lose without a controller. net_cls and net_prio are the network's business, the freezer tells of itself.
_COSTS = {
    "memory": "resources.memory is not kept, no job is out_of_memory, and a pause can't count what stays in RAM",
    "cpu": "fractions of CPUs and --cpu-weight do nothing",
    "cpuacct": "the CPU time of jobs stays 0",
    "cpuset": "placement is not kept: a job may run on any CPU and use any memory node",
    "io": "resources.io is refused, --io-weight does nothing, and jobs' I/O figures stay 0",
    "pids": "resources.pids is not kept: a fork bomb is everybody's",
    "hugetlb": "resources.hugepages is refused",
    "devices": "resources.devices is refused",
}
_KERNEL_NAME = {"io": "blkio"}
_MOUNTED_BY_US = ("hugetlb", "net_cls", "net_prio")  # runtime/cgroups/private_mounts.py
_MOUNT_V2 = "mount -t cgroup2 cgroup2"
_CONTAINER_GROUPS = "give the container groups of its own to write: --cgroupns=private and a writable /sys/fs/cgroup"


def cgroups(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if not facts.hierarchies:
        yield Finding(
            "cgroups",
            "hierarchies",
            "fatal",
            "no cgroup filesystem is mounted",
            "no job can start: nothing could be limited, frozen or surely ended",
            _CONTAINER_GROUPS if facts.container else f"{_MOUNT_V2} /sys/fs/cgroup",
            "/proc/self/mountinfo",
            (JOBSD,),
        )
        return
    yield _layout(facts)
    yield from _can_be_made(facts)
    for name in CONTROLLERS:
        if name in _COSTS and name not in facts.caps.controllers and name not in _ours(facts):
            yield _absent(name, facts)
    yield from _held(facts)
    yield from _passed_on(facts)
    if facts.io_weights is False:
        yield Finding(
            "cgroups",
            "I/O weights",
            "limited",
            "no disk has the scheduler BFQ, or the cost model",
            "io.weight and --io-weight do nothing; rates (resources.io) do",
            "echo bfq > /sys/block/DISK/queue/scheduler, where jobs compete for a disk",
            "/sys/block",
        )
    yield from _owned(facts, settings)


def _ours(facts: Facts) -> set[str]:
    """Compiled in, on no hierarchy yet: the daemon mounts them for itself."""
    return {name for name in _MOUNTED_BY_US if name in facts.compiled}


def _layout(facts: Facts) -> Finding:
    by_version = {
        version: [name for name, mount in facts.caps.controllers.items() if mount.version == version]
        for version in (2, 1)
    }
    parts = [f"v{version}: {' '.join(names)}" for version, names in by_version.items() if names]
    own = sorted(_ours(facts) - set(facts.caps.controllers))
    parts += [f"mounted by jobsd: {' '.join(own)}"] if own else []
    on_v1 = set(by_version[1]) - set(_MOUNTED_BY_US)
    kind = "hybrid" if facts.caps.unified and on_v1 else "pure v2" if facts.caps.unified else "pure v1"
    return ok("cgroups", kind, "; ".join(parts) or "no controller")


def _can_be_made(facts: Facts) -> Iterator[Finding]:
    closed = [each for each in facts.hierarchies if _closed(each, facts)]
    if not closed:
        return
    told = facts.said(f"group:{closed[0].parent}") or "not writable"
    points = ", ".join(each.point for each in closed[:3]) + (" …" if len(closed) > 3 else "")
    yield Finding(
        "cgroups",
        "groups of jobs",
        "fatal",
        f"no group can be made in {points}: {told.partition(': /')[0]}",
        "no job can start: each gets groups of its own",
        _CONTAINER_GROUPS if facts.container else f"mount -o remount,rw {closed[0].point}",
        closed[0].point,
        (JOBSD,),
    )


def _held(facts: Facts) -> Iterator[Finding]:
    if facts.held:
        yield Finding(
            "cgroups",
            "room for jobs",
            "fatal",
            f"{facts.held} holds processes that are not jobsd's to move",
            "no job can start: a v2 group with processes passes no controllers on",
            "the setting cgroup_root, below another group; or a unit with Delegate=yes, as in config/systemd",
            f"{facts.held}/cgroup.procs",
            (JOBSD,),
        )


def _closed(each: Hierarchy, facts: Facts) -> bool:
    tried = facts.tries.get(f"group:{each.parent}")
    return facts.uid == 0 and (tried.worked is False if tried else not each.writable)


def _absent(name: str, facts: Facts) -> Finding:
    kernel_name = _KERNEL_NAME.get(name, name)
    if kernel_name in facts.disabled:
        seen, mends = "switched off at boot", f"kernel parameter cgroup_enable={kernel_name} (and no cgroup_disable=)"
    elif kernel_name in facts.compiled and facts.compiled[kernel_name] == 0:
        seen = "compiled in, on no hierarchy"
        mends = f"mount -t cgroup -o {kernel_name} cgroup /sys/fs/cgroup/{kernel_name}"
        if facts.caps.unified and not any(each.version == 1 for each in facts.hierarchies):
            seen, mends = f"not in {facts.caps.unified}/cgroup.controllers", _delegate(kernel_name, facts)
    elif kernel_name in facts.compiled:
        seen, mends = "on a hierarchy that is not to be seen here", _CONTAINER_GROUPS if facts.container else ""
    else:
        seen, mends = "this kernel has it not", ""
    return Finding("cgroups", name, "missing", seen, _COSTS[name], mends, "/proc/cgroups")


def _delegate(name: str, facts: Facts) -> str:
    if facts.container:
        return "a container sees what its engine passes on: " + _CONTAINER_GROUPS
    return f"echo +{name} > cgroup.subtree_control in the groups above"


def _passed_on(facts: Facts) -> Iterator[Finding]:
    """Only where the product's group is there already: who makes it later passes on what is missing."""
    if len(facts.passed_on) < 2:
        return
    point, *_, last = facts.passed_on
    wanted = {name for name, mount in facts.caps.controllers.items() if mount.version == 2} & set(_COSTS)
    offered, here = set(facts.passed_on[point].split()), set(facts.passed_on[last].split())
    lost = sorted((wanted & offered) - here)
    if lost:
        yield Finding(
            "cgroups",
            "passed on",
            "limited",
            f"{last} has not: {' '.join(lost)}",
            "; ".join(_COSTS[name] for name in lost),
            "restart jobsd, which passes them on; if they go again, another program owns the groups above",
            f"{last}/cgroup.controllers",
        )


def _owned(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """systemd takes care of the whole tree but for what is delegated."""
    if facts.init == "systemd" and facts.caps.unified and ".service" not in settings.cgroup_root:
        yield Finding(
            "cgroups",
            "owner",
            "limited",
            f"systemd runs this host, and cgroup_root = {settings.cgroup_root!r} is in none of its units",
            "systemd may take controllers away from running jobs (daemon-reload)",
            "the units in config/systemd (docs/howto/install.md); they set JOBS_CGROUP_ROOT",
        )


# ── freezer ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def freezer(facts: Facts, settings: Settings) -> Iterator[Finding]:
    has = [kind for kind in ("v2", "v1") if _has_freezer(kind, facts)]
    if not has and facts.hierarchies:
        yield Finding(
            "freezer",
            "freezer",
            "fatal",
            "neither cgroup2 nor v1's freezer is mounted",
            "jobs pause can't be had, and no job could be ended for certain",
            f"mkdir -p /sys/fs/cgroup/unified; {_MOUNT_V2} /sys/fs/cgroup/unified (it works beside v1)",
            "/proc/self/mountinfo",
            (JOBSD,),
        )
    elif has and settings.freezer not in ("auto", *has):
        yield Finding(
            "freezer",
            "the setting freezer",
            "fatal",
            f"freezer = {settings.freezer!r}, and this host offers {' and '.join(has)}",
            "jobsd does not take another one than it was told to",
            'freezer = "auto" in /etc/jobs/jobs.toml',
            stops=(JOBSD,),
        )
    elif has and (settings.freezer == "v1" or has == ["v1"]):
        yield Finding(
            "freezer",
            "v1",
            "limited",
            "only v1's freezer" if has == ["v1"] else "v1's freezer, by the setting",
            "a frozen job can't be looked into by gdb or strace, and is thawed for a moment to be killed",
            f"mkdir -p /sys/fs/cgroup/unified; {_MOUNT_V2} /sys/fs/cgroup/unified (it works beside v1)"
            if has == ["v1"] else 'freezer = "auto"',
        )  # fmt: skip
    elif has:
        yield ok("freezer", "v2", "cgroup.freeze" + (", cgroup.kill" if facts.version >= (5, 14) else ""))


def _has_freezer(kind: str, facts: Facts) -> bool:
    mount = facts.caps.controllers.get("freezer")
    return bool(facts.caps.unified) if kind == "v2" else mount is not None and (mount.version == 1 or _v1_too(facts))


def _v1_too(facts: Facts) -> bool:
    return any(each.version == 1 and each.point.endswith("/freezer") for each in facts.hierarchies)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(facts: Facts, settings: Settings) -> Iterator[Finding]:
    mount = facts.caps.controllers.get("memory")
    if mount is not None and mount.version == 1:
        yield Finding(
            "memory",
            "out of memory",
            "limited",
            "memory is on v1, which has no memory.oom.group",
            "the kernel kills one process of a job over resources.memory, and the rest dies only if jobsd is up; "
            "memory_high and memory_min do nothing",
            f"pure v2: boot with {'systemd.unified_cgroup_hierarchy=1 ' * (facts.init == 'systemd')}cgroup_no_v1=all",
            mount.path,
        )
    if facts.swap_limited is False:
        yield Finding(
            "memory",
            "swap of jobs",
            "limited",
            "swap is not accounted",
            "resources.swap is not kept: a job at its limit may fill the host's swap",
            "kernel parameter swapaccount=1",
        )
    if "psi" not in facts.caps.features:
        yield Finding(
            "memory",
            "pressure",
            "limited",
            "no /proc/pressure",
            "jobs show has no pressure figures",
            "kernel parameter psi=1 (a kernel with CONFIG_PSI=y)",
        )
    swap = render_size(facts.core.swap_bytes) if facts.core.swap_bytes else "none"
    yield ok("memory", "memory", f"{render_size(facts.core.memory_bytes)}, swap {swap}")
