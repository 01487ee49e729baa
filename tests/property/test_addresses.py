"""Leases: whatever is leased, claimed and released in whatever order, no address is out twice and none is lost."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netbridge.addresses import Leases, NoAddressLeft

SUBNET = "10.9.0.0/28"  # 13 addresses for jobs: small enough to run out


class LeaseMachine(RuleBasedStateMachine):
    """Against a set of plain strings."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(SUBNET)
        self.out: set[str] = set()

    @precondition(lambda self: len(self.out) < self.leases.capacity)
    @rule()
    def lease(self) -> None:
        address = self.leases.lease()
        assert address not in self.out
        self.out.add(address)

    @precondition(lambda self: len(self.out) == self.leases.capacity)
    @rule()
    def refuse(self) -> None:
        with pytest.raises(NoAddressLeft):
            self.leases.lease()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.out)))
        self.leases.release(address)
        self.leases.release(address)  # safe to repeat
        self.out.discard(address)

    @rule(offset=st.integers(0, 15))
    def claim(self, offset: int) -> None:
        address = str(IPv4Network(SUBNET).network_address + offset)
        if offset in (0, 1, 15) or address in self.out:
            with pytest.raises(ValueError):
                self.leases.claim(address)
        else:
            self.leases.claim(address)
            self.out.add(address)

    @invariant()
    def agrees(self) -> None:
        assert self.leases.taken == self.out
        for address in self.out:
            assert 2 <= int(IPv4Address(address)) - int(IPv4Network(SUBNET).network_address) <= 14


TestLeases = LeaseMachine.TestCase


@given(st.integers(8, 29), st.integers(0, 2**32 - 1))
def test_never_the_network_the_gateway_or_the_broadcast(prefix: int, base: int) -> None:
    network = IPv4Network((base, prefix), strict=False)
    leases = Leases(str(network))
    forbidden = {network.network_address, network.network_address + 1, network.broadcast_address}
    first = [leases.lease() for _ in range(min(50, leases.capacity))]
    assert not forbidden & {IPv4Address(address) for address in first}
    assert all(IPv4Address(address) in network for address in first)
    assert len(set(first)) == len(first)


@given(st.integers(1, 12))
def test_a_freed_address_rests_until_every_other_free_one_was_out(held: int) -> None:
    leases = Leases(SUBNET)
    keep = [leases.lease() for _ in range(held)]
    leases.release(keep[0])
    others = [leases.lease() for _ in range(leases.capacity - held)]
    assert keep[0] not in others
    assert leases.lease() == keep[0]


def test_every_address_can_be_out_at_once() -> None:
    leases = Leases("10.9.0.0/24")
    assert len({leases.lease() for _ in range(leases.capacity)}) == 253
