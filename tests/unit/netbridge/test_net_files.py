"""Hosts files, the ledger, the notes of original settings: small files that outlive the daemon."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs.priority_class import PriorityClass
from netbridge import hosts, sweep
from netbridge.attached import Attached, Attachment
from netbridge.hosts import HostsFiles
from netbridge.ledger import Ledger
from netbridge.names import NetworkSettings, mac_of, port_of
from netbridge.sysctl import Originals, read

SETTINGS = NetworkSettings("jobs0", "10.213.0.0/16", "jobs", "/state")


def attached(execution_id: str, name: str = "web", last: int = 5, owner: int = 1000) -> Attached:
    address = f"10.213.0.{last}"
    place = Attachment(port_of(SETTINGS, address), address, mac_of(address), SETTINGS.gateway)
    return Attached(execution_id, place, owner, name, PriorityClass.NORMAL)


def entries(text: str) -> list[str]:
    return text.splitlines()[2:]  # after the two of localhost


def test_jobs_are_found_by_name_and_by_id() -> None:
    text = hosts.render([attached("17.0.1"), attached("18.3.2", "db", 6)])
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert entries(text) == ["10.213.0.5\tweb job-17 job-17-0", "10.213.0.6\tdb job-18-3"]


def test_of_one_name_the_oldest_job_answers() -> None:
    text = hosts.render([attached("100.0.1", last=7), attached("9.1.1", last=6), attached("9.0.2", last=5)])
    assert [line.split()[:2] for line in entries(text)] == [
        ["10.213.0.5", "web"], ["10.213.0.6", "web"], ["10.213.0.7", "web"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["two words", "tab\there", "x\n10.0.0.1 bank.example", "#", "", "-x", "ä", "localhost", "job-18", "a" * 64]
)
def test_names_that_a_hosts_file_cannot_hold_are_left_out(name: str) -> None:
    assert entries(hosts.render([attached("17.0.1", name)])) == ["10.213.0.5\tjob-17 job-17-0"]


def test_hosts_files_are_replaced_and_stay_once_given(tmp_path: Path) -> None:
    files = HostsFiles(str(tmp_path / "hosts"))
    folder = files.folder_of(1000)
    held = os.open(folder, os.O_RDONLY)  # as a bind mount holds it
    try:
        files.write(1000, [attached("17.0.1")])
        files.remove_others([])
        assert (tmp_path / "hosts/1000/hosts").stat().st_ino == os.stat("hosts", dir_fd=held).st_ino
        assert "job-17" in Path(f"/proc/self/fd/{held}/hosts").read_text()
        assert (tmp_path / "hosts/1000/hosts").stat().st_mode & 0o777 == 0o644
    finally:
        os.close(held)


def test_folders_of_others_go(tmp_path: Path) -> None:
    HostsFiles(str(tmp_path)).write(1001, [attached("17.0.1")])
    files = HostsFiles(str(tmp_path))
    files.write(1002, [])
    files.remove_others([1002])
    assert os.listdir(tmp_path) == ["1002"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["nameserver 192.0.2.53\nsearch example.org\n"], "nameserver 192.0.2.53\nsearch example.org\n"),
        (["# a comment\nnameserver 127.0.0.1\nnameserver 192.0.2.53\n"], "nameserver 192.0.2.53\n"),
        (["nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n"], "nameserver 192.0.2.1\n"),
        (["nameserver ::1\n"], "# the host names no server outside of itself\n"),
        (["nameserver\nnameserver nonsense\n"], "# the host names no server outside of itself\n"),
        ([], "# the host names no server outside of itself\n"),
    ],
)
def test_resolv_conf_leaves_loopback_out(texts: list[str], expected: str) -> None:
    assert hosts.resolv_conf(texts) == expected


def test_servers_are_the_ipv4_ones() -> None:
    assert hosts.servers("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch x\n") == ["192.0.2.1"]


def test_ledger_gives_back_what_was_written(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.write(attached("17.0.1"))
    ledger.write(attached("18.0.1", last=6))
    ledger.remove("18.0.1")
    ledger.remove("18.0.1")
    assert ledger.read_all() == ([attached("17.0.1")], [])


def test_ledger_tells_stale_files_by_name(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.write(attached("17.0.1"))
    (tmp_path / "18.0.1.json").write_text("")  # cut short by a power cut
    (tmp_path / "19.0.1.json").write_text('{"boot_id": "another", "attached": {}}')
    (tmp_path / "20.0.1.json.new").write_text("{")  # killed while writing
    assert ledger.read_all() == ([attached("17.0.1")], ["18.0.1", "19.0.1"])


def test_originals_are_noted_once(tmp_path: Path) -> None:
    """After a crash the values of now are ours; the note of the first daemon is the truth."""
    path = str(tmp_path / "originals")
    name = "net/ipv4/ip_default_ttl"
    Originals(path).remember([name, "net/no/such"], ["eth0"])
    note = json.loads(Path(path).read_text())
    note["values"][name] = "true original"
    Path(path).write_text(json.dumps(note))
    again = Originals(path)
    again.remember([name], ["eth1"])
    assert again.values == {name: "true original"}
    assert again.fenced == ("eth0",)


def test_originals_of_another_boot_are_void(tmp_path: Path) -> None:
    path = tmp_path / "originals"
    path.write_text('{"boot_id": "another", "values": {"net/ipv4/ip_default_ttl": "1"}, "fenced": []}')
    originals = Originals(str(path))
    originals.restore()
    assert read("net/ipv4/ip_default_ttl") != "1"
    assert not path.exists()


def test_sweep_judges_by_what_lives() -> None:
    live, dead = attached("1.0.1", last=5), attached("2.0.1", last=6)
    ports = [port_of(SETTINGS, f"10.213.0.{last}") for last in (5, 6, 7, 8)]
    found = sweep.judge(
        SETTINGS, attached=[live, dead], stale=["9.0.1"], ports=ports,
        live={"10.213.0.5"}, prepared={"10.213.0.7"},
    )  # fmt: skip
    assert found.executions == (dead,)
    assert found.ports == ("jobs0-000006", "jobs0-000008")
    assert found.names == [
        "network of execution 2.0.1 at 10.213.0.6", "stale network file of execution 9.0.1",
        "link jobs0-000006", "link jobs0-000008",
    ]  # fmt: skip
