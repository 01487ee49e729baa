"""Captured machines and odd ones: what the scheduler is told of CPUs and memory nodes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs.host import Cache, CoreKind, NumaNode, Package, Topology, Withheld, topology_from_json
from scheduler.capacity import Capacity
from scheduler.topology import read_topology

CAPTURED = Path(__file__).parents[2] / "data" / "sysfs"
GIB = 1 << 30


class Sysfs:
    """Files of a machine, by path. Folders are what the paths imply."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def listdir(self, folder: str) -> list[str]:
        below = {path[len(folder) + 1 :].split("/")[0] for path in self.files if path.startswith(f"{folder}/")}
        if not below:
            raise FileNotFoundError(folder)
        return sorted(below)

    def topology(self, **settings: bool) -> Topology:
        return read_topology(self.read, self.listdir, **settings)


def captured(name: str) -> Sysfs:
    return Sysfs(json.loads((CAPTURED / f"{name}.json").read_text()))


def a_machine(
    nodes: dict[int, tuple[str, int]],
    *,
    online: str,
    allowed: str = "",
    mems: str = "",
    siblings: dict[int, str] | None = None,
    total_gib: int = 0,
) -> Sysfs:
    """`nodes`: number → (cpulist, GiB)."""
    listed = ",".join(map(str, nodes))
    files = {
        "/sys/devices/system/cpu/online": f"{online}\n",
        "/sys/devices/system/node/online": f"{listed}\n",
        "/proc/meminfo": f"MemTotal: {(total_gib or sum(size for _, size in nodes.values())) << 20} kB\n",
        "/proc/self/status": f"Cpus_allowed_list:\t{allowed or online}\nMems_allowed_list:\t{mems or listed}\n",
    }
    for number, (cpus, size) in nodes.items():
        folder = f"/sys/devices/system/node/node{number}"
        files[f"{folder}/cpulist"] = f"{cpus}\n"
        files[f"{folder}/meminfo"] = f"Node {number} MemTotal:  {size << 20} kB\nNode {number} MemFree: 4 kB\n"
        files[f"{folder}/distance"] = " ".join("10" if other == number else "21" for other in nodes) + "\n"
    for cpu, text in (siblings or {}).items():
        files[f"/sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"] = f"{text}\n"
    return Sysfs(files)


def test_two_nodes():
    topology = a_machine({0: ("0-3", 8), 1: ("4-7", 8)}, online="0-7").topology()
    assert topology.nodes == (
        NumaNode(0, (0, 1, 2, 3), 8 * GIB, ((0, 10), (1, 21))),
        NumaNode(1, (4, 5, 6, 7), 8 * GIB, ((0, 21), (1, 10))),
    )
    assert topology.cpus == tuple(range(8)) and topology.memory_bytes == 16 * GIB


def test_siblings():
    smt = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}
    assert a_machine({0: ("0-1,4-5", 4)}, online="0-1,4-5", siblings=smt).topology().siblings == ((0, 4), (1, 5))


def test_siblings_of_an_older_kernel_and_of_a_silent_one():
    machine = a_machine({0: ("0-2", 4)}, online="0-2")
    machine.files["/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"] = "0-1\n"
    machine.files["/sys/devices/system/cpu/cpu1/topology/thread_siblings_list"] = "0-1\n"
    assert machine.topology().siblings == ((0, 1), (2,))


def test_offline_cpus_are_left_out():
    """The node still lists them on some kernels; sysfs of an offline CPU has no topology folder."""
    topology = a_machine({0: ("0-3", 4)}, online="0,2-3", siblings={0: "0", 2: "2-3", 3: "2-3"}).topology()
    assert topology.cpus == (0, 2, 3)
    assert topology.siblings == ((0,), (2, 3))


def test_only_what_this_process_may_use():
    """A container or CPUAffinity= sees fewer CPUs than the node list."""
    smt = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    topology = a_machine({0: ("0-3", 4), 1: ("4-7", 4)}, online="0-7", allowed="1,5-6", siblings=smt).topology()
    assert [node.cpus for node in topology.nodes] == [(1,), (5, 6)]
    assert topology.siblings == ((0, 4), (1, 5), (2, 6), (3, 7)), "of the machine"
    assert [(item.cpu, item.node) for item in topology.withheld] == [(0, 0), (2, 0), (3, 0), (4, 1), (7, 1)]
    assert {item.why for item in topology.withheld} == {"outside"}
    assert Capacity.of(topology).core_of == {1: (1,), 5: (5,), 6: (6,)}, "1 and 5 say they are one core on two nodes"


