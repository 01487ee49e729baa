"""Links, addresses and routes as steps with their undo. Pure data; `netlink` performs them.

A slot's network is wired ahead of the launch: the veth's peer is made inside the target namespace (creating it on
the host and moving it is slower), and its death takes the host end along (an explicit delete blocks for 16 ms).
"""

from __future__ import annotations

from dataclasses import dataclass

from netbridge.names import PEER, NetworkSettings, mac_of, port_mac_of, port_of


@dataclass(frozen=True, slots=True)
class MakeBridge:
    """A bridge without STP delay or multicast snooping, with a fixed MAC (else it takes the lowest of its ports')."""

    name: str
    mac: str
    step = "net:bridge"

    def describe(self) -> str:
        return f"make bridge {self.name} with MAC {self.mac}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    link: str
    address: str
    prefix_length: int
    broadcast: str
    step = "net:address"

    def describe(self) -> str:
        return f"give {self.link} the address {self.address}/{self.prefix_length}"


@dataclass(frozen=True, slots=True)
class LinkUp:
    link: str
    step = "net:up"

    def describe(self) -> str:
        return f"switch {self.link} on"


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    gateway: str
    step = "net:route"

    def describe(self) -> str:
        return f"route everything else through {self.gateway}"


@dataclass(frozen=True, slots=True)
class MakeVeth:
    """A bridge port whose peer is born in another namespace."""

    port: str
    port_mac: str
    bridge: str
    peer: str
    peer_mac: str
    peer_netns_fd: int
    step = "net:veth"

    def describe(self) -> str:
        return f"make {self.port} on {self.bridge}, its peer {self.peer} ({self.peer_mac}) inside the job's namespace"


@dataclass(frozen=True, slots=True)
class BindPort:
    """One MAC for good: the port learns none and gets no frame for an unknown one.

    Otherwise a frame to a link-local group address, which no nftables prerouting sees, makes the bridge believe that
    its source, any MAC at all, is behind this port (net/bridge/br_input.c), and leads others' packets there.
    """

    port: str
    mac: str
    step = "net:port"

    def describe(self) -> str:
        return f"bind {self.mac} to {self.port}, and nothing else"


@dataclass(frozen=True, slots=True)
class DeleteLink:
    link: str
    step = "net:delete"

    def describe(self) -> str:
        return f"delete {self.link}"


Step = MakeBridge | AddAddress | LinkUp | DefaultRoute | MakeVeth | BindPort | DeleteLink


def undo_of(step: Step) -> DeleteLink | None:
    """What takes the step back. Addresses and routes die with their link."""
    match step:
        case MakeBridge(name=link) | MakeVeth(port=link):
            return DeleteLink(link)
        case _:
            return None


def bridge_steps(settings: NetworkSettings) -> tuple[Step, ...]:
    """In the host's namespace, once per daemon."""
    return (
        MakeBridge(settings.bridge, mac_of(settings.gateway)),
        _address(settings, settings.bridge, settings.gateway),
        LinkUp(settings.bridge),
    )


def host_steps(settings: NetworkSettings, address: str, netns_fd: int) -> tuple[Step, ...]:
    """In the host's namespace, once per slot."""
    port, mac = port_of(settings, address), mac_of(address)
    return (
        MakeVeth(port, port_mac_of(address), settings.bridge, PEER, mac, netns_fd),
        BindPort(port, mac),
    )


def loopback_steps() -> tuple[Step, ...]:
    return (LinkUp("lo"),)


def job_steps(settings: NetworkSettings, address: str) -> tuple[Step, ...]:
    """Inside the job's namespace, once per slot."""
    return (
        *loopback_steps(),
        _address(settings, PEER, address),
        LinkUp(PEER),
        DefaultRoute(settings.gateway),
    )


def _address(settings: NetworkSettings, link: str, address: str) -> AddAddress:
    network = settings.network
    return AddAddress(link, address, network.prefixlen, str(network.broadcast_address))
