"""Spec and placement to limits, and the small conversions between the kernel's scales."""

from __future__ import annotations

import struct

import pytest

from jobs.placement import Placement
from jobs.priority_class import PriorityClass
from jobs.spec import Io, JobSpec, Resources
from runtime.cgroups.blkio import bfq_weight
from runtime.cgroups.device_bpf import program
from runtime.cgroups.hugetlb import size_bytes, size_name
from runtime.cgroups.limits import STANDARD_DEVICES, DeviceRule, limits_of

MIB = 1 << 20


def limits(spec: JobSpec, placement: Placement, **more):
    return limits_of(spec, placement, cpu_weight=250, io_weight=50, network_class="high", **more)


def test_whole_cpus_are_pinned_without_a_quota():
    spec = JobSpec("x", resources=Resources(cpus=2, memory_bytes=300 * MIB, swap_bytes=MIB, pids=9))
    got = limits(spec, Placement("n", cpus=(2, 3), mems=(0,), exclusive=True))
    assert (got.cpus, got.mems, got.cpu_quota) == ((2, 3), (0,), 0.0)
    assert (got.memory_bytes, got.swap_bytes, got.pids) == (300 * MIB, MIB, 9)


def test_a_fraction_gets_a_quota():
    spec = JobSpec("x", resources=Resources(cpus=0.5))
    assert limits(spec, Placement("n", (0, 1), (0,), exclusive=False, shares=0.5)).cpu_quota == 0.5
    assert limits(spec, Placement("n", (0, 1), (0,), exclusive=False)).cpu_quota == 0.5


def test_weights_and_class_are_the_present_ones():
    got = limits(JobSpec("x"), Placement("n", (0,), (0,), True), interfaces=("eth0", "eth1"))
    assert (got.cpu_weight, got.io_weight) == (250, 50)
    high = PriorityClass.HIGH.skb_priority
    assert got.class_id == high
    assert got.interface_priorities == (("eth0", high), ("eth1", high))


def test_rates_and_devices():
    fuse = DeviceRule("c", 10, 229)
    spec = JobSpec("x", resources=Resources(io=Io(read_bytes_s=MIB), hugepages=((2 * MIB, 4),)))
    got = limits(spec, Placement("n", (0,), (0,), True), devices=(fuse,), io_devices=((8, 0),))
    assert (got.io_read_bytes_s, got.io_write_bytes_s, got.io_devices) == (MIB, -1, ((8, 0),))
    assert got.devices == (*STANDARD_DEVICES, fuse) and got.hugepages == ((2 * MIB, 4),)


def test_rules_as_the_kernel_writes_them():
    assert [str(rule) for rule in (DeviceRule("c", 1, 3), DeviceRule("b", 7, None, "r"))] == ["c 1:3 rw", "b 7:* r"]


@pytest.mark.parametrize(
    ("size", "name"), [(64 << 10, "64KB"), (2 * MIB, "2MB"), (32 * MIB, "32MB"), (1 << 30, "1GB"), (16 << 30, "16GB")]
)
def test_huge_page_names(size, name):
    assert size_name(size) == name and size_bytes(name) == size


def test_bfq_weight():
    assert [bfq_weight(weight) for weight in (1, 100, 101, 5050, 10_000)] == [1, 100, 100, 550, 1000]
    scaled = [bfq_weight(weight) for weight in range(1, 10_001)]
    assert scaled == sorted(scaled)


def run(code: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """The few instructions of a device program, interpreted."""
    context = struct.pack("=III", access << 16 | kind, major, minor)
    registers, at = [0] * 10, 0
    while True:
        opcode, packed, jump, value = struct.unpack_from("=BBhi", code, at * 8)
        to, source = packed & 15, packed >> 4
        at += 1
        match opcode:
            case 0x61:
                registers[to] = struct.unpack_from("=I", context, jump)[0]
            case 0xB7:
                registers[to] = value
            case 0xBF:
                registers[to] = registers[source]
            case 0x57:
                registers[to] &= value
            case 0x77:
                registers[to] >>= value
            case 0x55:
                at += jump if registers[to] != value else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(hex(opcode))


RULES = (DeviceRule("c", 1, 3), DeviceRule("c", 136, None), DeviceRule("b", 7, 1, "r"))
BLOCK, CHAR, MKNOD, READ, WRITE = 1, 2, 1, 2, 4


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((CHAR, READ, 1, 3), 1),
        ((CHAR, READ | WRITE, 1, 3), 1),
        ((CHAR, MKNOD, 1, 3), 0),
        ((CHAR, MKNOD | READ, 1, 3), 0),
        ((BLOCK, READ, 1, 3), 0),
        ((CHAR, READ, 1, 4), 0),
        ((CHAR, READ, 2, 3), 0),
        ((CHAR, WRITE, 136, 77), 1),
        ((BLOCK, READ, 7, 1), 1),
        ((BLOCK, WRITE, 7, 1), 0),
        ((BLOCK, READ, 7, 2), 0),
    ],
)
def test_device_program(asked, answer):
    assert run(program(RULES), *asked) == answer


def test_device_program_without_rules_allows_nothing():
    assert run(program(()), CHAR, READ, 1, 3) == 0
