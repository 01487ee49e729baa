"""Who reaches whom: jobs of one owner, of another, the host, the world; and who may not lie about who they are."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from netlab import HOST, WORLD, Job, Lab, Namespace, a_trunk, connects, listening, run
from patience import PATIENCE_S

from netbridge import hosts
from netbridge.network import Network


def with_network(lab: Lab, body: Callable[[Network], Coroutine[Any, Any, None]], **changed: object) -> None:
    """Runs the body on a started network, then stops it."""

    async def main() -> None:
        network = Network(lab.settings(**changed))
        await network.start()
        try:
            await body(network)
        finally:
            await network.stop()

    anyio.run(main)


@pytest.fixture(params=["1", "0"], ids=["br_netfilter-on", "br_netfilter-off"])
def br_netfilter(lab: Lab, needs: Callable[..., None], request: pytest.FixtureRequest) -> None:
    needs("br_netfilter")
    run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={request.param}")


@pytest.mark.usefixtures("br_netfilter")
def test_jobs_of_one_owner_reach_each_other_and_no_others(lab: Lab) -> None:
    async def body(network: Network) -> None:
        alice, sibling = await lab.job(network, owner=1000), await lab.job(network, owner=1000)
        bob = await lab.job(network, owner=1001)
        with alice.listen(80), bob.listen(80):
            assert connects(sibling.space, alice.address, 80)
            assert not connects(sibling.space, bob.address, 80, timeout_s=0.3)
            assert not connects(bob.space, alice.address, 80, timeout_s=0.3)

    with_network(lab, body)


def test_uid_0_owns_nothing_by_default(lab: Lab) -> None:
    """A port without an owner must not count as root's: a missing mark is not uid 0."""

    async def body(network: Network) -> None:
        roots, ownerless = await lab.job(network, owner=0), await lab.job(network, owner=0)
        with roots.listen(80):
            assert connects(ownerless.space, roots.address, 80)
            run("nft", "delete", "element", "bridge", "jobs", "owner", f"{{ {ownerless.attachment.link} }}")
            assert not connects(ownerless.space, roots.address, 80, timeout_s=0.3)

    with_network(lab, body)


def test_an_unattached_slot_says_nothing(lab: Lab) -> None:
    async def body(network: Network) -> None:
        job, slot = await lab.job(network), await lab.slot(network)
        with job.listen(80), listening(lab.world, WORLD, 80):
            assert not connects(slot.space, job.address, 80, timeout_s=0.3)
            assert not connects(slot.space, WORLD, 80, timeout_s=0.3)
            assert not _pings(slot.space, "10.213.0.1", timeout_s=0.3)
            await lab.attach(network, slot.attachment)
            assert connects(slot.space, job.address, 80)

    with_network(lab, body)


