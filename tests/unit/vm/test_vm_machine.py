"""Hardware of guests: what QEMU is asked for, and what is refused before it starts."""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

import pytest
from vm.machine import BadMachine, Machine, distances, hardware_arguments, kernel_parameters, promises


def options(machine: Machine, name: str) -> list[str]:
    arguments = hardware_arguments(machine)
    return [value for option, value in itertools.pairwise(arguments) if option == name]


def test_cpus_and_memory_are_shared_by_the_nodes() -> None:
    machine = Machine(numa=2, cpus=8, threads=2, memory_mb=3000)
    assert options(machine, "-smp") == ["8,sockets=2,cores=2,threads=2"]
    assert options(machine, "-m") == ["3000M"]
    assert [node for node in options(machine, "-numa") if node.startswith("node,")] == [
        "node,nodeid=0,memdev=ram0,cpus=0-3",
        "node,nodeid=1,memdev=ram1,cpus=4-7",
    ]


def test_a_memory_only_node_has_memory_and_no_cpus() -> None:
    machine = Machine(numa=2, cpus=4, memory_mb=2048, memory_only_mb=512)
    assert "node,nodeid=2,memdev=ram2" in options(machine, "-numa")
    assert options(machine, "-object")[2] == "memory-backend-ram,id=ram2,size=512M"
    assert options(machine, "-m") == ["2560M"]


def test_four_nodes_are_a_ring() -> None:
    assert distances(Machine(numa=4, cpus=4)) == [
        [10, 21, 31, 21],
        [21, 10, 21, 31],
        [31, 21, 10, 21],
        [21, 31, 21, 10],
    ]


def test_distances_as_asked() -> None:
    machine = Machine(numa=2, cpus=2, distances=((10, 40), (40, 10)))
    assert "dist,src=0,dst=1,val=40" in options(machine, "-numa")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cgroup": "v3"},
        {"init": "runit"},
        {"numa": 2, "cpus": 3},
        {"cpus": 2, "threads": 4},
        {"hugepages": 2000},
        {"offline": (0,)},
        {"offline": (9,)},
        {"numa": 2, "distances": ((10,),)},
    ],
    ids=str,
)
def test_impossible_machines_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadMachine):
        Machine(**wrong)


def test_promises_count_what_tests_may_use() -> None:
    machine = Machine(cgroup="v1", numa=2, cpus=4, offline=(3,), hugepages=8, memory_only_mb=512)
    assert {"cpus.3", "numa.3", "hugepages", "cgroup1.cpuset", "root"} <= set(promises(machine))
    assert not {"cgroup2", "cgroup2.cpuset", "systemd"} & set(promises(machine))
    assert {"cpus.2", "numa.1", "systemd", "cgroup2.memory"} <= set(promises(Machine(init="systemd")))


def test_the_kernel_is_told_what_the_start_scripts_read() -> None:
    told = kernel_parameters(Machine(cgroup="hybrid", hugepages=4, offline=(1,)))
    assert told == ["jobs_vm.cgroup=hybrid", "jobs_vm.hugepages=4", "jobs_vm.offline=1"]


@pytest.mark.needs("tool.qemu-system-x86_64")
@pytest.mark.parametrize(
    "machine",
    [Machine(), Machine(numa=4, cpus=16, threads=2, memory_mb=256), Machine(numa=2, memory_mb=256, memory_only_mb=64)],
    ids=["plain", "smt", "memory-only"],
)
def test_qemu_takes_the_arguments(machine: Machine) -> None:
    """It is started without a disk and told to stop at once."""
    command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-nodefaults", "-display", "none", "-S"]
    done = subprocess.run(
        [*command, "-monitor", "stdio", *hardware_arguments(machine)],
        input="info numa\nquit\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{machine.nodes} nodes" in done.stdout
