"""What only trying can tell of a host's network: each thing that jobs' links are made of, made once.

For `doctor`, in children of its own. `links`, `queue` and `tables` are for a network namespace that nobody needs; the
others look at the host's. None is called where the kernel would load a module for it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import anyio

from jobs.errors import StepFailed
from netbridge import policy
from netbridge.names import NetworkSettings
from netbridge.netlink import Netlink
from netbridge.nft import Nft
from netbridge.obstacles import obstacles
from netbridge.rate import receiving
from netbridge.wiring import bridge_steps, host_steps

_MBIT = 1_000_000


def links(settings: NetworkSettings) -> str:
    """The bridge, and a port of it with its other end."""

    async def make() -> None:
        here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        first_job = str(settings.network.network_address + 2)
        async with Netlink.here() as netlink:
            await netlink.perform((*bridge_steps(settings), *host_steps(settings, first_job, here)))

    return _run(make)


def queue(kind: str) -> str:
    """ "tbf", which rates are made of, or "htb", which priority classes need."""

    async def make() -> None:
        async with Netlink.here() as netlink:
            await (netlink.limit_receiving("lo", receiving(_MBIT)) if kind == "tbf" else netlink.try_queue("lo", kind))

    return _run(make)


def tables(settings: NetworkSettings) -> str:
    """Both of our tables, whole."""

    async def make() -> None:
        await Nft().run("net:policy", policy.whole(settings, ()))

    return _run(make)


def in_the_way(bridge: str) -> str:
    """A line for each chain of others that drops what jobs send or get."""
    found: list[str] = []

    async def look() -> None:
        found.extend(obstacles(await Nft().list_chains(), bridge))

    _run(look)
    return "\n".join(found)


def root_queue(link: str) -> str:
    found: list[str] = []

    async def look() -> None:
        async with Netlink.here() as netlink:
            found.append(await netlink.root_queue(link))

    _run(look)
    return found[0]


def _run(body: Callable[[], Awaitable[None]]) -> str:
    """Raises OSError with what the kernel said."""
    try:
        anyio.run(body)
    except StepFailed as error:
        raise OSError(error.errno, os.strerror(error.errno), error.path.removesuffix(": ") or None) from error
    return ""
