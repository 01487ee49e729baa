"""Published ports: from the world, from the host, from other jobs; and who may not have which."""

from __future__ import annotations

import errno
import os
import socket

import anyio
import pytest
from netlab import HOST, WORLD, Lab, connects, listening, run
from patience import PATIENCE_S

from jobs.errors import StepFailed
from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge.network import Network

WEB = (Publish(8080, 80),)
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 2)"


@pytest.mark.needs("br_netfilter")
@pytest.mark.parametrize("br_netfilter", ["1", "0"])
def test_a_published_port_is_reached_from_everywhere(lab: Lab, br_netfilter: str) -> None:
    async def main() -> None:
        run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={br_netfilter}")
        network = Network(lab.settings())
        await network.start()
        server, stranger = await lab.job(network, publish=WEB), await lab.job(network, owner=1001)
        sibling = await lab.job(network)
        with server.listen(80):
            assert connects(lab.world, HOST, 8080), "world"
            assert connects(None, HOST, 8080), "host, its own address"
            assert connects(None, "10.213.0.1", 8080), "host, the gateway's address"
            assert connects(None, "127.0.0.1", 8080), "host, loopback"
            for address in (HOST, "127.0.0.1"):  # any user of the host
                run(
                    "setpriv",
                    "--clear-groups",
                    "--regid=65534",
                    "--reuid=1001",
                    "/usr/bin/python3",
                    "-c",
                    _CONNECT,
                    address,
                )
            assert connects(stranger.space, HOST, 8080), "another owner's job, by way of the host"
            assert connects(sibling.space, HOST, 8080), "the same owner's job, by way of the host"
            if br_netfilter == "0":  # br_netfilter would send it back through the port it came from; a bridge does not
                assert connects(server.space, HOST, 8080), "the job itself, by way of the host"
            assert not connects(stranger.space, server.address, 80, timeout_s=0.3)
            await network.detach(server.attachment)
            assert not connects(lab.world, HOST, 8080, timeout_s=0.3)
        await network.stop()

    anyio.run(main)


def test_udp(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        job = await lab.job(network, publish=(Publish(5300, 53, "udp"),))
        with job.space.within():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with lab.world.within():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server, client:
            server.bind((job.address, 53))
            server.settimeout(PATIENCE_S)
            client.settimeout(PATIENCE_S)
            client.sendto(b"question", (HOST, 5300))
            question, peer = server.recvfrom(100)
            server.sendto(b"answer", peer)
            assert (question, client.recvfrom(100)) == (b"question", (b"answer", (HOST, 5300)))
        await network.stop()

    anyio.run(main)


def test_a_port_in_use_is_refused_and_nothing_is_left(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        first, second = await lab.job(network, publish=WEB), await lab.slot(network)
        before = run("nft", "list", "ruleset"), sorted(os.listdir(f"{lab.state_dir}/net"))
        with pytest.raises(StepFailed) as refusal:
            await network.attach(
                second.attachment, execution_id="99.0.1", owner_uid=1001, job_name="late",
                priority_class=PriorityClass.NORMAL, publish=(Publish(9090, 90), *WEB),
            )  # fmt: skip
        assert (refusal.value.step, refusal.value.errno) == ("net:publish", errno.EADDRINUSE)
        assert (run("nft", "list", "ruleset"), sorted(os.listdir(f"{lab.state_dir}/net"))) == before
        with listening(None, "0.0.0.0", 9090):
            pass  # the port that was free was given back
        await network.detach(first.attachment)
        await lab.job(network, publish=WEB)  # and the other one is free now
        await network.stop()

    anyio.run(main)


def test_a_program_of_the_host_keeps_its_port(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        with listening(None, "0.0.0.0", 8080), pytest.raises(StepFailed, match="8080/tcp: Address already in use"):
            await lab.job(network, publish=WEB)
        job = await lab.job(network, publish=WEB)
        with pytest.raises(OSError, match="Address already in use"):
            listening(None, "0.0.0.0", 8080)
        await network.detach(job.attachment)
        await network.stop()

    anyio.run(main)


def test_only_root_publishes_a_privileged_port(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        with pytest.raises(StepFailed, match="22/tcp: Permission denied"):
            await lab.job(network, owner=1000, publish=(Publish(22, 22),))
        await lab.job(network, owner=0, publish=(Publish(22, 22),))
        await network.stop()

    anyio.run(main)


def test_answers_leave_by_the_link_of_the_question(lab: Lab) -> None:
    """`uplink` says where jobs may begin a conversation; who asks from elsewhere still gets an answer."""
    run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1")

    async def main() -> None:
        network = Network(lab.settings(uplink="other0"))
        await network.start()
        job = await lab.job(network, publish=WEB)
        with job.listen(80), listening(lab.world, WORLD, 80):
            assert connects(lab.world, HOST, 8080)
            assert not connects(job.space, WORLD, 80, timeout_s=0.3)
        await network.stop()

    anyio.run(main)
