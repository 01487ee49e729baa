"""Steps as data: order, description, undo."""

from __future__ import annotations

from netbridge.names import NetworkSettings
from netbridge.wiring import AddAddress, DeleteLink, LinkUp, bridge_steps, host_steps, job_steps, undo_of

SETTINGS = NetworkSettings("jobs0", "10.213.0.0/16", "jobs", "/state")


def test_the_job_gets_its_address_before_its_link_is_on_and_its_route_last() -> None:
    assert [step.step for step in job_steps(SETTINGS, "10.213.0.5")] == [
        "net:up", "net:address", "net:up", "net:route",
    ]  # fmt: skip


def test_what_makes_a_link_is_undone_by_deleting_it() -> None:
    bridge, address, up = bridge_steps(SETTINGS)
    veth, bind = host_steps(SETTINGS, "10.213.0.5", 9)
    assert undo_of(bridge) == DeleteLink("jobs0")
    assert undo_of(veth) == DeleteLink("jobs0-000005")
    assert undo_of(address) is None
    assert undo_of(up) is None
    assert undo_of(bind) is None


def test_steps_describe_themselves() -> None:
    steps = [*bridge_steps(SETTINGS), *host_steps(SETTINGS, "10.213.0.5", 9), *job_steps(SETTINGS, "10.213.0.5")]
    assert [step.describe() for step in steps] == [
        "make bridge jobs0 with MAC 02:6a:0a:d5:00:01",
        "give jobs0 the address 10.213.0.1/16",
        "switch jobs0 on",
        "make jobs0-000005 on jobs0, its peer eth0 (02:6a:0a:d5:00:05) inside the job's namespace",
        "bind 02:6a:0a:d5:00:05 to jobs0-000005, and nothing else",
        "switch lo on",
        "give eth0 the address 10.213.0.5/16",
        "switch eth0 on",
        "route everything else through 10.213.0.1",
    ]
    assert AddAddress("eth0", "10.213.0.5", 16, "10.213.255.255") in steps
    assert LinkUp("lo") in steps
