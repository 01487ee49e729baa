"""Which mechanism carries the priority class of a job's packets, for kinds of hosts, as a table."""

from __future__ import annotations

import struct

import pytest

from jobs.host import ControllerMount, HostCaps
from jobs.priority_class import PriorityClass
from runtime.cgroups.net_egress import program
from runtime.cgroups.net_priority import carriers
from runtime.cgroups.private_mounts import to_mount


def a_host(controllers: str, unified: str = "/sys/fs/cgroup", features: str = "bpf-egress") -> HostCaps:
    mounts = {name: ControllerMount(name, 1, f"/run/{name}") for name in controllers.split()}
    return HostCaps("6.1", "boot", mounts, unified, "v2", frozenset(), features=frozenset(features.split()))


PURE_V2 = a_host("")
PURE_V2_NET = a_host("net_prio net_cls")  # compiled in and mounted privately
PURE_V1 = a_host("net_prio net_cls", unified="")
NO_BPF = a_host("net_cls", features="")
BARE = a_host("", features="")


@pytest.mark.parametrize(
    ("host", "mode", "expected"),
    [
        (PURE_V2, "host", ("bpf",)),
        (PURE_V2_NET, "host", ("bpf", "net_prio", "net_cls")),
        (PURE_V1, "host", ("net_prio", "net_cls")),
        (NO_BPF, "host", ("net_cls",)),
        (BARE, "host", ()),
        *((host, "bridge", ("nftables",)) for host in (PURE_V2, PURE_V1, BARE)),
        *((host, "none", ()) for host in (PURE_V2, PURE_V1, BARE)),
    ],
)
def test_who_has_the_last_word(host: HostCaps, mode: str, expected: tuple[str, ...]) -> None:
    assert carriers(host, mode) == expected


@pytest.mark.parametrize(
    ("allowed", "kernel", "expected"),
    [
        (True, (6, 1), ("hugetlb", "net_cls", "net_prio")),
        (True, (5, 15), ("hugetlb", "net_cls", "net_prio")),
        (True, (5, 14), ("hugetlb",)),  # mounting them there stops v2 socket matching of the whole host
        (False, (6, 1), ("hugetlb",)),
    ],
)
def test_what_is_mounted_privately(allowed: bool, kernel: tuple[int, int], expected: tuple[str, ...]) -> None:
    assert to_mount(net_controllers=allowed, kernel=kernel) == expected


def test_the_program_is_four_instructions() -> None:
    """r2 = class; *(u32 *)(r1 + 32) = r2; r0 = 1; exit."""
    code = struct.unpack("=" + "BBhI" * 4, program(PriorityClass.HIGH.skb_priority))
    assert code == (0xB7, 2, 0, 0x4A0B0003, 0x63, 0x21, 32, 0, 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
