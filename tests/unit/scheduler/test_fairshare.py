"""Usage by hand: what is charged and when, how it fades, and what the standings make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs import events as ev
from jobs.placement import Placement
from jobs.policy import Policy, Share
from jobs.states import advance
from scheduler.fairshare import FairShare, Key, Used, charged, cpus_of, faded, ratios
from scheduler.priority import POINT_MS
from tests.builders import ALICE, BOB, History, a_placement

ALONE = ("alice", "alice")
DAY = 86400.0


def shares(used: dict[Key, float], *given: Share, at: float = 0.0, **policy: float) -> FairShare:
    found = FairShare.of(Policy(shares=given, **policy), {key: Used(cpu_s, at) for key, cpu_s in used.items()})  # type: ignore[arg-type]
    found.step(at, {})
    return found


def test_charged_as_it_freezes_and_as_it_ends() -> None:
    """100 s on two CPUs, frozen, 50 s more: each counted once."""
    running = History(cpus=2).placed(placement=a_placement(0, 1)).started()
    frozen = ev.Frozen(1, "1.0.1", 0.001, 100.0, 0, 1000.0)
    used = charged({}, frozen, running.record, 0.0)
    assert used == {ALONE: Used(200.0, 1000.0)}
    again = running.paused().then(frozen).resumed().thaw_placed(placement=a_placement(2, 3)).thawed()
    ended = ev.Exited(1, "1.0.1", 0, "", 150.0, ev.Usage(), 1000.0)
    assert charged(used, ended, again.record, 0.0) == {ALONE: Used(300.0, 1000.0)}
    assert charged(used, replace(ended, ran_s=100.0), again.record, 0.0) == {}, "nothing new ran"


@pytest.mark.parametrize(
    ("place", "cpus"),
    [
        (Placement("n", (0, 1), (0,), True), 2.0),
        (Placement("n", (0, 1), (0,), True, idle=(2,)), 3.0),  # nobody else gets it
        (Placement("n", (0, 1, 2), (0,), False, shares=0.25), 0.25),
    ],
)
def test_cpus_are_those_that_nobody_else_could_have(place: Placement, cpus: float) -> None:
    history = History().placed(placement=place).started()
    assert cpus_of(history.record) == cpus
    assert cpus_of(history.paused().frozen().record) == cpus, "charged at an end while frozen"
    assert cpus_of(History().record) == 0.0


def test_a_job_of_an_account_is_charged_there() -> None:
    running = History(account="physics", owner=BOB).placed(0).started()
    assert list(charged({}, ev.Frozen(1, "1.0.1", 0.0, 1.0, 0, 0.0), running.record, 0.0)) == [("physics", "bob")]


def test_usage_fades_by_half_in_each_half_life() -> None:
    assert Used(80.0, 0.0).later(DAY, DAY) == Used(40.0, DAY)
    assert Used(80.0, 0.0).later(DAY, 0.0) == Used(80.0, DAY), "0: nothing is forgotten"
    assert Used(80.0, DAY).later(0.0, DAY) == Used(80.0, DAY), "a clock that was put back"
    running = History().placed(0).started()
    ended = ev.Exited(1, "1.0.1", 0, "", 5.0, ev.Usage(), DAY)
    assert charged({ALONE: Used(80.0, 0.0)}, ended, running.record, DAY) == {ALONE: Used(45.0, DAY)}


def test_a_new_half_life_counts_from_now_on() -> None:
    used = {ALONE: Used(80.0, 0.0)}
    event = ev.PolicyChanged(0, Policy(half_life_s=7.0), DAY)
    assert faded(used, event, Policy(half_life_s=DAY)) == {ALONE: Used(40.0, DAY)}
    assert faded(used, event, Policy(half_life_s=7.0)) == {}
    assert faded(used, ev.QueueChanged(0, "default", "open", DAY), Policy()) == {}


def test_ratios() -> None:
    assert ratios({"a": 30.0, "b": 10.0}, {"a": 3.0, "b": 1.0}) == {"a": 1.0, "b": 1.0}
    assert ratios({"a": 50.0}, {"a": 7.0}) == {"a": 1.0}, "alone one has what is due"
    assert ratios({"a": 50.0, "b": 0.0}, {"a": 1.0, "b": 1.0}) == {"a": 1.0, "b": 0.0}
    assert ratios({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}) == {"a": 0.0, "b": 0.0}
    found = ratios({"a": 60.0, "b": 40.0}, {"a": 1.0, "b": 1.0})
    assert found["a"] > 1.0 > found["b"]


def test_points_a_newcomer_has_most_and_who_has_what_is_due_half() -> None:
    found = shares({("a", "x"): 3000.0, ("b", "y"): 1000.0}, Share("a", weight=3.0), share_points=20.0)
    assert found.points_ms("a", "x") == found.points_ms("b", "y") == 10 * POINT_MS
    assert found.points_ms("c", "z") == 20 * POINT_MS


def test_share_points_of_zero_turn_it_off() -> None:
    found = shares({("a", "x"): 3000.0, ("b", "y"): 1.0}, share_points=0.0)
    assert found.points_ms("a", "x") == found.points_ms("c", "z") == 0


def test_users_are_compared_within_their_account() -> None:
    found = shares({("a", "x"): 900.0, ("a", "y"): 100.0, ("b", "z"): 1000.0})
    x, y, z = found.points_ms("a", "x"), found.points_ms("a", "y"), found.points_ms("b", "z")
    assert x < z < y


def test_a_newcomer_of_an_account_that_had_much_still_stands_on_its_account() -> None:
    found = shares({("a", "x"): 9000.0, ("b", "z"): 1000.0}, Share("a", "new"))
    assert found.points_ms("a", "x") < found.points_ms("a", "new") < found.points_ms("b", "z")


def test_what_runs_counts_from_step_to_step_and_is_not_charged_twice() -> None:
    running = History(cpus=2).placed(placement=a_placement(0, 1)).started(at=1000.0)
    found = FairShare.of(Policy(half_life_s=0.0), {("bob", "bob"): Used(100.0, 1000.0)})
    found.see(running.record)
    assert [(each.user, each.cpu_s) for each in found.standings(1030.0, {})] == [("alice", 60.0), ("bob", 100.0)]
    assert [each.cpu_s for each in found.standings(1030.0, {1: 50.0})] == [100.0, 100.0], "the node knows better"
    assert found.step(1050.0, {}) == {("alice", "alice"), ("bob", "bob")}
    assert found.step(1050.0, {}) == frozenset()
    ended = ev.Exited(1, "1.0.1", 0, "", 50.0, ev.Usage(), 1050.0)
    found.apply(ended, running.record, advance(running.record, ended))
    assert found.used[ALONE].cpu_s == 100.0 and not found.running
    assert found.step(1050.0, {}) == frozenset(), "the charge is what the step had seen"


def test_small_changes_move_nothing() -> None:
    found = shares({("a", "x"): 100_000.0, ("b", "y"): 100_000.0})
    found.used[("a", "x")] = Used(100_050.0, 0.0)
    assert found.step(60.0, {}) == frozenset()


def test_fading_alone_moves_nothing() -> None:
    found = shares({("a", "x"): 1e6, ("b", "y"): 3e5})
    assert found.step(3 * DAY, {}) == frozenset()


def test_the_step_is_due_after_its_time_and_at_once_after_a_change_of_policy() -> None:
    found = shares({ALONE: 1.0}, step_s=60.0)
    assert found.next_step_at == 60.0
    policy = Policy(shares=(Share("alice", weight=2.0),))
    found.set_policy(policy)
    assert found.next_step_at < 0.0 and found.policy is policy


def test_standings_say_what_is_due() -> None:
    found = shares({("a", "x"): 75.0, ("b", "y"): 25.0}, Share("a", weight=3.0), Share("a", "x", 2.0), Share("a", "w"))
    rows = {each.user: each for each in found.standings(0.0, {})}
    assert [(user, rows[user].part, round(rows[user].due, 3)) for user in ("w", "x", "y")] == [
        ("w", 0.0, 0.25), ("x", 0.75, 0.5), ("y", 0.25, 0.25),
    ]  # fmt: skip
    assert ALICE.name not in rows
