"""why and whatif over the real API: what is answered, to whom, and that nothing is changed."""

from __future__ import annotations

import pytest
from api_site import ALICE, BOB, HELLO, OPERATOR, OPERATORS_GID, ApiSite

from jobs import protocol
from jobs.client import Client
from jobs.errors import JobsError

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
