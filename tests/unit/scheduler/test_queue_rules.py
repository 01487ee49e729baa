"""What a queue refuses at submission, and what it fills in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.policy import Limits, Policy, Queue, Share
from jobs.spec import JobSpec
from scheduler.queue_rules import filled, refusals
from tests.builders import GIB, a_job

POLICY = Policy(
    queues=(
        Queue(),
        Queue("small", per_job=Limits(cpus=2.0, memory_bytes=GIB), default_limit_s=60.0, most_limit_s=3600.0),
        Queue("staff", groups=("staff",), users=("eve",)),
        Queue("short", most_limit_s=60.0),
    ),
    shares=(Share("physics"), Share("physics", "alice"), Share("chemistry", "alice")),
)


def why(spec: JobSpec, user: str = "alice", *groups: str) -> list[str]:
    return list(refusals(spec, user, groups, POLICY))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (a_job(queue="smal"), "queue: there is no queue 'smal'; open to you: default, small, short"),
        (a_job(queue="staff"), "queue: 'staff' is not for 'alice'; open to you: default, small, short"),
        (a_job(queue="small", cpus=4), "resources.cpus: 4 are more than queue 'small' gives a job: 2"),
        (
            a_job(queue="small", memory=2 * GIB),
            "resources.memory: 2.0GiB is more than queue 'small' gives a job: 1.0GiB",
        ),
        (a_job(queue="small", time_limit_s=7200.0), "time_limit: 2h is more than queue 'small' gives a job: 1h"),
        (a_job(account="biology"), "account: 'biology' does not list 'alice'; yours: physics, chemistry"),
        (a_job(account="alice"), "account: 'alice' does not list 'alice'; yours: physics, chemistry"),
    ],
)
def test_refused_with_key_value_and_what_is_possible(spec: JobSpec, says: str) -> None:
    assert why(spec) == [says]


def test_everything_that_is_wrong_is_told() -> None:
    assert len(why(a_job(queue="small", cpus=4, memory=2 * GIB, account="biology"))) == 3


@pytest.mark.parametrize(("user", "groups"), [("eve", []), ("bob", ["users", "staff"])])
def test_listed_users_and_members_of_listed_groups_may(user: str, groups: list[str]) -> None:
    assert why(a_job(queue="staff"), user, *groups) == []


@pytest.mark.parametrize(
    ("queue", "given", "becomes"),
    [
        ("default", 0.0, 0.0), ("default", 9.0, 9.0), ("small", 0.0, 60.0), ("small", 3600.0, 3600.0),
        ("short", 0.0, 60.0),
    ],
)  # fmt: skip
def test_a_time_limit_is_filled_in_where_none_is_given(queue: str, given: float, becomes: float) -> None:
    spec = a_job(queue=queue, time_limit_s=given)
    assert filled(spec, "alice", POLICY) == replace(spec, account="physics", time_limit_s=becomes)


def test_the_account_is_the_given_one_the_first_that_lists_the_user_or_their_own() -> None:
    assert filled(a_job(account="chemistry"), "alice", POLICY).account == "chemistry"
    assert filled(a_job(), "bob", POLICY).account == "bob"