def test_no_foreign_address_leaves_unhidden(lab: Lab) -> None:
    """A station of a bridged network may not send out what would not be translated."""

    async def body(network: Network) -> None:
        station = lab.space()
        async with a_trunk(station):
            station.run("ip", "address", "add", "192.168.77.1/32", "dev", "lan0")
            with lab.world.within():
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with receiver:
                receiver.bind((WORLD, 9))
                receiver.settimeout(PATIENCE_S)
                for source in ("192.168.77.1", "10.213.200.1"):
                    station.run("ip", "route", "replace", "default", "via", "10.213.0.1", "src", source)
                    with station.within(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                        sender.sendto(source.encode(), (WORLD, 9))
                assert receiver.recv(100) == b"10.213.200.1"

    with_network(lab, body, trunk_ports=("trunk0",))


def test_the_hosts_loopback_is_closed_to_the_trunk(lab: Lab) -> None:
    """Stations of a bridged network meet no anti-spoofing; route_localnet must not let them in, not even a ping."""

    async def body(network: Network) -> None:
        async with a_trunk(lab.world):
            lab.world.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
            lab.world.run("ip", "route", "add", "127.0.0.1/32", "via", "10.213.0.1")
            lab.world.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
            assert _pings(lab.world, "10.213.0.1")
            assert not _pings(lab.world, "127.0.0.1", timeout_s=0.3)

    with_network(lab, body, trunk_ports=("trunk0",))


@pytest.mark.usefixtures("br_netfilter")
def test_a_job_does_not_get_round_the_bridge_through_the_gateway(lab: Lab) -> None:
    async def body(network: Network) -> None:
        alice, bob = await lab.job(network, owner=1000), await lab.job(network, owner=1001)
        bob.space.run("ip", "route", "add", f"{alice.address}/32", "via", "10.213.0.1")
        alice.space.run("ip", "route", "add", f"{bob.address}/32", "via", "10.213.0.1")
        with alice.listen(80):
            assert not connects(bob.space, alice.address, 80, timeout_s=0.3)

    with_network(lab, body)


def test_out_through_the_uplink_hidden_behind_the_host(lab: Lab) -> None:
    async def body(network: Network) -> None:
        job = await lab.job(network)
        with listening(lab.world, WORLD, 80) as server:
            assert connects(job.space, WORLD, 80)
            _, peer = server.accept()
            assert peer[0] == HOST

    with_network(lab, body)


def test_another_uplink_than_the_set_one_is_closed(lab: Lab) -> None:
    run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")

    async def body(network: Network) -> None:
        job = await lab.job(network)
        with listening(lab.world, WORLD, 80):
            assert not connects(job.space, WORLD, 80, timeout_s=0.3)

    with_network(lab, body, uplink="other0")


def test_the_world_does_not_reach_a_job_by_its_address(lab: Lab) -> None:
    async def body(network: Network) -> None:
        job = await lab.job(network)
        lab.world.run("ip", "route", "add", "10.213.0.0/16", "via", HOST)
        with job.listen(80):
            assert not connects(lab.world, job.address, 80, timeout_s=0.3)
            assert connects(None, job.address, 80)  # the host's root does

    with_network(lab, body)


def test_metadata_addresses_are_closed(lab: Lab) -> None:
    lab.world.run("ip", "address", "add", "169.254.169.254/32", "dev", "lo")

    async def body(network: Network) -> None:
        job = await lab.job(network)
        with listening(lab.world, "169.254.169.254", 80):
            assert connects(None, "169.254.169.254", 80)
            assert not connects(job.space, "169.254.169.254", 80, timeout_s=0.3)

    with_network(lab, body)


def test_services_of_the_host_are_closed_to_jobs(lab: Lab) -> None:
    async def body(network: Network) -> None:
        job = await lab.job(network)
        for address in ("10.213.0.1", HOST):
            with listening(None, address, 8000):
                assert connects(None, address, 8000)
                assert not connects(job.space, address, 8000, timeout_s=0.3)
        assert _pings(job.space, "10.213.0.1")

    with_network(lab, body)


def test_a_name_server_on_the_host_itself_is_open(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {HOST}\n")
    monkeypatch.setattr(hosts, "RESOLV_CONFS", (str(resolv),))

    async def body(network: Network) -> None:
        job = await lab.job(network)
        with listening(None, HOST, 53), listening(None, HOST, 54), listening(None, "10.213.0.1", 53):
            assert connects(job.space, HOST, 53)
            assert not connects(job.space, HOST, 54, timeout_s=0.3)
            assert not connects(job.space, "10.213.0.1", 53, timeout_s=0.3)

    with_network(lab, body)


def test_the_hosts_loopback_is_closed_to_jobs(lab: Lab) -> None:
    """route_localnet is on for the bridge, so that 127.0.0.1 reaches published ports: this is its price."""

    async def body(network: Network) -> None:
        job = await lab.job(network)
        job.space.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
        job.space.run("ip", "route", "add", "127.0.0.1/32", "via", "10.213.0.1")
        job.space.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        with listening(None, "127.0.0.1", 8000):
            assert connects(None, "127.0.0.1", 8000)
            assert not connects(job.space, "127.0.0.1", 8000, timeout_s=0.3)

    with_network(lab, body)


def test_host_users_reach_their_own_jobs_only(lab: Lab) -> None:
    async def body(network: Network) -> None:
        job = await lab.job(network, owner=1000)
        probe = "import socket, sys; socket.create_connection((sys.argv[1], 80), 1)"

        def connect(uid: int, address: str) -> None:
            switch = ["setpriv", "--clear-groups", "--regid=65534", f"--reuid={uid}"]
            run(*switch, "/usr/bin/python3", "-c", probe, address)

        with job.listen(80), listening(lab.world, WORLD, 80):
            connect(1000, job.address)
            connect(1001, WORLD)
            with pytest.raises(AssertionError, match=r"No route to host|unreachable|Permission"):
                connect(1001, job.address)

    with_network(lab, body)


def _datagram(job: Job, to: str) -> None:
    """Without waiting for an answer; a static neighbour entry keeps ARP out of it."""
    with job.space.within(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (to, 9))


@pytest.mark.usefixtures("br_netfilter")
@pytest.mark.parametrize("lie", ["address", "mac"])
def test_a_forged_source_is_dropped(lab: Lab, lie: str) -> None:
    async def body(network: Network) -> None:
        liar, sibling = await lab.job(network), await lab.job(network)
        for job, other in ((liar, sibling), (sibling, liar)):
            job.space.run("ip", "neigh", "replace", other.address, "lladdr", other.attachment.mac, "dev", "eth0")
        with sibling.space.within():
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver:
            receiver.bind(("0.0.0.0", 9))
            receiver.settimeout(PATIENCE_S)
            _datagram(liar, sibling.address)
            assert receiver.recvfrom(10)[1][0] == liar.address  # the control: honest, it arrives
            if lie == "address":
                liar.space.run("ip", "address", "add", "10.213.9.9/16", "dev", "eth0")
                liar.space.run("ip", "route", "add", f"{sibling.address}/32", "dev", "eth0", "src", "10.213.9.9")
            else:
                liar.space.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
            receiver.settimeout(0.3)
            _datagram(liar, sibling.address)
            with pytest.raises(TimeoutError):
                receiver.recv(10)

    with_network(lab, body)


def test_a_forged_arp_answer_is_dropped(lab: Lab) -> None:
    """A job that answers for its sibling's address must not get the sibling's packets."""

    async def body(network: Network) -> None:
        liar, victim, asker = [await lab.job(network) for _ in range(3)]
        victim.space.run("ip", "link", "set", "eth0", "down")
        liar.space.run("ip", "address", "add", f"{victim.address}/32", "dev", "lo")  # Linux answers ARP for it
        with listening(liar.space, victim.address, 80):
            assert not connects(asker.space, victim.address, 80, timeout_s=0.3)
            assert victim.address not in _neighbours(asker)

    with_network(lab, body)


def _neighbours(job: Job) -> str:
    return job.space.run("ip", "neigh", "show", "nud", "reachable")


@pytest.mark.usefixtures("br_netfilter")
def test_of_all_frames_only_honest_ones_arrive(lab: Lab) -> None:
    """What a raw socket can make, sent to a sibling: the honest frames, sent last, are the first to arrive."""

    async def body(network: Network) -> None:
        one, two = await lab.job(network), await lab.job(network)
        mine, its = _mac(one.attachment.mac), _mac(two.attachment.mac)
        forged = [
            its + mine + b"\x86\xdd" + bytes(60),  # IPv6, router advertisements among it
            its + mine + b"\x81\x00\x00\x07\x08\x00" + _ipv4(one.address, two.address, b"tagged"),  # arrives untagged
            its + mine + b"\x88\xb5" + bytes(60),  # anything else (IEEE 802: local experiments)
            its + mine + b"\x08\x00" + _ipv4("10.213.0.99", two.address, b"stolen address"),
            its + mine + b"\x08\x00" + _ipv4("10.213.0.1", two.address, b"the gateway's address"),
            its + mine + b"\x08\x00" + _ipv4(one.address, "127.0.0.1", b"to loopback"),
            its + _mac("02:00:00:00:00:99") + b"\x08\x00" + _ipv4(one.address, two.address, b"stolen MAC"),
            its + mine + b"\x08\x06" + _arp(mine, "10.213.0.1", two.address),  # "the gateway is at my MAC"
            its + mine + b"\x08\x06" + _arp(_mac("02:00:00:00:00:99"), one.address, two.address),
            its + _mac("02:00:00:00:00:99") + b"\x08\x06" + _arp(mine, one.address, two.address),
        ]
        honest = [
            its + mine + b"\x08\x06" + _arp(mine, one.address, two.address),
            its + mine + b"\x08\x00" + _ipv4(one.address, two.address, b"honest"),
        ]
        with _raw(two) as receiver, _raw(one) as sender:
            for frame in [*forged, *honest]:
                sender.send(frame)
            received: list[bytes] = []
            while honest[-1] not in received:
                frame = receiver.recv(2000)
                received += [frame] if frame[:6] == its else []  # not what the receiver itself sends
            assert received == honest

    with_network(lab, body)


def test_no_job_draws_the_packets_of_another_by_its_mac(lab: Lab) -> None:
    """A frame to a link-local group passes no nftables prerouting, but a learning bridge believes its source."""

    async def body(network: Network) -> None:
        victim, thief = await lab.job(network, owner=1000), await lab.job(network, owner=1001)
        with victim.space.within():
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver, _raw(thief) as tap, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
            receiver.bind((victim.address, 9))
            receiver.settimeout(PATIENCE_S)
            host.sendto(b"before", (victim.address, 9))
            assert receiver.recv(100) == b"before"
            lldp = _mac("01:80:c2:00:00:0e") + _mac(victim.attachment.mac) + b"\x88\xcc" + bytes(60)
            tap.send(lldp)
            host.sendto(b"after", (victim.address, 9))
            assert receiver.recv(100) == b"after"
            tap.setblocking(False)
            with pytest.raises(BlockingIOError):
                while b"after" not in tap.recv(2000):
                    pass

    with_network(lab, body)


def _ipv4(source: str, target: str, data: bytes) -> bytes:
    """A packet of protocol 253, which is for experiments (RFC 3692)."""
    length = (20 + len(data)).to_bytes(2, "big")
    head = (
        b"\x45\x00" + length + b"\x00\x00\x00\x00\x40\xfd\x00\x00" + socket.inet_aton(source) + socket.inet_aton(target)
    )
    return head[:10] + _checksum(head) + head[12:] + data


def _arp(mac: bytes, source: str, target: str) -> bytes:
    """An answer: `source` is at `mac`."""
    return b"\x00\x01\x08\x00\x06\x04\x00\x02" + mac + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)


def _raw(job: Job) -> socket.socket:
    with job.space.within():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        raw.bind(("eth0", 3))
        raw.settimeout(5)
        return raw


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(data: bytes) -> bytes:
    """Of the internet protocols (RFC 1071)."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _pings(space: Namespace, address: str, *, timeout_s: float = 2.0) -> bool:
    """Whether an echo request from there is answered."""
    request = b"\x08\x00\x00\x00\x00\x01\x00\x01"
    with space.within():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.settimeout(timeout_s)
        raw.sendto(request[:2] + _checksum(request) + request[4:], (address, 0))
        try:
            return raw.recv(100)[20] == 0  # echo reply
        except TimeoutError:
            return False