def test_isolated_cpus_are_given_to_nobody_unless_asked_for():
    machine = a_machine({0: ("0-3", 4), 1: ("4-7", 4)}, online="0-7")
    machine.files["/sys/devices/system/cpu/isolated"] = "2-3,6\n"
    topology = machine.topology()
    assert topology.cpus == (0, 1, 4, 5, 7)
    assert topology.withheld == tuple(Withheld(cpu, "isolated", cpu // 4) for cpu in (2, 3, 6))
    assert machine.topology(use_isolated_cpus=True).cpus == tuple(range(8))
    machine.files["/sys/devices/system/cpu/isolated"] = "0-7\n"
    assert machine.topology().cpus == tuple(range(8)), "there are no others"


def test_cpus_that_are_off_are_told_of_with_their_node_where_a_link_says_it():
    machine = a_machine({0: ("0-1", 4), 1: ("4", 4)}, online="0-1,4")
    machine.files["/sys/devices/system/cpu/present"] = "0-5\n"
    machine.files["/sys/devices/system/node/node1/cpu5/online"] = "0\n"
    assert machine.topology().withheld == (
        Withheld(2, "offline", -1), Withheld(3, "offline", -1), Withheld(5, "offline", 1),
    )  # fmt: skip


def test_a_cpu_on_two_nodes_is_on_the_first():
    topology = a_machine({0: ("0-2", 4), 1: ("2-3", 4)}, online="0-3").topology()
    assert [node.cpus for node in topology.nodes] == [(0, 1, 2), (3,)]


def test_cores_that_overlap_are_taken_apart():
    machine = a_machine({0: ("0-3", 4)}, online="0-3", siblings={0: "0-1", 1: "0-1", 2: "1-2", 3: "3"})
    assert machine.topology().siblings == ((0, 1), (2,), (3,))


def test_caches_are_told_once_each():
    machine = a_machine({0: ("0-3", 4)}, online="0-3")
    for cpu in range(4):
        folder = f"/sys/devices/system/cpu/cpu{cpu}/cache"
        for index, (level, kind, size, shared) in enumerate(
            [
                ("1", "Data", "48K", f"{cpu}"),
                ("2", "Unified", "1M", f"{cpu & ~1}-{cpu | 1}"),
                ("3", "Unified", "8M", "0-9"),
            ]
        ):
            files = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
            machine.files.update({f"{folder}/index{index}/{name}": f"{text}\n" for name, text in files.items()})
    assert machine.topology().caches == (
        *(Cache(1, "data", 48 << 10, (cpu,)) for cpu in range(4)),
        Cache(2, "unified", 1 << 20, (0, 1)), Cache(2, "unified", 1 << 20, (2, 3)),
        Cache(3, "unified", 8 << 20, (0, 1, 2, 3)),
    )  # fmt: skip
    assert machine.topology().last_cache_of() == dict.fromkeys(range(4), 6)


def test_kinds_of_cores_by_their_pmus():
    machine = a_machine({0: ("0-5", 4)}, online="0-5")
    machine.files |= {"/sys/devices/cpu_core/cpus": "0-1\n", "/sys/devices/cpu_atom/cpus": "2-5\n"}
    assert machine.topology().kinds == (CoreKind("performance", (0, 1)), CoreKind("efficiency", (2, 3, 4, 5)))
    del machine.files["/sys/devices/cpu_atom/cpus"]
    assert machine.topology().kinds == ()


def test_kinds_of_cores_by_capacity_and_a_little_difference_is_none():
    machine = a_machine({0: ("0-4", 4)}, online="0-4")
    for cpu, capacity in enumerate((430, 1024, 430, 1000, 760)):
        machine.files[f"/sys/devices/system/cpu/cpu{cpu}/cpu_capacity"] = f"{capacity}\n"
    assert machine.topology().kinds == (
        CoreKind("performance", (1, 3)), CoreKind("middle", (4,)), CoreKind("efficiency", (0, 2)),
    )  # fmt: skip


def test_sockets_dies_and_what_says_nothing():
    machine = a_machine({0: ("0-7", 4)}, online="0-7")
    for cpu in range(8):
        folder = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        machine.files[f"{folder}/physical_package_id"] = f"{36 if cpu < 4 else 3180}\n"
        machine.files[f"{folder}/die_cpus_list"] = f"{cpu & ~1}-{cpu | 1}\n" if cpu < 4 else "4-7\n"
        machine.files[f"{folder}/cluster_cpus_list"] = f"{cpu}\n"
    assert machine.topology().packages == (
        Package(36, (0, 1, 2, 3), dies=((0, 1), (2, 3))), Package(3180, (4, 5, 6, 7)),
    )  # fmt: skip
    for cpu in range(8):
        machine.files[f"/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = "-1\n"
    assert [package.id for package in machine.topology().packages] == [0]


def test_huge_pages_are_no_memory_for_anything_else():
    machine = a_machine({0: ("0", 8), 1: ("1", 8)}, online="0-1")
    folder = "/sys/devices/system/node/node1/hugepages/hugepages-1048576kB"
    machine.files |= {f"{folder}/nr_hugepages": "6\n", f"{folder}/free_hugepages": "5\n"}
    node = machine.topology().nodes[1]
    assert (node.hugepages, node.hugepages_total) == (((GIB, 5),), ((GIB, 6),))
    capacity = Capacity.of(machine.topology(), reserve_bytes=GIB)
    assert capacity.memory == {0: 8 * GIB - GIB * 8 // 10 - 1, 1: 2 * GIB - GIB * 2 // 10 - 1}
    assert capacity.pages == {(1, GIB): 5}


def test_a_topology_survives_json():
    topology = captured("three-nodes-one-cpu-offline").topology()
    assert topology_from_json(json.loads(json.dumps(asdict(topology)))) == topology


def test_memory_of_a_node_that_may_not_be_used():
    topology = a_machine({0: ("0-1", 4), 1: ("2-3", 4), 2: ("", 16)}, online="0-3", mems="0").topology()
    assert [(node.id, node.cpus, node.memory_bytes) for node in topology.nodes] == [
        (0, (0, 1), 4 * GIB),
        (1, (2, 3), 0),
    ]


def test_numbers_with_holes_memory_only_and_without_memory():
    """As on POWER: nodes 0 and 8 have CPUs, 252 is memory of an accelerator, 255 has CPUs and no memory."""
    topology = a_machine(
        {0: ("0-1", 8), 8: ("16-17", 8), 252: ("", 32), 255: ("40", 0)}, online="0-1,16-17,40"
    ).topology()
    assert [(node.id, node.cpus, node.memory_bytes // GIB) for node in topology.nodes] == [
        (0, (0, 1), 8),
        (8, (16, 17), 8),
        (252, (), 32),
        (255, (40,), 0),
    ]
    assert dict(topology.nodes[1].distances) == {0: 21, 8: 10, 252: 21, 255: 21}


def test_a_node_with_nothing_is_left_out():
    topology = a_machine({0: ("0", 4), 1: ("", 0)}, online="0").topology()
    assert [node.id for node in topology.nodes] == [0]


def test_kernel_without_numa():
    files = {
        "/sys/devices/system/cpu/online": "0-3\n",
        "/proc/meminfo": f"MemTotal: {6 << 20} kB\n",
        "/proc/self/status": "Cpus_allowed_list:\t0-2\n",
    }
    assert Sysfs(files).topology().nodes == (NumaNode(0, (0, 1, 2), 6 * GIB),)


def test_without_node_online_the_folders_count():
    machine = a_machine({0: ("0", 1), 3: ("1", 1)}, online="0-1")
    del machine.files["/sys/devices/system/node/online"]
    assert [node.id for node in machine.topology().nodes] == [0, 3]


def test_cpus_that_no_node_lists_are_not_lost():
    assert a_machine({0: ("", 4), 1: ("2", 4)}, online="0-2").topology().nodes[0].cpus == (0, 1)


def test_hugepages():
    machine = a_machine({0: ("0", 4)}, online="0")
    machine.files["/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages"] = "12\n"
    machine.files["/sys/devices/system/node/node0/hugepages/hugepages-1048576kB/free_hugepages"] = "1\n"
    machine.files["/sys/devices/system/node/node0/hugepages/odd/free_hugepages"] = "1\n"
    assert machine.topology().nodes[0].hugepages == ((2 << 20, 12), (1 << 30, 1))


def test_distances_that_do_not_match_the_nodes_are_dropped():
    machine = a_machine({0: ("0", 4), 1: ("1", 4)}, online="0-1")
    machine.files["/sys/devices/system/node/node0/distance"] = "10\n"
    assert machine.topology().nodes[0].distances == ()


@pytest.mark.parametrize("text", ["", "garbage", "3-1", "0-", "\0"])
def test_garbage_is_nothing(text):
    machine = a_machine({0: (text, 4)}, online="0-1")
    machine.files["/sys/devices/system/node/node0/distance"] = text
    assert machine.topology().nodes[0].cpus == (0, 1)


def test_nothing_at_all():
    """No sysfs, no procfs: one CPU is certain, this program runs on it."""
    assert Sysfs({}).topology() == Topology((NumaNode(0, (0,), 0),), ((0,),), packages=(Package(0, (0,)),))


def test_captured_three_nodes_one_cpu_offline():
    """A virtual machine with two nodes of two CPUs, of which number 3 is offline, and one of memory only."""
    topology = captured("three-nodes-one-cpu-offline").topology()
    assert [(node.id, node.cpus, node.memory_bytes >> 20) for node in topology.nodes] == [
        (0, (0, 1), 722),
        (1, (2,), 503),
        (2, (), 250),
    ]
    assert [dict(node.distances)[2] for node in topology.nodes] == [31, 41, 10]
    assert topology.siblings == ((0,), (1,), (2,))
    assert topology.withheld == (Withheld(3, "offline", -1),)


def test_captured_hotplugged_memory():
    """A virtual machine grown at run time: the node's own file counts 4 of its 24 GB."""
    topology = captured("hotplugged-memory").topology()
    assert topology.memory_bytes == 24_683_656 << 10
    assert topology.cpus == (0, 1) and topology.siblings == ((0,), (1,))
