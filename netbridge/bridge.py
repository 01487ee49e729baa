"""The host's end of the network: the bridge and its ports. Made, or taken over from a crashed daemon."""

from __future__ import annotations

import errno

from jobs.errors import StepFailed
from netbridge import sysctl
from netbridge.names import NetworkSettings, address_of, mac_of
from netbridge.netlink import Link, Netlink
from netbridge.wiring import bridge_steps


async def raise_bridge(settings: NetworkSettings, netlink: Netlink) -> None:
    """Makes the bridge or takes over our own one. Raises StepFailed when the name or the subnet is somebody else's."""
    present = await netlink.link(settings.bridge)
    if present is None:
        await _check_subnet_is_free(settings, netlink)
        await netlink.perform(bridge_steps(settings))
    elif not _is_ours(settings, present):
        hint = "a link of that name exists and is not ours; choose another `bridge` in the settings, or remove it"
        raise StepFailed("net:bridge", errno.EEXIST, settings.bridge, hint=hint)
    else:
        await netlink.perform(bridge_steps(settings)[1:])  # we may have been killed right after the first


async def lower_bridge(settings: NetworkSettings, netlink: Netlink) -> None:
    """Takes ports and bridge away. Safe to repeat."""
    for link in await our_ports(settings, netlink):
        await netlink.try_delete(link.name)
    bridge = await netlink.link(settings.bridge)
    if bridge is not None and _is_ours(settings, bridge):
        await netlink.try_delete(settings.bridge)


async def our_ports(settings: NetworkSettings, netlink: Netlink) -> list[Link]:
    """Host ends of this instance: our kind of name, and a port of our bridge."""
    bridge = await netlink.link(settings.bridge)
    if bridge is None or not _is_ours(settings, bridge):
        return []
    return [
        each
        for each in await netlink.links()
        if each.kind == "veth" and each.master == bridge.index and address_of(settings, each.name) is not None
    ]


def _is_ours(settings: NetworkSettings, bridge: Link) -> bool:
    """By the MAC that carries our gateway's address."""
    return bridge.kind == "bridge" and bridge.mac == mac_of(settings.gateway)


def sysctls_of_the_bridge(settings: NetworkSettings) -> dict[str, str]:
    """They die with it. IPv6 is off: jobs speak IPv4, and the tables drop everything else."""
    values = {f"net/ipv4/conf/{settings.bridge}/route_localnet": "1"}  # 127.0.0.1 reaches published ports
    if sysctl.read("net/ipv6/conf/all/disable_ipv6") is not None:
        values[f"net/ipv6/conf/{settings.bridge}/disable_ipv6"] = "1"
    return values


async def _check_subnet_is_free(settings: NetworkSettings, netlink: Netlink) -> None:
    for network, _ in await netlink.networks():
        if network.overlaps(settings.network):
            hint = f"this host has a route to {network}; choose another `subnet` in the settings"
            raise StepFailed("net:subnet", errno.EADDRINUSE, settings.subnet, hint=hint)
