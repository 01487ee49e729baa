"""A slot as the launcher makes it: its network namespace belongs to a user namespace, its socket was opened inside."""

from __future__ import annotations

import socket
import subprocess
import sys

import anyio
from netlab import WORLD, Lab, Namespace, connects, listening

from netbridge.network import Network

# Unshares, says so, waits until its ids are mapped, opens both descriptors as its own root and hands them over.
_CHILD = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000 | 0x40000000) == 0, ctypes.get_errno()
channel = socket.socket(fileno=int(sys.argv[1]))
channel.send(b"unshared")
channel.recv(10)
netns = os.open("/proc/self/ns/net", os.O_RDONLY)
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
socket.send_fds(channel, [b"x"], [netns, netlink.fileno()])
channel.recv(10)
"""


class OwnedNamespace(Namespace):
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = subprocess.Popen([sys.executable, "-c", _CHILD, str(theirs.fileno())], pass_fds=[theirs.fileno()])
            theirs.close()
            assert ours.recv(10) == b"unshared"
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{child.pid}/{name}", "w") as file:
                    file.write("0 1879048192 65536\n")
            ours.send(b"mapped")
            _, (self.fd, netlink), _, _ = socket.recv_fds(ours, 10, 2)
            self.netlink = socket.socket(fileno=netlink)
            ours.send(b"done")
            assert child.wait() == 0


def test_a_slot_of_a_user_namespace(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        sibling, space = await lab.job(network), OwnedNamespace()
        lab.spaces.append(space)
        attachment = await network.prepare(space.netlink.fileno(), space.fd)
        await lab.attach(network, attachment)
        with listening(sibling.space, sibling.address, 80), listening(lab.world, WORLD, 80):
            assert connects(space, sibling.address, 80)
            assert connects(space, WORLD, 80)
        with listening(space, "127.0.0.1", 80):
            assert connects(space, "127.0.0.1", 80)
        await network.detach(attachment)
        await network.stop()

    anyio.run(main)


def test_no_network_is_loopback_alone(lab: Lab) -> None:
    async def main() -> None:
        network, space = Network(lab.settings()), OwnedNamespace()
        lab.spaces.append(space)
        with listening(space, "0.0.0.0", 80):
            assert not connects(space, "127.0.0.1", 80)
            await network.loopback(space.netlink.fileno())
            assert connects(space, "127.0.0.1", 80)
            assert space.run("ip", "-br", "link").split()[0::4] == ["lo"]

    anyio.run(main)
