"""What the kernel says of a job's place, read from outside: threads, page tables, groups, nodes. Reads only.

Nothing here asks the daemon; tests put this beside what the daemon recorded and what the spec asked for.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from installation import Installation

from jobs import cpuset
from runtime import hostcaps
from runtime.cgroups.group import JobGroup
from runtime.cgroups.place import Place
from runtime.cgroups.tree import CgroupTree

PAGE = os.sysconf("SC_PAGE_SIZE")
NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True)
class Thread:
    pid: int
    tid: int
    cpus: tuple[int, ...]
    mems: tuple[int, ...]


@dataclass(frozen=True)
class Account:
    """Bytes by node. `private`: anonymous mappings of all processes; `mapped`: mappings of files, whose pages others
    may have brought in; `huge`: of huge pages; `charged`: anonymous memory as the job's memory group counts it."""

    threads: tuple[Thread, ...]
    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    private: Mapping[int, int]
    mapped: Mapping[int, int]
    huge: Mapping[int, int]
    charged: Mapping[int, int]
    policies: frozenset[str]

    @property
    def processes(self) -> int:
        return len({thread.pid for thread in self.threads})

    def nodes_of_cpus(self) -> tuple[int, ...]:
        return tuple(sorted({node_of(cpu) for cpu in self.cpus}))


def groups(site: Installation, execution: str) -> JobGroup:
    caps = hostcaps.probe(f"{site.settings['run_dir']}/cgroup")
    return CgroupTree(caps, site.settings["cgroup_root"]).open(execution)


def account(site: Installation, execution: str) -> Account:
    """Of an execution that has processes, running or frozen."""
    group = groups(site, execution)
    place = group.places["cpuset"]
    pids = group.pids()
    private, mapped, huge, policies = _page_tables(pids)
    return Account(
        threads=tuple(thread for pid in pids for thread in _threads(pid)),
        cpus=_effective(place, "cpus"),
        mems=_effective(place, "mems"),
        private=private,
        mapped=mapped,
        huge=huge,
        charged=_charged(group.places["memory"]),
        policies=policies,
    )


def program(site: Installation, execution: str, name: str) -> int:
    """Host pid of the job's process of that name that is the parent of the others."""
    pids = [pid for pid in groups(site, execution).pids() if _text(f"/proc/{pid}/comm").strip() == name]
    return next(pid for pid in pids if _parent(pid) not in pids)


def _threads(pid: int) -> Iterator[Thread]:
    for tid in os.listdir(f"/proc/{pid}/task"):
        status = dict(line.split(":\t", 1) for line in _text(f"/proc/{pid}/task/{tid}/status").splitlines())
        cpus, mems = cpuset.parse(status["Cpus_allowed_list"]), cpuset.parse(status["Mems_allowed_list"])
        yield Thread(pid, int(tid), cpus, mems)


def _page_tables(pids: list[int]) -> tuple[dict[int, int], dict[int, int], dict[int, int], frozenset[str]]:
    """(anonymous, file, huge) bytes by node, and the policies of what is not a file; numa(7), numa_maps. A private
    mapping of a file shows its own copies and the file's pages as one sum.
    """
    private: Counter[int] = Counter()
    mapped: Counter[int] = Counter()
    huge: Counter[int] = Counter()
    policies = set()
    for pid in pids:
        for line in _text(f"/proc/{pid}/numa_maps").splitlines():
            pages = {int(node): int(count) for node, count in re.findall(r" N(\d+)=(\d+)", line)}
            size = re.search(r"kernelpagesize_kB=(\d+)", line)
            into = huge if re.search(r" huge( |$)", line) else mapped if " file=" in line else private
            for node, count in pages.items():
                into[node] += count * (int(size[1]) << 10 if size else PAGE)
            if pages and into is not mapped:
                policies.add(line.split()[1])
    return dict(private), dict(mapped), dict(huge), frozenset(policies)


def _effective(place: Place, kind: str) -> tuple[int, ...]:
    """Of the group that the processes are in."""
    name = f"cpuset.{kind}.effective" if place.version == 2 else f"cpuset.effective_{kind}"
    return cpuset.parse(_text(f"{place.run}/{name}"))


def _charged(place: Place) -> dict[int, int]:
    """memory.numa_stat counts bytes on v2 and pages on v1, where `hierarchical_` counts the groups below too."""
    stat = _text(f"{place.run}/memory.numa_stat")
    line = re.search(
        r"^(?:hierarchical_)?anon[ =](.*)$" if place.version == 2 else r"^hierarchical_anon=(.*)$", stat, re.M
    )
    unit = 1 if place.version == 2 else PAGE
    return {int(node): int(count) * unit for node, count in re.findall(r"N(\d+)=(\d+)", line[1] if line else "")}


def node_of(cpu: int) -> int:
    return int(next(Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*")).name[4:])


def memory_nodes() -> tuple[int, ...]:
    return cpuset.parse(_text(f"{NODES}/has_memory"))


def used_by_node() -> dict[int, int]:
    """Bytes of anonymous and shared memory on each node, whoever's they are."""
    found = {}
    for node in memory_nodes():
        fields = dict(re.findall(r"Node \d+ (\w+): +(\d+) kB", _text(f"{NODES}/node{node}/meminfo")))
        found[node] = (int(fields["AnonPages"]) + int(fields["Shmem"])) << 10
    return found


def free_hugepages(size_kb: int = 2048) -> dict[int, int]:
    """Pages by node; {} where the host has none of that size."""
    files = NODES.glob(f"node*/hugepages/hugepages-{size_kb}kB/free_hugepages")
    return {int(file.parts[-4][4:]): int(file.read_text()) for file in files}


def cpusets_left(site: Installation) -> list[str]:
    """Groups of executions that are still there."""
    caps = hostcaps.probe(f"{site.settings['run_dir']}/cgroup")
    return CgroupTree(caps, site.settings["cgroup_root"]).names()


def by_node(sizes: Mapping[int, int]) -> str:
    """`0:64MiB 1:64MiB`, what is less than a MiB left out."""
    return " ".join(f"{node}:{size >> 20}M" for node, size in sorted(sizes.items()) if size >> 20) or "-"


def _parent(pid: int) -> int:
    return int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])


def _text(path: str | Path) -> str:
    return Path(path).read_text()
