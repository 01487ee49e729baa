"""What a test may need of the host, by name: `root`, `cgroup1.freezer`, `cgroup2.cpu`, `tool.runc`, `netns`, `loop` …

A test says `@pytest.mark.needs("cgroup1.freezer", "tool.zsh")`. Where that is missing it is skipped with the reason;
where JOBS_TEST_REQUIRE lists it, the skip is a failure. scripts/test promises what its kind of host must have.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

ALWAYS_WITH_ROOT = (
    "root", "netns", "userns", "timens", "overlay", "loop", "bridge", "veth", "nft",
    "tool.runc", "tool.busybox", "tool.mmdebstrap", "tool.zsh", "tool.fish", "tool.dash", "tool.gcc", "tool.nft",
    "tool.catatonit",
)  # fmt: skip
V1 = ("memory", "cpu", "cpuacct", "cpuset", "blkio", "devices", "freezer", "pids", "net_cls", "net_prio")
V2 = ("memory", "cpu", "cpuset", "io", "pids")


@functools.cache
def missing(name: str) -> str:
    """Why the host lacks it, or nothing when it has it. Raises KeyError on a name that nobody defined."""
    family, _, what = name.partition(".")
    return _FAMILIES[family](what)


def promised() -> list[str]:
    """What scripts/test requires. The kind of host is told by the layout of its cgroups; the rest is not up to it."""
    if os.geteuid() != 0:
        return ["tool.dash"]
    return promised_with(_filesystems_mounted())


def promised_with(kind: Collection[str]) -> list[str]:
    """The same for a host with these file systems mounted, which may be a guest that is yet to boot (tests/vm)."""
    names = list(ALWAYS_WITH_ROOT)
    if "cgroup" in kind:
        names += [f"cgroup1.{controller}" for controller in V1]
    if "cgroup2" in kind:
        names.append("cgroup2")
    if "cgroup" not in kind:
        names += [f"cgroup2.{controller}" for controller in V2]
    return names


def required(environ: str | None = None) -> frozenset[str]:
    """The names in JOBS_TEST_REQUIRE."""
    given = os.environ.get("JOBS_TEST_REQUIRE", "") if environ is None else environ
    return frozenset(given.replace(",", " ").split())


def verdict(reason: str, promises: frozenset[str]) -> str:
    """Why a skip with this reason is a failure here, or nothing. `needs NAME: …` is the form that `needs` writes."""
    if not promises:
        return ""
    names = reason.removeprefix("needs ").partition(":")[0].split() if reason.startswith("needs ") else []
    if not names:
        return f"skipped without naming a capability: {reason}"
    broken = [name for name in names if name in promises]
    return f"this host promises {', '.join(broken)} (JOBS_TEST_REQUIRE): {reason}" if broken else ""


def skip_reason(names: Iterable[str]) -> str:
    """The reason for the first name that is missing, or nothing."""
    return next((f"needs {name}: {why}" for name in names if (why := missing(name))), "")


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _filesystems_mounted() -> set[str]:
    return {line.partition(" - ")[2].split(" ")[0] for line in _text("/proc/self/mountinfo").splitlines()}


def _root(_: str) -> str:
    return "" if os.geteuid() == 0 else "not root"


def _cgroup1(controller: str) -> str:
    rows = [line.split() for line in _text("/proc/cgroups").splitlines() if not line.startswith("#")]
    row = next((row for row in rows if row[0] == controller), None)
    if row is None:
        return f"/proc/cgroups has no {controller}"
    return f"{controller} is on cgroup v2" if controller in _unified_controllers() else _root("")


def _cgroup2(controller: str) -> str:
    if "cgroup2" not in _filesystems_mounted():
        return "no unified hierarchy is mounted"
    if controller and controller not in _unified_controllers():
        return f"cgroup.controllers has no {controller}"
    return _root("")


def _unified_controllers() -> set[str]:
    lines = [line for line in _text("/proc/self/mountinfo").splitlines() if " - cgroup2 " in line]
    return set(_text(lines[0].split()[4] + "/cgroup.controllers").split()) if lines else set()


def _tool(program: str) -> str:
    places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return "" if shutil.which(program, path=places) else f"no program {program} on PATH"


def _namespace(kind: str) -> str:
    return _root("") or ("" if Path(f"/proc/self/ns/{kind}").exists() else f"the kernel has no {kind} namespaces")


def _filesystem(name: str) -> str:
    return "" if name in _text("/proc/filesystems").split() else f"/proc/filesystems has no {name}"


def _loop(_: str) -> str:
    return _root("") or ("" if Path("/dev/loop-control").exists() else "no /dev/loop-control")


def _nft(_: str) -> str:
    place = Path("/usr/lib/python3/dist-packages/nftables/__init__.py")
    return _root("") or ("" if place.exists() else f"no {place}; install python3-nftables")


def _hugepages(size: str) -> str:
    free = _text(f"/sys/kernel/mm/hugepages/hugepages-{size or '2048'}kB/nr_hugepages")
    return "" if free.strip() not in ("", "0") else "no huge pages are reserved"


def _cpus(count: str) -> str:
    return "" if len(os.sched_getaffinity(0)) >= int(count) else f"fewer than {count} CPUs"


def _numa(nodes: str) -> str:
    found = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
    return "" if found >= int(nodes) else f"{found} NUMA nodes, not {nodes}"


def _br_netfilter(_: str) -> str:
    """Not loaded from here: it changes what the host does with every bridge."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    return _root("") or ("" if switch.exists() else f"no {switch}: the module br_netfilter is not loaded")


def _smt(_: str) -> str:
    listed = _text("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return "" if set("-,") & set(listed) else "a core has one hardware thread"


def _memory_only(_: str) -> str:
    nodes = Path("/sys/devices/system/node").glob("node[0-9]*")
    return "" if any(not _text(f"{node}/cpulist").strip() for node in nodes) else "every memory node has CPUs"


def _systemd(_: str) -> str:
    name = _text("/proc/1/comm").strip()
    return "" if name == "systemd" else f"process 1 is {name or 'hidden'}, not systemd"


def _boot(number: str) -> str:
    """For tests that a reboot divides (tests/vm): which boot of the guest this is."""
    now = os.environ.get("JOBS_VM_BOOT", "")
    return "" if now == number else f"this is boot {now} of the guest" if now else "not in a guest that reboots"


def workloads() -> Path:
    """The folder of recorded workloads: beside the checkout, or where JOBS_WORKLOADS says."""
    return Path(os.environ.get("JOBS_WORKLOADS") or Path(__file__).parents[1].parent / "shared" / "workloads")


def _workload(name: str) -> str:
    file = workloads() / f"{name}.swf"
    return "" if file.exists() else f"no {file}; JOBS_WORKLOADS may name its folder"


_FAMILIES = {
    "root": _root, "cgroup1": _cgroup1, "cgroup2": _cgroup2, "tool": _tool, "loop": _loop, "nft": _nft,
    "netns": lambda _: _namespace("net"), "userns": lambda _: _namespace("user"),
    "timens": lambda _: _namespace("time"),
    "overlay": lambda _: _root("") or _filesystem("overlay"), "bridge": _root, "veth": _root,
    "hugepages": _hugepages, "cpus": _cpus, "numa": _numa, "smt": _smt, "memory-only": _memory_only,
    "systemd": _systemd, "boot": _boot, "br_netfilter": _br_netfilter, "workload": _workload,
}  # fmt: skip


if __name__ == "__main__":
    print(",".join(promised()))
