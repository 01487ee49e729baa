"""A policy file: what each key becomes, and each mistake with its line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs import policyfile
from jobs.errors import HostError, SpecError
from jobs.policy import Limits, Policy, Queue, Reservation, Share, Window, render_window

EXAMPLE = Path(__file__).parents[3] / "config" / "policy.toml"


def parsed(*lines: str) -> Policy:
    return policyfile.parse("\n".join(lines), file="p.toml")


def refused(*lines: str) -> str:
    with pytest.raises(SpecError) as caught:
        parsed(*lines)
    return caught.value.message


def test_nothing_said_is_the_default_policy() -> None:
    assert parsed() == Policy()


def test_no_file_is_the_default_policy(tmp_path: Path) -> None:
    assert policyfile.load(str(tmp_path / "missing.toml")) == Policy()
    with pytest.raises(HostError, match="cannot read the policy file"):
        policyfile.load(str(tmp_path))
    (tmp_path / "p.toml").write_bytes(b"# \xff")
    with pytest.raises(HostError, match="not UTF-8"):
        policyfile.load(str(tmp_path / "p.toml"))


def test_a_queue() -> None:
    found = parsed(
        "[queue.night]", "points = -10", 'preempt = "never"', "preemptible = false", 'estimate = "4h"',
        'default_time_limit = "1h"', 'most_time_limit = "1d"', 'users = ["alice"]', 'groups = ["staff"]',
        'windows = ["mon-fri 20:00-06:00"]', "[queue.night.total]", "jobs = 3", "cpus = 8", 'memory = "64GiB"',
        "[queue.night.per_user]", "cpus = 0.5", "[queue.night.per_job]", 'memory = "1GiB"',
    )  # fmt: skip
    night = Queue(
        "night", -10, "never", False, Limits(3, 8.0, 64 << 30), Limits(cpus=0.5), Limits(memory_bytes=1 << 30),
        estimate_s=14400.0, default_limit_s=3600.0, most_limit_s=86400.0, users=("alice",), groups=("staff",),
        windows=(Window((0, 1, 2, 3, 4), 1200, 360),),
    )  # fmt: skip
    assert found.queues == (Queue(), night), "the default queue is always there"


def test_shares_with_and_without_weights() -> None:
    found = parsed("[share.physics]", "weight = 3", "users = { alice = 2, bob = 1 }", "[share.chem]", 'users = ["eve"]')
    assert found.shares == (
        Share("physics", "", 3.0), Share("physics", "alice", 2.0), Share("physics", "bob"), Share("chem"),
        Share("chem", "eve"),
    )  # fmt: skip


def test_reservations_are_in_the_time_zone_of_the_policy_unless_they_say_theirs() -> None:
    found = parsed(
        'timezone = "Europe/Berlin"', "[reservation.a]", "at = 2027-01-31T22:00:00", 'for = "4h"', 'every = "7d"',
        "[reservation.b]", "at = 2027-01-31T22:00:00Z", 'for = "1h"', "cpus = 4", 'users = ["alice"]',
        "[reservation.c]", "at = 2027-07-01", 'for = "1h"',
    )  # fmt: skip
    at = datetime(2027, 1, 31, 22, tzinfo=UTC).timestamp()
    assert found.reservations == (
        Reservation("a", at - 3600, 14400.0, 7 * 86400.0),
        Reservation("b", at, 3600.0, cpus=4, users=("alice",)),
        Reservation("c", datetime(2027, 6, 30, 22, tzinfo=UTC).timestamp(), 3600.0),  # midnight, in summer
    )


@pytest.mark.parametrize(
    ("text", "days", "again"),
    [
        ("mon-fri 20:00-06:00", (0, 1, 2, 3, 4), "mon-fri 20:00-06:00"),
        ("sat,sun 00:00-24:00", (5, 6), "sat,sun 00:00-24:00"),
        ("daily 22:30-06:00", tuple(range(7)), "daily 22:30-06:00"),
        ("fri-mon 08:00-09:00", (0, 4, 5, 6), "mon,fri,sat,sun 08:00-09:00"),
        ("wed 08:00-09:00", (2,), "wed 08:00-09:00"),
    ],
)
def test_windows(text: str, days: tuple[int, ...], again: str) -> None:
    (window,) = parsed("[queue.q]", f'windows = ["{text}"]').queue("q").windows
    assert window.days == days and render_window(window) == again


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["half_lief = 1"], "p.toml:1: half_lief: unknown key; possible here: backfill,"),
        (["half_lief = 1"], "hint: did you mean 'half_life'?"),
        (["[queue.night]", "pionts = 1"], "p.toml:2: queue.night.pionts: unknown key"),
        (["[queue.night.per_job]", "jobs = 1"], "hint: did you mean 'queue.NAME.total.jobs'?"),
        (["[queue.night]", 'estimate = "4 hours"'], "p.toml:2: queue.night.estimate: not a duration: '4 hours'"),
        (["[queue.night]", 'estimate = "0s"'], "is too short; needs more than 0"),
        (["[queue.night]", 'users = "alice"'], 'hint: write: ["alice"]'),
        (["[queue.night]", 'windows = ["always"]'], "p.toml:2: queue.night.windows[0]: 'always' is not a window"),
        (["[queue.night]", 'windows = ["moo 00:00-24:00"]'], "hint: did you mean 'mon'?"),
        (["[queue.night]", 'windows = ["mon 24:00-24:00"]'], "times are 00:00 to 23:59, and 24:00 at the end"),
        (["[queue.night]", 'preempt = "kill"'], "possible: never, freeze, requeue"),
        (['[queue."bad name"]'], 'p.toml:1: queue."bad name": \'bad name\' is not a name'),
        (
            ["[queue.q]", 'most_time_limit = "1h"', 'default_time_limit = "2h"'],
            "p.toml:3: queue.q.default_time_limit: 2h is more than most_time_limit, which is 1h",
        ),
        (["[share.physics]", "weight = 0"], "p.toml:2: share.physics.weight: 0 is out of range"),
        (["[share.physics]", "users = { alice = -1 }"], "p.toml:2: share.physics.users.alice: -1 is out of range"),
        (["[share.physics]", "users = 1"], "needs a list of names, or a table of weights"),
        (["[reservation.a]", "at = 2027-01-31"], "p.toml:1: reservation.a.for: is missing: how long"),
        (["[reservation.a]", 'at = "2027-01-31"', 'for = "1h"'], "hint: write it without quotes"),
        (["[reservation.a]", "at = 2027-01-31", 'for = "2h"', 'every = "1h"'], "1h is not longer than for"),
        (['timezone = "Europe/Berln"'], "is no time zone that this host knows"),
        (["share_points = -1"], "needs a number from 0 to 1000"),
        (["backfill = 7"], "p.toml:1: backfill: 7 is an integer; possible: off, easy, conservative"),
        (["[queue"], "p.toml:1: not TOML"),
        (["queue = 1"], "p.toml:1: queue: 1 is an integer; needs a table"),
    ],
)  # fmt: skip
def test_mistakes(lines: list[str], says: str) -> None:
    assert says in refused(*lines)


def test_all_mistakes_are_told_at_once() -> None:
    assert refused("backfill = 1", "[queue.q]", "points = 1.5").count("p.toml:") == 2


def test_the_example_is_one() -> None:
    found = policyfile.load(str(EXAMPLE))
    assert [queue.name for queue in found.queues] == ["default", "express", "night"]
    assert found.accounts_of("alice") == ("physics",) and len(found.reservations) == 2
