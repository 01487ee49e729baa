"""Performs the steps of `wiring` and reads links and routes. The only user of pyroute2.

Its asynchronous part only (the other raises inside a running loop), and never `netns=`: that forks, which the daemon
must not. Another namespace is reached through a netlink socket that was opened inside it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from socket import if_nametoindex
from typing import Any

from anyio import CancelScope, move_on_after, sleep
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from jobs.errors import StepFailed
from netbridge.rate import Bucket
from netbridge.wiring import AddAddress, BindPort, DefaultRoute, DeleteLink, LinkUp, MakeBridge, MakeVeth, Step, undo_of

NTF_MASTER, NUD_STATIC = 0x04, 0x40  # linux/neighbour.h; NUD_NOARP is what bridge(8) calls static
RTEXT_FILTER_SKIP_STATS = 8  # linux/rtnetlink.h; half of a link message is counters
_TC_H_ROOT = 0xFFFFFFFF  # linux/pkt_sched.h
_LOOPBACK_INDEX = 1  # in every namespace (net/core/dev.c, LOOPBACK_IFINDEX)
_BR_STATE_FORWARDING = 3  # linux/if_bridge.h
_FORWARDING_S = 2.0  # twice the kernel's longest delay
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str  # "bridge", "veth", …; "" for hardware
    mac: str
    master: int  # index of the bridge it is a port of, or 0


class Netlink:
    """One namespace's links."""

    def __init__(self, socket: AsyncIPRoute, *, ours: bool) -> None:
        self._socket = socket
        self._ours = ours  # the namespace that this process is in
        self._indices = {"lo": _LOOPBACK_INDEX}  # of links touched so far; an object lives for a few steps

    @classmethod
    @asynccontextmanager
    async def here(cls) -> AsyncIterator[Netlink]:
        """The daemon's own namespace."""
        async with AsyncIPRoute(groups=0) as socket:
            yield cls(socket, ours=True)

    @classmethod
    @asynccontextmanager
    async def through(cls, fd: int) -> AsyncIterator[Netlink]:
        """The namespace in which `fd`, an AF_NETLINK datagram socket, was opened. The caller keeps `fd`."""
        async with AsyncIPRoute(fileno=os.dup(fd), groups=0) as socket:  # pyroute2 closes what it is given
            yield cls(socket, ours=False)

    async def perform(self, steps: Iterable[Step]) -> None:
        """All of them, or none: a failure takes back what was done, in reverse. Raises StepFailed."""
        done: list[DeleteLink] = []
        try:
            for step in steps:
                await self._perform(step)
                undo = undo_of(step)
                done += [undo] if undo else []
        except BaseException:
            with CancelScope(shield=True):
                for undo in reversed(done):
                    await self.try_delete(undo.link)
            raise

    async def links(self) -> list[Link]:
        return [_link(message) async for message in await self._socket.get_links()]

    async def link(self, name: str) -> Link | None:
        try:
            messages = await self._socket.link("get", ifname=name, ext_mask=RTEXT_FILTER_SKIP_STATS)
        except NetlinkError:
            return None
        return _link(messages[0])

    async def wait_forwarding(self, port: str) -> bool:
        """Waits for the bridge to let a fresh port forward; False when it does not within _FORWARDING_S.

        The kernel hears of a carrier in a worker of its own (net/core/link_watch.c), up to a second late when the two
        ends of a veth happen to have the same index. Until then frames are dropped without a word.
        """
        pause = _FIRST_PAUSE_S
        with move_on_after(_FORWARDING_S):
            while await self._port_state(port) != _BR_STATE_FORWARDING:
                await sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            return True
        return False

    async def _port_state(self, port: str) -> int:
        messages = await self._socket.link("get", ifname=port, ext_mask=RTEXT_FILTER_SKIP_STATS)
        info = messages[0].get_attr("IFLA_LINKINFO")
        slave = info.get_attr("IFLA_INFO_SLAVE_DATA") if info else None
        return int(slave.get_attr("IFLA_BRPORT_STATE")) if slave else -1

    def exists(self, name: str) -> bool:
        """In our own namespace."""
        return _index_here(name) != 0

    async def try_delete(self, name: str) -> bool:
        """False when there is no such link."""
        link = await self.link(name)
        if link is None:
            return False
        self._indices.pop(name, None)
        try:
            await self._socket.link("del", index=link.index)
        except NetlinkError:
            return False
        return True

    async def networks(self) -> list[tuple[IPv4Network, int]]:
        """Destinations in the main table but the default route, each with the index of its link."""
        found = []
        async for message in await self._socket.get_routes(family=2, table=254):
            destination, length = message.get_attr("RTA_DST"), message["dst_len"]
            if destination and length:
                network = IPv4Network(f"{destination}/{length}", strict=False)
                found.append((network, message.get_attr("RTA_OIF") or 0))
        return found

    async def limit_receiving(self, port: str, bucket: Bucket) -> None:
        """A token bucket towards the job (tc-tbf(8)); it dies with the link. Raises StepFailed."""
        index = await self._index("net:rate", port)
        values = {"rate": bucket.rate_bytes_s, "burst": bucket.burst_bytes, "limit": bucket.queue_bytes}
        try:
            await self._socket.tc("replace", "tbf", index=index, handle="1:", **values)
        except NetlinkError as error:
            raise StepFailed("net:rate", error.code, port) from error

    async def root_queue(self, link: str) -> str:
        """Kind and handle of what packets wait in before the wire: "htb 4a0b:"; "" when there is no such link."""
        index = _index_here(link)
        found = [message async for message in await self._socket.get_qdiscs() if message["index"] == index]
        root = next((each for each in found if each["parent"] == _TC_H_ROOT), None)
        return f"{root.get_attr('TCA_KIND')} {root['handle'] >> 16:x}:" if root is not None else ""

    async def try_queue(self, link: str, kind: str) -> None:
        """An HTB, to see whether there is such a thing here; for a namespace that is thrown away. Raises StepFailed."""
        try:
            await self._socket.tc("add", kind, index=await self._index("net:queue", link), handle="1:")
        except NetlinkError as error:
            raise StepFailed("net:queue", error.code, kind) from error

    async def _perform(self, step: Step) -> None:
        try:
            match step:
                case MakeBridge():
                    await self._make_bridge(step)
                case MakeVeth():
                    await self._make_veth(step)
                case BindPort(port=port, mac=mac):
                    index = await self._index(step.step, port)
                    await self._socket.brport("set", index=index, learning=0, unicast_flood=0)
                    await self._socket.fdb("add", ifindex=index, lladdr=mac, flags=NTF_MASTER, state=NUD_STATIC)
                case AddAddress(link=link, address=address, prefix_length=length, broadcast=broadcast):
                    index = await self._index(step.step, link)
                    await self._socket.addr(
                        "replace", index=index, address=address, prefixlen=length, broadcast=broadcast
                    )
                case LinkUp(link=link):
                    await self._socket.link("set", index=await self._index(step.step, link), state="up")
                case DefaultRoute(gateway=gateway):
                    await self._socket.route("add", dst="default", gateway=gateway)
                case DeleteLink(link=link):
                    await self._socket.link("del", index=await self._index(step.step, link))
        except NetlinkError as error:
            raise StepFailed(step.step, error.code, step.describe()) from error

    async def _make_bridge(self, step: MakeBridge) -> None:
        await self._socket.link(
            "add", ifname=step.name, kind="bridge", address=step.mac,
            br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0,
        )  # fmt: skip

    async def _make_veth(self, step: MakeVeth) -> None:
        bridge = await self._index(step.step, step.bridge)
        peer: dict[str, Any] = {"ifname": step.peer, "net_ns_fd": step.peer_netns_fd, "address": step.peer_mac}
        await self._socket.link(
            "add", ifname=step.port, kind="veth", master=bridge, address=step.port_mac, state="up", peer=peer
        )

    async def _index(self, step: str, name: str) -> int:
        """One system call where that is possible: a request through pyroute2 costs a quarter of a millisecond."""
        if name not in self._indices:
            index = _index_here(name) if self._ours else await self._index_there(name)
            if index == 0:
                raise StepFailed(step, errno.ENODEV, name)
            self._indices[name] = index
        return self._indices[name]

    async def _index_there(self, name: str) -> int:
        link = await self.link(name)
        return link.index if link else 0


def _index_here(name: str) -> int:
    try:
        return if_nametoindex(name)
    except OSError:
        return 0


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        master=message.get_attr("IFLA_MASTER") or 0,
    )
