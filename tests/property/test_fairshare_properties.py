"""Fair share converges to its weights; charging once or in pieces, live or from the journal, is the same.

The bound on the parts of usage: one level of the factor, which at the place of who has what is due is
2 · ln(256/255) / ln 2 ≈ 1.1 % of a share, and what is decided before the next step sees it: (step + longest job) over
the half-life.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.events import Owner
from jobs.policy import Policy, Queue, Share
from jobs.record import State
from scheduler.fairshare import FairShare, Key, Used, charged, ratios
from tests.builders import MIB, History, a_capacity, a_job, a_placement
from tests.fakes.simulation import Simulation

WEIGHTS = st.integers(1, 5).map(float)
ACCOUNTS = st.lists(st.tuples(WEIGHTS, st.lists(WEIGHTS, min_size=1, max_size=3)), min_size=2, max_size=3)
HALF_LIFE_S, STEP_S, LONGEST_S = 20_000.0, 60.0, 240.0
CPUS = 8


def a_policy(accounts: list[tuple[float, list[float]]]) -> Policy:
    found = []
    for number, (weight, users) in enumerate(accounts):
        found.append(Share(f"a{number}", "", weight))
        found += [Share(f"a{number}", f"u{number}{user}", each) for user, each in enumerate(users)]
    return Policy(shares=tuple(found), half_life_s=HALF_LIFE_S, step_s=STEP_S)


def contend(policy: Policy, lengths: dict[Key, float], until_s: float) -> FairShare:
    """Everybody always has jobs waiting, all as old: whoever has most points is next, ties in turn."""
    shares = FairShare.of(policy, {})
    running: list[tuple[float, Key, float]] = []  # (ends, whose, began)
    turns = dict.fromkeys(lengths, 0)
    now, next_step = 0.0, 0.0
    while now < until_s:
        if now >= next_step:
            held = dict(shares.used)
            for _, key, began in running:  # as `step` counts what runs
                used = held.get(key, Used()).later(now, HALF_LIFE_S)
                held[key] = Used(used.cpu_s + now - began, now)
            seen = FairShare.of(policy, held)
            seen.step(now, {})
            next_step = now + STEP_S
        while len(running) < CPUS:
            key = min(lengths, key=lambda key: (-seen.points_ms(*key), turns[key], key))
            turns[key] += 1
            running.append((now + lengths[key], key, now))
        running.sort()
        now, key, began = running.pop(0)
        used = shares.used.get(key, Used()).later(now, HALF_LIFE_S)
        shares.used[key] = Used(used.cpu_s + now - began, now)
    return shares


@settings(max_examples=12, deadline=None)
@given(ACCOUNTS, st.data())
def test_usage_converges_to_the_weights(accounts: list[tuple[float, list[float]]], data: st.DataObject) -> None:
    policy = a_policy(accounts)
    keys = [(share.account, share.user) for share in policy.shares if share.user]
    lengths = {key: data.draw(st.sampled_from([60.0, 100.0, LONGEST_S])) for key in keys}
    until = 4 * HALF_LIFE_S
    rows = contend(policy, lengths, until).standings(until, {})
    most = 0.011 + (STEP_S + LONGEST_S) / HALF_LIFE_S
    for row in rows:
        assert abs(row.part - row.due) <= most, (row, most)


SHORT_HALF_LIFE_S = 4000.0  # rounds are dearer than the sums above


@settings(max_examples=6, deadline=None)
@given(ACCOUNTS, st.data())
def test_what_decide_starts_converges_to_the_weights(
    accounts: list[tuple[float, list[float]]], data: st.DataObject
) -> None:
    """The same bound, of whole lives: world, rounds and events; everybody always has jobs of one age waiting."""
    policy = replace(a_policy(accounts), half_life_s=SHORT_HALF_LIFE_S, queues=(Queue(preempt="never"),))
    sim = Simulation(a_capacity(cpus_per_node=4), policy)
    began, until = sim.now, sim.now + 4 * SHORT_HALF_LIFE_S
    keys = [(share.account, share.user) for share in policy.shares if share.user]
    length_s = {key: data.draw(st.sampled_from([60.0, 100.0, LONGEST_S])) for key in keys}
    spec = a_job(memory=MIB)

    def submit(key: Key) -> None:
        account, user = key
        owner = Owner(1000 + keys.index(key), 1000, name=user)
        assert sim.happen(ev.Submitted(len(sim.records) + 1, replace(spec, account=account), owner, began))

    for key in keys * 2:
        submit(key)
    ends: list[tuple[float, int]] = []
    while sim.now < until:
        for action in sim.round().actions:
            record = sim.records[action.job]
            if record.state is State.STARTING:
                sim.report(record.job, "started")
                key = record.account, record.user
                heappush(ends, (sim.now + length_s[key], record.job))
                submit(key)
        sim.tick(ends[0][0] - sim.now)
        _, job = heappop(ends)
        sim.report(job, "exited")
        sim.report(job, "cleaned")
    most = 0.011 + (STEP_S + LONGEST_S) / SHORT_HALF_LIFE_S
    for row in sim.world.shares.standings(sim.now, sim.ran):
        assert abs(row.part - row.due) <= most, (row, most)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=6), st.floats(0.0, 1e6))
def test_charged_in_pieces_or_at_once(pieces: list[float], half_life_s: float) -> None:
    """Frozen over and over, or not: what ran is charged once. All at one time, so nothing fades."""
    running = History(cpus=2).placed(placement=a_placement(0, 1)).started().record
    used: dict[Key, Used] = {}
    ran_s = 0.0
    for piece in pieces:
        before = replace(running, ran_s=ran_s)
        ran_s += piece
        used |= charged(used, ev.Frozen(1, "1.0.1", 0.0, ran_s, 0, 5.0), before, half_life_s)
    assert abs(sum(each.cpu_s for each in used.values()) - 2 * ran_s) <= 1e-6 * max(1.0, ran_s)


@given(st.floats(0.0, 1e9), st.lists(st.floats(0.0, 1e6), max_size=5), st.floats(1.0, 1e6))
def test_fading_in_steps_is_fading(cpu_s: float, steps: list[float], half_life_s: float) -> None:
    used, at = Used(cpu_s, 0.0), 0.0
    for step in steps:
        at += step
        used = used.later(at, half_life_s)
    assert abs(used.cpu_s - Used(cpu_s, 0.0).later(at, half_life_s).cpu_s) <= 1e-6 * max(1.0, cpu_s)


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(0.0, 1e6), min_size=1), st.data())
def test_who_had_more_for_the_weight_is_behind(amounts: dict[str, float], data: st.DataObject) -> None:
    weights = {name: data.draw(WEIGHTS) for name in amounts}
    found = ratios(amounts, weights)
    by_ratio = sorted(amounts, key=lambda name: found[name])
    for one, other in pairwise(by_ratio):
        assert found[one] == found[other] or amounts[one] / weights[one] < amounts[other] / weights[other]
