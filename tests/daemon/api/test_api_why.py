"""why and whatif over the real API: what is answered, to whom, and that nothing is changed."""

from __future__ import annotations

import time

import pytest
from api_site import ALICE, BOB, HELLO, OPERATOR, OPERATORS_GID, ApiSite
from builders import a_host

from jobs import events as ev
from jobs import protocol
from jobs.client import Client
from jobs.errors import JobsError
from scheduler.decide import DECIDE_VERSION

WIDE = HELLO + "[resources]\ncpus = 40\n"


def submit(client: Client, toml: str) -> int:
    return client.submit([protocol.SpecText(toml, "spec.toml", "/tmp", "/tmp")]).jobs[0]


def test_why_names_what_is_in_the_way_and_whatif_changes_nothing(site: ApiSite) -> None:
    alice, bob = site.client(ALICE), site.client(BOB)
    for job in range(1, 31):
        assert submit(bob, HELLO) == job
        site.start(job)
    waiting = submit(alice, WIDE)
    before = site.head()
    why = alice.why(waiting)
    assert (why.verdict, [lack.dimension for lack in why.lacks]) == ("not now", ["cpus"])
    assert why.lacks[0].blockers and {(each.name, each.owner) for each in why.blockers} == {("", "")}
    assert why.remedies[0] == protocol.Remedy("cpus", "34")
    assert why.start_by == "estimates" and why.start_at is not None
    operator = site.client(OPERATOR, OPERATORS_GID)
    assert {each.name for each in operator.why(waiting).blockers} == {"hello"}
    assert alice.what_if(waiting, protocol.WhatIf(cpus=34)).verdict == "starts"
    assert alice.what_if(waiting, protocol.WhatIf(cpus=35)).verdict == "not now"
    assert site.head() == before and alice.job(waiting).cpus_wanted == 40


def test_who_may_not_see_a_job_gets_no_answer_and_what_runs_needs_none(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice, HELLO)
    for ask in (lambda it: it.why(job), lambda it: it.what_if(job, protocol.WhatIf(cpus=1))):
        with pytest.raises(JobsError, match="no job"):
            ask(site.client(BOB))
    site.start(job)
    assert alice.why(job).verdict == ""
    with pytest.raises(JobsError, match="does not wait"):
        alice.what_if(job, protocol.WhatIf(cpus=1))
    with pytest.raises(JobsError, match="this host has 64"):
        alice.what_if(submit(alice, WIDE), protocol.WhatIf(cpus=65))


def note_start(site: ApiSite, at: float) -> None:
    started = ev.DaemonStarted(0, "0.1.0", DECIDE_VERSION, a_host(cpus_per_node=64, memory_per_node=1 << 40), 0, 1000,
                               "test", at)  # fmt: skip
    assert site.portal.call(site.writer.report, started)


def test_blame_and_why_at_a_time_from_the_journal(site: ApiSite) -> None:
    note_start(site, time.time())
    alice, bob = site.client(ALICE), site.client(BOB)
    for job in range(1, 31):
        assert submit(bob, HELLO) == job
        site.start(job)
    waiting = submit(alice, WIDE)
    then = time.time()
    for job in range(1, 31):
        site.end(job)
    alice = site.client(ALICE)
    now = alice.why(waiting)
    assert now.verdict == "starts" and not now.past
    past = alice.why(waiting, then)
    assert (past.verdict, past.past, past.at) == ("not now", True, pytest.approx(then))
    assert [(lack.dimension, len(lack.blockers), lack.others) for lack in past.lacks] == [("cpus", 8, 22)]
    assert {blocker.name for blocker in past.blockers} == {""}
    site.start(waiting)
    blame = alice.blame(waiting)
    assert blame.waited_s == pytest.approx(sum(part.seconds for part in blame.parts))
    assert {"cpus", "starting"} <= {part.cause for part in blame.parts} and not blame.notes
    named = [part for part in blame.parts if part.job]
    assert named and {(part.name, part.owner) for part in named} == {("", "")}
    operator = site.client(OPERATOR, OPERATORS_GID)
    assert {part.name for part in operator.blame(waiting).parts if part.job} == {"hello"}


def test_what_the_past_does_not_tell(site: ApiSite) -> None:
    alice = site.client(ALICE)
    before = time.time()
    job = submit(alice, HELLO)
    for ask in (lambda: site.client(BOB).blame(job), lambda: site.client(BOB).why(job, time.time())):
        with pytest.raises(JobsError, match="no job"):
            ask()
    with pytest.raises(JobsError, match="an older version wrote it"):
        alice.why(job, time.time())
    assert [part.cause for part in alice.blame(job).parts] == ["unknown"]
    with pytest.raises(JobsError, match="was submitted at"):
        alice.why(job, before - 5)
    with pytest.raises(JobsError, match="is in the future"):
        alice.why(job, time.time() + 3600)


def test_a_journal_too_long_to_replay_is_refused_with_its_size(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(site.client(ALICE), HELLO)
    monkeypatch.setattr("scheduler.remembering.MOST_BYTES", 100)
    with pytest.raises(JobsError, match="at most 100B are replayed"):
        site.client(ALICE).blame(job)
