"""Queues, shares and reservations through the real API and CLI: who may, what it says, what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from api_site import ALICE, BOB, HELLO, OPERATOR, OPERATORS_GID, ApiSite
from test_api_cli import cli

from jobs import protocol_queues
from jobs.client import Client, Refused
from jobs.protocol import SpecText
from jobs.protocol_queues import Reserve

POLICY = """
share_points = 20
half_life = "0s"
[queue.night]
points = -10
[queue.night.per_job]
cpus = 2
[queue.closed]
users = ["nobody-else"]
"""


@pytest.fixture
def policed(site: ApiSite) -> ApiSite:
    write(site, POLICY)
    operator(site).reload_policy()
    return site


def write(site: ApiSite, text: str) -> None:
    (site.folder / "policy.toml").write_text(text)


def operator(site: ApiSite) -> Client:
    return site.client(OPERATOR, OPERATORS_GID)


def submit(client: Client, *lines: str) -> int:
    text = "\n".join((*lines, HELLO)) if not any(line.startswith("[") for line in lines) else HELLO + "\n".join(lines)
    return client.submit([SpecText(text, "t.toml", "/", "/")]).jobs[0]


def queue(client: Client, name: str) -> protocol_queues.Queue:
    return next(each for each in client.queues().queues if each.name == name)


# ── queues ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_waits_in_its_queue_and_is_counted_there(policed: ApiSite) -> None:
    alice = policed.client(ALICE)
    for _ in range(3):
        submit(alice, 'queue = "night"')
    policed.start(1)
    alice.hold(3)
    found = queue(alice, "night")
    assert (found.running, found.waiting, found.held, found.cpus, found.points) == (1, 1, 1, 1.0, -10)
    assert found.yours and not queue(alice, "closed").yours
    assert {**alice.job(2).points, "age": 0.0} == {"urgency": 50, "queue": -10, "share": 20.0, "age": 0.0}
    assert alice.job(1).queue == "night" and alice.job(1).account == str(ALICE)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['queue = "nigth"'], "t.toml: queue: there is no queue 'nigth'; open to you: default, night"),
        (['queue = "closed"'], "t.toml: queue: 'closed' is not for"),
        (['queue = "night"', "resources.cpus = 3"], "t.toml: resources.cpus: 3 are more than queue 'night' gives"),
        (['account = "physics"'], "t.toml: account: 'physics' does not list"),
    ],
)
def test_what_a_queue_refuses(policed: ApiSite, lines: list[str], says: str) -> None:
    with pytest.raises(Refused) as caught:
        submit(policed.client(ALICE), *lines)
    assert says in caught.value.message and caught.value.hint == "see: jobs queue list"


def test_a_drained_queue_takes_jobs_and_stays_drained_over_reload_and_restart(policed: ApiSite) -> None:
    operator(policed).set_queue("night", "drain")
    submit(policed.client(ALICE), 'queue = "night"')
    assert operator(policed).reload_policy().changed is False
    policed.stop_daemon()
    policed.start_daemon()
    found = queue(policed.client(ALICE), "night")
    assert (found.state, found.open_now, found.waiting) == ("drained", False, 1)
    operator(policed).set_queue("night", "open")
    assert queue(policed.client(ALICE), "night").open_now


def test_a_file_with_a_mistake_changes_nothing_and_says_where(policed: ApiSite) -> None:
    write(policed, "[queue.night]\npionts = 1\n")
    before = policed.head()
    with pytest.raises(Exception, match=r"policy\.toml:2: queue\.night\.pionts: unknown key"):
        operator(policed).reload_policy()
    assert policed.head() == before


def test_a_queue_with_jobs_is_not_removed(policed: ApiSite) -> None:
    submit(policed.client(ALICE), 'queue = "night"')
    write(policed, "")
    with pytest.raises(Refused, match="queue 'night' can't be removed: it has 1 job that did not end, first 1"):
        operator(policed).reload_policy()


CHANGES: list[Callable[[Client], Any]] = [
    lambda client: client.set_queue("night", "drain"),
    lambda client: client.set_queue("night", "open"),
    lambda client: client.reload_policy(),
    lambda client: client.reserve(Reserve("r", 2e9, 60.0)),
    lambda client: client.remove_reservation("r"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_only_operators_change_anything(policed: ApiSite, change: Callable[[Client], Any]) -> None:
    before = policed.head()
    with pytest.raises(Refused, match="is for operators"):
        change(policed.client(ALICE))
    assert policed.head() == before


def test_no_such_queue(policed: ApiSite) -> None:
    with pytest.raises(Refused, match="no queue 'nigth'; there are: default, night, closed"):
        operator(policed).set_queue("nigth", "drain")


def test_events_of_the_policy_are_for_operators(policed: ApiSite) -> None:
    def kinds(client: Client) -> list[str]:
        return [json.loads(line)["kind"] for line in b"".join(client.events()).splitlines()]

    assert kinds(policed.client(ALICE)) == []
    assert kinds(operator(policed)) == ["policy_changed"]


# ── shares ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shares_show_what_was_used_and_others_only_to_operators(policed: ApiSite) -> None:
    for user in (ALICE, BOB):
        submit(policed.client(user))
    for job in (1, 2):
        policed.start(job)
        policed.end(job)
    rows = operator(policed).shares().shares
    assert [(row.account, row.user) for row in rows] == [
        (str(ALICE), ""), (str(ALICE), str(ALICE)), (str(BOB), ""), (str(BOB), str(BOB)),
    ]  # fmt: skip
    mine = policed.client(ALICE).shares()
    assert [(row.account, row.user) for row in mine.shares] == [(str(ALICE), ""), (str(ALICE), str(ALICE))]
    assert mine.most_points == 20.0 and mine.shares[1].part == 0.5


# ── reservations ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reservations_are_added_listed_and_removed(policed: ApiSite) -> None:
    client = operator(policed)
    client.reserve(Reserve("later", 3e9, 3600.0, every_s=86400.0, cpus=4, users=("alice",)))
    client.reserve(Reserve("sooner", 2e9, 3600.0))
    found = policed.client(ALICE).reservations().reservations
    assert [(each.name, each.next_at, each.cpus, each.now) for each in found] == [
        ("sooner", 2e9, 0, False), ("later", 3e9, 4, False),
    ]  # fmt: skip
    with pytest.raises(Refused, match="there is a reservation 'later'"):
        client.reserve(Reserve("later", 2e9, 60.0))
    client.remove_reservation("later")
    assert [each.name for each in client.reservations().reservations] == ["sooner"]
    with pytest.raises(Refused, match="no reservation 'later'"):
        client.remove_reservation("later")


def test_a_reservation_of_the_file_is_removed_there(site: ApiSite) -> None:
    write(site, '[reservation.weekly]\nat = 2027-01-31\nfor = "1h"\nevery = "7d"\n')
    operator(site).reload_policy()
    with pytest.raises(Refused, match="is in the policy file"):
        operator(site).remove_reservation("weekly")


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_commands(policed: ApiSite) -> None:
    def out(*arguments: str) -> str:
        done = cli(policed, *arguments)
        assert done.returncode == 0, done.stderr
        return str(done.stdout + done.stderr)

    assert "queue night is drained: 0 running, 0 waiting; start its jobs again with: jobsctl queue open night" in out(
        "queue", "drain", "night"
    )
    listed = out("queue", "list").splitlines()
    assert listed[0].split()[:3] == ["QUEUE", "STATE", "STARTS"] and "no: drained" in listed[2]
    assert "queue night is open" in out("queue", "open", "night")
    assert out("queue", "reload").strip() == "the policy is as it was; queues: default, night, closed"
    assert [row["name"] for row in json.loads(out("queue", "list", "--json"))] == ["default", "night", "closed"]
    assert "nobody has used anything yet; a newcomer has 20 points" in out("share")
    added = out("reserve", "add", "outage", "--from", "2033-05-18 03:33", "--for", "4h", "--every", "7d")
    assert added.startswith("reservation outage: all CPUs from 2033-05-1") and "for nobody" in added
    assert "policy file" not in out("reserve", "list")
    assert "removed reservation outage" in out("reserve", "remove", "outage")
    assert "no reservations" in out("reserve", "list")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["reserve", "add", "r", "--from", "tomorrow", "--for", "1h"], "--from: 'tomorrow' is not a time"),
        (["reserve", "add", "r", "--from", "now", "--for", "soon"], "not a duration: 'soon'"),
        (["reserve", "add", "r", "--from", "now", "--for", "0s"], "not nothing"),
        (["reserve", "add", "r", "--from", "now", "--for", "2h", "--every", "1h"], "longer than the reservation"),
        (["reserve", "add", "no name", "--from", "now", "--for", "2h"], "not a name of a reservation"),
        (["queue", "drain", "nigth"], "no queue 'nigth'"),
    ],
)
def test_mistakes_on_the_command_line(site: ApiSite, arguments: list[str], says: str) -> None:
    done = cli(site, *arguments)
    assert done.returncode == 2 and says in done.stderr
