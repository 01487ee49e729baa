"""The policy as values: what one job puts into the tables is what it takes out again."""

from __future__ import annotations

import re

import pytest

from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge import policy
from netbridge.attached import Attached, Attachment, from_json, to_json
from netbridge.names import NetworkSettings, mac_of, port_of
from netbridge.priority import classid, tc_class
from netbridge.rate import receiving, sending

SETTINGS = NetworkSettings("jobs0", "10.213.0.0/16", "jobs", "/state")


def attached(address: str = "10.213.0.5", **changed: object) -> Attached:
    place = Attachment(port_of(SETTINGS, address), address, mac_of(address), SETTINGS.gateway)
    values = {
        "execution_id": "17.0.1", "attachment": place, "owner_uid": 1000, "job_name": "web",
        "priority_class": PriorityClass.HIGH, "publish": (Publish(8080, 80),), "rate_bits_s": 10**6, **changed,
    }  # fmt: skip
    return Attached(**values)  # type: ignore[arg-type]


def keys(commands: str) -> set[tuple[str, str, str]]:
    """(family, set, key) of every element that the commands name."""
    found = re.findall(r"element (\w+) jobs (\w+) \{ (.*) \}", commands)
    return {(family, name, each.partition(" : ")[0]) for family, name, texts in found for each in texts.split(", ")}


def test_what_joins_leaves() -> None:
    job = attached()
    assert keys(policy.joining(SETTINGS, job)) == keys(policy.leaving(SETTINGS, job))
    assert "add limit bridge jobs rate_10_213_0_5 { rate over 125000 bytes/second" in policy.joining(SETTINGS, job)
    assert policy.leaving(SETTINGS, job).splitlines()[-1] == "delete limit bridge jobs rate_10_213_0_5"


def test_whole_holds_the_elements_of_everyone() -> None:
    one, two = attached(), attached("10.213.0.6", execution_id="18.0.1", publish=(), rate_bits_s=0)
    text = policy.whole(SETTINGS, [one, two])
    assert keys(text) >= keys(policy.joining(SETTINGS, one)) | keys(policy.joining(SETTINGS, two))
    assert "rate_10_213_0_6" not in text


def test_whole_replaces_in_one_transaction() -> None:
    lines = policy.whole(SETTINGS, []).splitlines()
    assert lines[:4] == [
        "table bridge jobs", "delete table bridge jobs", "table inet jobs", "delete table inet jobs",
    ]  # fmt: skip


def test_reclassing_touches_the_class_alone() -> None:
    commands = policy.reclassing(SETTINGS, attached(), PriorityClass.BACKGROUND)
    assert {name for _, name, _ in keys(commands)} == {"class"}
    assert "4a0b:1" in commands
    assert [line.split()[0] for line in commands.splitlines()] == ["delete", "delete", "add", "add"]


def test_statics_go_into_the_tables() -> None:
    trunk = NetworkSettings("jobs0", "10.213.0.0/16", "jobs", "/state", trunk_ports=("trunk0",))
    found = keys(policy.whole(trunk, [], fenced=("eth0", "eth1"), resolvers=("10.0.0.53",)))
    assert {("bridge", "trunk", '"trunk0"'), ("inet", "fenced", '"eth0"'), ("inet", "resolver", "10.0.0.53")} <= found


def test_root_is_an_owner_like_any_other() -> None:
    assert ("bridge", "member", '"jobs0-000005" . 0x0') in keys(policy.joining(SETTINGS, attached(owner_uid=0)))


@pytest.mark.parametrize("uplink", ["", "eth7"])
def test_uplink(uplink: str) -> None:
    text = policy.whole(NetworkSettings("jobs0", "10.213.0.0/16", "jobs", "/state", uplink), [])
    expected = 'oifname "eth7"' if uplink else 'oifname != "jobs0"'
    assert f"ip saddr 10.213.0.0/16 {expected} masquerade" in text
    assert ('oifname != "eth7" drop' in text) == bool(uplink)


def test_attached_survives_json() -> None:
    job = attached()
    assert from_json(to_json(job)) == job


def test_classes_are_told_to_every_mechanism_alike() -> None:
    assert [tc_class(each) for each in PriorityClass] == ["4a0b:1", "4a0b:2", "4a0b:3", "4a0b:4"]
    assert classid(PriorityClass.REALTIME) == 0x4A0B0004


@pytest.mark.parametrize("rate", [1000, 10**6, 10**9, 10**13])
def test_buckets_fit_the_kernel(rate: int) -> None:
    """tc: the rate has 32 bits, and the bucket is a time in 64 ns ticks of 32 bits; nft: a GSO packet must fit."""
    into, out = receiving(rate), sending(rate)
    assert 1 <= into.rate_bytes_s < 2**32
    assert into.burst_bytes >= 1514
    assert into.burst_bytes / into.rate_bytes_s * 1e9 / 64 < 2**32
    assert into.queue_bytes < 2**32
    assert out.rate_bytes_s + out.burst_bytes >= 2 * 65536
