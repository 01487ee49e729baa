"""Leases of addresses out of one subnet. Pure: no clock, no file; what is durable is derived from what is live.

Invariants (tests/property/test_addresses.py): no address is leased twice; the network, gateway and broadcast
addresses are never leased; a freed address comes back only after every other free one had its turn.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

_RESERVED_LOW = 2  # the network's own address and the gateway
_RESERVED_HIGH = 1  # broadcast


class NoAddressLeft(Exception):
    """Every address of the subnet is leased."""


class Leases:
    """Which addresses are out. Walks round the subnet: a fresh job must not inherit packets meant for the last one."""

    def __init__(self, subnet: str) -> None:
        self._network = IPv4Network(subnet)
        self._first = _RESERVED_LOW
        self._end = self._network.num_addresses - _RESERVED_HIGH
        self._next = self._first
        self._taken: set[int] = set()

    @property
    def taken(self) -> frozenset[str]:
        return frozenset(self._text(offset) for offset in self._taken)

    @property
    def capacity(self) -> int:
        return self._end - self._first

    def lease(self) -> str:
        """The next free address. Raises NoAddressLeft."""
        if len(self._taken) >= self.capacity:
            raise NoAddressLeft(f"all {self.capacity} addresses of {self._network} are leased")
        offset = self._next
        while offset in self._taken:
            offset = self._after(offset)
        self._taken.add(offset)
        self._next = self._after(offset)
        return self._text(offset)

    def claim(self, address: str) -> None:
        """Takes this very address, for a job that is live already. Raises ValueError when it is taken or not ours."""
        offset = self._offset(address)
        if offset in self._taken:
            raise ValueError(f"{address} is leased already")
        self._taken.add(offset)
        self._next = self._after(offset)

    def release(self, address: str) -> None:
        """Gives the address back. Safe to repeat."""
        self._taken.discard(self._offset(address))

    def _after(self, offset: int) -> int:
        return offset + 1 if offset + 1 < self._end else self._first

    def _offset(self, address: str) -> int:
        offset = int(IPv4Address(address)) - int(self._network.network_address)
        if not self._first <= offset < self._end:
            raise ValueError(f"{address} is not an address for jobs in {self._network}")
        return offset

    def _text(self, offset: int) -> str:
        return str(self._network.network_address + offset)
