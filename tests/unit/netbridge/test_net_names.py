"""Names in the kernel: short, derived from the address alone, and never another instance's."""

from __future__ import annotations

import pytest

from netbridge.names import IFNAMSIZ, NetworkSettings, address_of, mac_of, port_mac_of, port_of


def settings(**changed: object) -> NetworkSettings:
    values = {"bridge": "jobs0", "subnet": "10.213.0.0/16", "nft_table": "jobs", "state_dir": "/state", **changed}
    return NetworkSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("bridge", ["jobs0", "b", "jobs0123", "fifteen-letters"])
@pytest.mark.parametrize("subnet", ["10.0.0.0/8", "10.213.0.0/16", "192.168.7.0/29"])
def test_port_and_address_name_each_other(bridge: str, subnet: str) -> None:
    ours = settings(bridge=bridge, subnet=subnet)
    last = str(ours.network.broadcast_address - 1)
    for address in (ours.gateway, last):
        port = port_of(ours, address)
        assert len(port) <= IFNAMSIZ
        assert address_of(ours, port) == address


def test_ports_of_other_instances_are_not_ours() -> None:
    ours, theirs = settings(), settings(bridge="jobs00")
    assert address_of(ours, port_of(theirs, "10.213.0.5")) is None
    for link in ("eth0", "jobs0", "jobs0-", "jobs0-5", "jobs0-00000g", "jobs0-0000050", "jobs0-ffffff"):
        assert address_of(ours, link) is None


def test_long_bridge_names_that_begin_alike_have_different_ports() -> None:
    one, two = settings(bridge="production-a"), settings(bridge="production-b")
    assert port_of(one, "10.213.0.5") != port_of(two, "10.213.0.5")


def test_gateway_is_the_first_address() -> None:
    assert settings().gateway == "10.213.0.1"


def test_macs_are_local_unicast_and_differ() -> None:
    first = int(mac_of("10.213.0.5").split(":")[0], 16)
    assert first & 0b10 and not first & 0b1
    assert mac_of("10.213.0.5") == "02:6a:0a:d5:00:05"
    assert len({mac_of("10.213.0.5"), port_mac_of("10.213.0.5"), mac_of("10.213.0.6")}) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"bridge": ""}, {"bridge": 'a"b'}, {"bridge": "sixteen-letters-"}, {"bridge": "a b"}, {"bridge": "a*"},
        {"subnet": "10.213.0.1/16"}, {"subnet": "10.0.0.0/7"}, {"subnet": "10.0.0.0/30"}, {"subnet": "fd00::/64"},
        {"nft_table": "jobs; flush ruleset"}, {"nft_table": ""}, {"uplink": "eth0;"}, {"trunk_ports": ("x y",)},
    ],
)  # fmt: skip
def test_names_that_could_break_a_rule_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"usable|prefix|host bits|Expected 4 octets"):
        settings(**wrong)
