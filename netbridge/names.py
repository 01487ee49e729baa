"""What an instance is called in the kernel: its settings, its links, its MAC addresses. Pure.

Every name is derived from the bridge and the address alone, so that a restarted daemon finds its own links again,
and two daemons with different bridges never touch each other's.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

IFNAMSIZ = 15  # usable bytes of an interface name (linux/if.h: 16 with the zero)
_SAFE_LINK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
PEER = "eth0"  # the job's end of the veth
_LONGEST_STEM = 8  # bytes of the bridge's name kept in a port's name: stem, "-", six hexadecimal digits


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """One instance of the job network. Raises ValueError on names that the kernel or nftables would not take."""

    bridge: str
    subnet: str
    nft_table: str
    state_dir: str  # absolute; net/ and hosts/ are made below it
    uplink: str = ""  # jobs leave through this link only; "": wherever the host's routes lead
    host_dir: str = "/run/jobs-network"  # what the instances of one host share: the note of the host's own settings
    trunk_ports: tuple[str, ...] = ()  # links that the administrator put on the bridge: the way to a bridged network

    def __post_init__(self) -> None:
        for link in (self.bridge, *filter(None, (self.uplink,)), *self.trunk_ports):
            if not is_link_name(link):
                raise ValueError(f"not a usable interface name: {link!r}")
        if not _TABLE.fullmatch(self.nft_table):
            raise ValueError(f"not a usable nftables table name: {self.nft_table!r}")
        network = IPv4Network(self.subnet)  # raises ValueError with host bits set
        if not 8 <= network.prefixlen <= 29:
            raise ValueError(f"subnet {self.subnet}: the prefix must be from /8 to /29")

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(self.subnet)

    @property
    def gateway(self) -> str:
        """The bridge's own address: the first of the subnet."""
        return str(self.network.network_address + 1)

    @property
    def port_prefix(self) -> str:
        """Start of the name of every port (host end of a veth) of this instance."""
        if len(self.bridge) <= _LONGEST_STEM:
            return f"{self.bridge}-"
        return f"{self.bridge[:2]}{zlib.crc32(self.bridge.encode()) & 0xFFFFFF:06x}-"


def is_link_name(name: str) -> bool:
    """True for names that can stand in an nftables rule without quoting tricks."""
    return bool(_SAFE_LINK.fullmatch(name))


def port_of(settings: NetworkSettings, address: str) -> str:
    """`10.213.0.5` → `jobs0-000005`: the offset in the subnet, in hexadecimal."""
    offset = int(IPv4Address(address)) - int(settings.network.network_address)
    return f"{settings.port_prefix}{offset:06x}"


def address_of(settings: NetworkSettings, port: str) -> str | None:
    """Inverse of `port_of`; None for a link that is not a port of this instance."""
    match = re.fullmatch(re.escape(settings.port_prefix) + "([0-9a-f]{6})", port)
    if match is None or int(match[1], 16) >= settings.network.num_addresses:
        return None
    return str(settings.network.network_address + int(match[1], 16))


# Locally administered (IEEE 802: second-lowest bit of the first byte), and the address behind it.
_MAC, _PORT_MAC = "02:6a:", "06:6a:"


def mac_of(address: str) -> str:
    """Of a job's end, or of the bridge for the gateway's address."""
    return _MAC + IPv4Address(address).packed.hex(":")


def port_mac_of(address: str) -> str:
    """Of the host end; never seen on the wire, but it must differ from the job's."""
    return _PORT_MAC + IPv4Address(address).packed.hex(":")


def is_gateway_mac(mac: str) -> bool:
    """Of the bridge of any instance, when it is a bridge's."""
    return mac.startswith(_MAC)


def is_our_mac(mac: str) -> bool:
    """Of a link of any instance."""
    return mac.startswith((_MAC, _PORT_MAC))
