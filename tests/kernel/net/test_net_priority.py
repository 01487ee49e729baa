"""The priority class on the wire, counted by an HTB qdisc behind the uplink; never read back from what was written."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from netlab import HOST, WORLD, Lab, Namespace, a_trunk, counted, htb, run
from patience import PATIENCE_S

from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge.network import Network
from netbridge.priority import classid, tc_class

_PACKETS = 20


@contextmanager
def growth(link: str) -> Iterator[dict[str, int]]:
    """Filled at the end: how many packets each class took meanwhile, without the classes that took a few (ARP)."""
    before, grown = counted(link), dict[str, int]()
    yield grown
    give_up = time.monotonic() + PATIENCE_S
    while sum(grown.values()) < _PACKETS and time.monotonic() < give_up:  # on a busy machine packets take their time
        rise = {name: count - before[name] for name, count in counted(link).items()}
        grown.update({name: count for name, count in rise.items() if count >= _PACKETS // 2})


def send(space: Namespace | None, to: str) -> None:
    """Datagrams."""
    if space is None:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        with space.within():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(_PACKETS):
            sender.sendto(b"x" * 100, (to, 9))


def sent(link: str, space: Namespace | None, to: str) -> dict[str, int]:
    """The classes that datagrams from there to there were counted in."""
    with growth(link) as grown:
        send(space, to)
    return grown


@pytest.mark.parametrize("priority_class", PriorityClass)
def test_a_routed_job_reaches_its_class(lab: Lab, priority_class: PriorityClass) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        htb("up0")
        job = await lab.job(network, priority_class=priority_class)
        sent("up0", job.space, WORLD)  # resolves the neighbours
        grown = sent("up0", job.space, WORLD)
        assert grown == {tc_class(priority_class): _PACKETS}
        await network.stop()

    anyio.run(main)


def test_a_changed_class_counts_at_once(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        htb("up0")
        job, other = await lab.job(network), await lab.job(network)
        sent("up0", job.space, WORLD)  # resolves the neighbours
        for each in (PriorityClass.HIGH, PriorityClass.BACKGROUND, PriorityClass.BACKGROUND, PriorityClass.REALTIME):
            await network.set_priority(job.address, each)
            grown = sent("up0", job.space, WORLD)
            assert grown == {tc_class(each): _PACKETS}
        grown = sent("up0", other.space, WORLD)
        assert grown == {tc_class(PriorityClass.NORMAL): _PACKETS}
        await network.detach(job.attachment)
        await network.stop()

    anyio.run(main)


def test_the_answers_of_a_published_port_too(lab: Lab) -> None:
    """Their source is the job's address until the last hook translates it."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        htb("up0")
        publish = (Publish(5300, 53, "udp"),)
        job = await lab.job(network, priority_class=PriorityClass.HIGH, publish=publish)
        with job.space.within():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with lab.world.within():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server, client:
            server.bind((job.address, 53))
            server.settimeout(PATIENCE_S)
            client.sendto(b"question", (HOST, 5300))
            _, peer = server.recvfrom(100)
            with growth("up0") as grown:
                for _ in range(_PACKETS):
                    server.sendto(b"answer", peer)
        assert grown == {tc_class(PriorityClass.HIGH): _PACKETS}
        await network.stop()

    anyio.run(main)


@pytest.mark.needs("br_netfilter")
@pytest.mark.parametrize("br_netfilter", ["1", "0"])
def test_a_bridged_uplink(lab: Lab, br_netfilter: str) -> None:
    """The way to the network is a port of the bridge: no routing, so the port's map decides."""

    async def main() -> None:
        run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={br_netfilter}")
        network = Network(lab.settings(trunk_ports=("trunk0",)))
        await network.start()
        async with a_trunk(lab.world) as trunk:
            htb(trunk)
            job = await lab.job(network, priority_class=PriorityClass.REALTIME)
            sent("trunk0", job.space, "10.213.200.1")  # resolves the neighbours
            grown = sent("trunk0", job.space, "10.213.200.1")
            assert grown == {tc_class(PriorityClass.REALTIME): _PACKETS}
            await network.set_priority(job.address, PriorityClass.BACKGROUND)
            grown = sent("trunk0", job.space, "10.213.200.1")
            assert grown == {tc_class(PriorityClass.BACKGROUND): _PACKETS}
        await network.stop()

    anyio.run(main)


@pytest.mark.needs("cgroup1.net_cls")
def test_a_host_network_job_by_net_cls_alone(lab: Lab, tmp_path: Path) -> None:
    """Its classid becomes the priority by way of nftables: no cls_cgroup and no net_prio is needed."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        htb("up0")
        with _net_cls_group(tmp_path, PriorityClass.BACKGROUND) as procs:
            program = f"import os; open({procs!r}, 'w').write('0')\n{_SENDER}"
            sent("up0", None, WORLD)  # resolves the neighbours
            with growth("up0") as grown:
                run(sys.executable, "-c", program)
            assert grown == {tc_class(PriorityClass.BACKGROUND): _PACKETS}
        await network.stop()

    anyio.run(main)


_SENDER = f"""
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({_PACKETS}):
    sender.sendto(b"x" * 100, ("{WORLD}", 9))
"""


@contextmanager
def _net_cls_group(tmp_path: Path, priority_class: PriorityClass) -> Iterator[str]:
    """`cgroup.procs` of a group of our own."""
    mounted = str(tmp_path / "net_cls")
    rows = dict(line.split()[:2] for line in Path("/proc/cgroups").read_text().splitlines() if line[0] != "#")
    partners = [name for name, number in rows.items() if number == rows["net_cls"] != "0"] or ["net_cls"]
    os.mkdir(mounted)
    run("mount", "-t", "cgroup", "-o", ",".join(partners), "none", mounted)
    group = f"{mounted}/nbtest-{os.getpid()}"
    try:
        os.mkdir(group)
        Path(group, "net_cls.classid").write_text(str(classid(priority_class)))
        yield f"{group}/cgroup.procs"
    finally:
        os.rmdir(group)
        run("umount", mounted)


def test_the_howto_for_the_uplink(lab: Lab) -> None:
    """docs/howto/priority-on-the-uplink.md, as it is printed."""

    async def main() -> None:
        text = (Path(__file__).parents[3] / "docs/howto/priority-on-the-uplink.md").read_text()
        commands = text.partition("```sh\n")[2].partition("```")[0].replace("LINK=eth0", "LINK=up0")
        run("sh", "-euc", commands)
        network = Network(lab.settings())
        await network.start()
        job = await lab.job(network, priority_class=PriorityClass.HIGH)
        sent("up0", job.space, WORLD)  # resolves the neighbours
        grown = sent("up0", job.space, WORLD)
        assert grown.pop("4a0b:ffff") >= _PACKETS  # the parent counts them too, and ARP
        assert grown == {tc_class(PriorityClass.HIGH): _PACKETS}
        await network.stop()

    anyio.run(main)
