"""What could never run here is refused with the key and what is possible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.host import CONTROLLERS, ControllerMount, HostCaps
from jobs.spec import Io, JobSpec, Network, Publish, Resources, Retry
from scheduler.admission import never
from tests.builders import GIB, MIB, a_capacity, a_job


def caps(*absent: str, unified: str = "", namespaces: str = "pid net ipc mnt uts user cgroup time") -> HostCaps:
    present = [name for name in CONTROLLERS if name not in absent]
    return HostCaps(
        kernel="6.1",
        boot_id="b",
        controllers={name: ControllerMount(name, 1, f"/sys/fs/cgroup/{name}") for name in present},
        unified=unified,
        freezer="v2",
        namespaces=frozenset(namespaces.split()),
        hugepage_sizes=(2 * MIB,),
    )


HOST = a_capacity(nodes=2, cpus_per_node=4, memory_per_node=4 * GIB, hugepages=[(2 * MIB, 10)], reserve_bytes=GIB)


def with_resources(**resources: Any) -> JobSpec:
    return replace(a_job(), resources=Resources(memory_bytes=MIB, **resources))


@pytest.mark.parametrize(
    "spec",
    [
        a_job(),
        a_job(cpus=8, memory=7 * GIB),
        a_job(cpus=0.5),
        a_job(numa=(0, 1), cpus=8),
        a_job(numa="spread", cpus=8),
        a_job(hugepages=[(2 * MIB, 20)]),
        a_job(publish=[80, 81]),
        with_resources(io=Io(read_bytes_s=1)),
        with_resources(devices=("/dev/fuse",)),
    ],
)
def test_possible(spec: JobSpec) -> None:
    assert never(spec, HOST, caps()) == ()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (a_job(cpus=9), "resources.cpus: 9 wanted, this host has 8"),
        (a_job(cpus=8.5), "resources.cpus: 8.5 wanted, this host has 8"),
        (a_job(cpus=5, numa=(1,)), "resources.cpus: 5 wanted, this host has 4 on memory nodes 1"),
        (a_job(memory=8 * GIB), "resources.memory: 8.0GiB wanted, this host can give 7.0GiB"),
        (
            a_job(memory=4 * GIB, numa=(1,)),
            "resources.memory: 4.0GiB wanted, this host can give 3.5GiB on memory nodes 1",
        ),
        (a_job(numa=(0, 2)), "placement.numa: this host has no memory node 2; it has 0, 1"),
        (a_job(hugepages=[(2 * MIB, 21)]), "resources.hugepages: 21 of 2.0MiB wanted, this host has 20"),
        (a_job(hugepages=[(GIB, 1)]), "resources.hugepages: this host has no pages of 1.0GiB; it has 2.0MiB"),
    ],
)
def test_too_much(spec: JobSpec, reason: str) -> None:
    assert never(spec, HOST, caps()) == (reason,)


@pytest.mark.parametrize(
    ("spec", "absent", "key"),
    [
        (with_resources(io=Io(write_bytes_s=1)), "io", "resources.io"),
        (a_job(hugepages=[(2 * MIB, 1)]), "hugetlb", "resources.hugepages"),
        (with_resources(devices=("/dev/fuse",)), "devices", "resources.devices"),
    ],
)
def test_a_limit_that_nobody_would_keep(spec: JobSpec, absent: str, key: str) -> None:
    (reason,) = never(spec, HOST, caps(absent))
    assert reason.startswith(f"{key}: this host has no '{absent}' controller; it has memory, ")
    assert never(a_job(), HOST, caps(absent)) == (), "only what was asked for is missed"


def test_on_v2_devices_need_no_controller() -> None:
    assert never(with_resources(devices=("/dev/fuse",)), HOST, caps("devices", unified="/sys/fs/cgroup")) == ()


def test_network() -> None:
    no_net = caps(namespaces="pid mnt")
    (reason,) = never(a_job(), HOST, no_net)
    assert reason.startswith("network.mode")
    assert never(replace(a_job(), network=Network(mode="host")), HOST, no_net) == ()
    twice = Network(publish=(Publish(80, 1), Publish(80, 2), Publish(80, 3, "udp")))
    assert never(replace(a_job(), network=twice), HOST, caps()) == ("network.publish: port 80/tcp is given twice",)
    (reason,) = never(replace(a_job(), network=Network("none", publish=(Publish(80, 1),))), HOST, caps())
    assert reason == 'network.publish: only with mode = "bridge", this job has mode = "none"'


def test_all_reasons_at_once() -> None:
    spec = replace(a_job(cpus=9), network=Network("host", publish=(Publish(80, 1),)))
    assert [reason.split(":")[0] for reason in never(spec, HOST, caps())] == ["resources.cpus", "network.publish"]


def test_the_memory_that_a_retry_may_ask_for_must_exist() -> None:
    retry = Retry(most=1, memory_factor=2.0, memory_most_bytes=7 * GIB)
    assert never(a_job(retry=retry), HOST, caps()) == ()
    (reason,) = never(a_job(retry=replace(retry, memory_most_bytes=8 * GIB)), HOST, caps())
    assert reason == "retry.memory_most: 8.0GiB wanted, this host can give 7.0GiB"
