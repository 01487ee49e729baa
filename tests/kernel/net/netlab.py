"""A host of its own for a test: a fresh network namespace with an uplink to a "world", and jobs in further namespaces.

The test's thread itself lives in the host's namespace, so everything the product does there is real. A socket made
`within` a namespace stays in it, so one process plays all the parties; nothing outlives the test.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import anyio
from patience import PATIENCE_S
from pyroute2 import AsyncIPRoute

from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge.network import Attachment, Network, NetworkSettings
from netbridge.priority import tc_class

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
SUBNET = "10.213.0.0/16"
HOST, WORLD = "198.51.100.2", "198.51.100.1"


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network namespace that lives as long as this object is open."""

    def __init__(self) -> None:
        before = _current()
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self.fd = _current()
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)

    @contextmanager
    def within(self) -> Iterator[None]:
        before = _current()
        _check(_libc.setns(self.fd, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
            os.close(before)

    def run(self, *argv: str) -> str:
        with self.within():
            return run(*argv)

    def close(self) -> None:
        self.netlink.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def run(*argv: str) -> str:
    """The command's output; its error text when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@dataclass
class Job:
    space: Namespace
    attachment: Attachment

    @property
    def address(self) -> str:
        return self.attachment.address

    def listen(self, port: int) -> socket.socket:
        return listening(self.space, self.address, port)


@dataclass
class Lab:
    """The host, the world behind its uplink, and the jobs."""

    world: Namespace
    state_dir: str
    spaces: list[Namespace] = field(default_factory=list)
    serial: int = 0

    def settings(self, **changed: object) -> NetworkSettings:
        defaults: dict[str, object] = {
            "bridge": "jobs0", "subnet": SUBNET, "nft_table": "jobs", "state_dir": self.state_dir,
            "host_dir": f"{self.state_dir}/run",
        }  # fmt: skip
        return NetworkSettings(**{**defaults, **changed})  # type: ignore[arg-type]

    def space(self) -> Namespace:
        self.spaces.append(Namespace())
        return self.spaces[-1]

    async def slot(self, network: Network) -> Job:
        """Prepared, not attached."""
        space = self.space()
        return Job(space, await network.prepare(space.netlink.fileno(), space.fd))

    async def job(self, network: Network, **wishes: Any) -> Job:
        """Prepared and attached."""
        job = await self.slot(network)
        await self.attach(network, job.attachment, **wishes)
        return job

    async def attach(
        self,
        network: Network,
        attachment: Attachment,
        *,
        owner: int = 1000,
        name: str = "work",
        priority_class: PriorityClass = PriorityClass.NORMAL,
        publish: tuple[Publish, ...] = (),
        rate_bits_s: int = 0,
    ) -> None:
        self.serial += 1
        await network.attach(
            attachment, execution_id=f"{self.serial}.0.1", owner_uid=owner, job_name=name,
            priority_class=priority_class, publish=publish, rate_bits_s=rate_bits_s,
        )  # fmt: skip


def listening(space: Namespace | None, address: str, port: int) -> socket.socket:
    with space.within() if space else nullcontext():
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        server.settimeout(PATIENCE_S)
        return server


def connects(space: Namespace | None, address: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether a TCP connection from there (None: the host) to there comes about."""
    with space.within() if space else nullcontext():
        client = socket.socket()
    client.settimeout(timeout_s)
    try:
        client.connect((address, port))
        return True
    except OSError:
        return False
    finally:
        client.close()


async def _uplink(world_fd: int) -> None:
    async with AsyncIPRoute() as host:
        await host.link("add", ifname="up0", kind="veth", peer={"ifname": "up1", "net_ns_fd": world_fd})


def wait_until(true: Callable[[], bool], deadline_s: float = PATIENCE_S) -> None:
    """The kernel works on carriers, ageing and dying namespaces in workers of its own."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "the kernel does not get there"
        time.sleep(0.005)


@asynccontextmanager
async def a_trunk(station: Namespace) -> AsyncIterator[str]:
    """A port of the bridge with a station behind it (its `lan0`), as an administrator would add one."""
    async with AsyncIPRoute() as host:
        await host.link("add", ifname="trunk0", kind="veth", peer={"ifname": "lan0", "net_ns_fd": station.fd})
    run("ip", "link", "set", "trunk0", "master", "jobs0", "up")
    station.run("ip", "address", "add", "10.213.200.1/16", "dev", "lan0")
    station.run("ip", "link", "set", "lan0", "up")
    port = ("bridge", "-j", "link", "show", "dev", "trunk0")
    wait_until(lambda: json.loads(run(*port))[0]["state"] == "forwarding")
    yield "trunk0"
    run("ip", "link", "del", "trunk0")


def htb(link: str) -> None:
    """Four classes of ours, and 4a0b:99 for packets of no class."""
    run("tc", "qdisc", "add", "dev", link, "root", "handle", "4a0b:", "htb", "default", "99")
    for each in (*map(tc_class, PriorityClass), "4a0b:99"):
        run("tc", "class", "add", "dev", link, "parent", "4a0b:", "classid", each, "htb", "rate", "100mbit")


def counted(link: str) -> dict[str, int]:
    """Packets sent so far, by class."""
    text = run("tc", "-s", "class", "show", "dev", link)
    return {name: int(count) for name, count in re.findall(r"class htb (\S+) .*?Sent \d+ bytes (\d+) pkt", text, re.S)}


@contextmanager
def a_host(state_dir: str) -> Iterator[Lab]:
    """Puts the calling thread into a host of its own for a while."""
    before = _current()
    _check(_libc.unshare(_CLONE_NEWNET))
    world = Namespace()
    made = Lab(world, state_dir)
    try:
        run("ip", "link", "set", "lo", "up")
        anyio.run(_uplink, world.fd)
        run("ip", "address", "add", f"{HOST}/24", "dev", "up0")
        run("ip", "link", "set", "up0", "up")
        world.run("ip", "link", "set", "lo", "up")
        world.run("ip", "address", "add", f"{WORLD}/24", "dev", "up1")
        world.run("ip", "link", "set", "up1", "up")
        run("ip", "route", "add", "default", "via", WORLD)
        wait_until(lambda: json.loads(run("ip", "-j", "link", "show", "up0"))[0]["operstate"] == "UP")
        yield made
    finally:
        for space in (world, *made.spaces):
            space.close()
        _check(_libc.setns(before, _CLONE_NEWNET))
        os.close(before)
