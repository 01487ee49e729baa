"""What a policy event does; a new file takes nothing back that was done by command."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jobs import events as ev
from jobs.policy import Policy, Queue, Reservation, Share
from jobs.policy_changes import advance_policy, must_have_queue, must_keep_queues
from jobs.states import Illegal

NIGHT = Queue("night")
IN_FILE = Reservation("weekly", 1e9, 3600.0, 7 * 86400.0)
ADDED = Reservation("outage", 2e9, 3600.0, by="root")


def after(policy: Policy, *events: ev.PolicyEvent) -> Policy:
    for event in events:
        policy = advance_policy(policy, event)
    return policy


def test_drained_and_reserved_by_command_survive_a_new_file() -> None:
    file = Policy(queues=(Queue(), NIGHT), reservations=(IN_FILE,))
    found = after(
        Policy(),
        ev.PolicyChanged(0, file, 1.0),
        ev.QueueChanged(0, "night", "drained", 2.0),
        ev.ReservationAdded(0, ADDED, 3.0),
        ev.PolicyChanged(0, file, 4.0),
    )
    assert [queue.state for queue in found.queues] == ["open", "drained"]
    assert found.reservations == (IN_FILE, ADDED)
    assert after(found, ev.QueueChanged(0, "night", "open", 5.0)).queue("night") == NIGHT


def test_what_the_file_no_longer_says_goes() -> None:
    found = after(
        Policy(queues=(Queue(), NIGHT), reservations=(IN_FILE,), shares=(Share("physics"),)),
        ev.PolicyChanged(0, Policy(), 1.0),
    )
    assert found == Policy()


def test_the_default_queue_is_always_there() -> None:
    assert [queue.name for queue in after(Policy(), ev.PolicyChanged(0, Policy(queues=(NIGHT,)), 1.0)).queues] == [
        "default", "night",
    ]  # fmt: skip


def test_a_reservation_of_the_file_takes_the_place_of_an_added_one_of_its_name() -> None:
    file = Policy(reservations=(Reservation("outage", 3e9, 60.0),))
    assert after(Policy(reservations=(ADDED,)), ev.PolicyChanged(0, file, 1.0)).reservations == file.reservations


def test_an_added_reservation_that_is_over_goes_with_the_next_one() -> None:
    past, again = Reservation("past", 1e9, 60.0, by="root"), Reservation("daily", 1e9, 60.0, 86400.0, by="root")
    found = after(Policy(reservations=(past, again)), ev.ReservationAdded(0, ADDED, 1.5e9))
    assert found.reservations == (again, ADDED)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (ev.QueueChanged(0, "nigth", "drained", 1.0), "no queue 'nigth'; there are: default, night"),
        (ev.ReservationAdded(0, ADDED, 1.0), "there is a reservation 'outage'"),
        (ev.ReservationRemoved(0, "other", 1.0), "no reservation 'other'; there are: weekly, outage"),
        (ev.ReservationRemoved(0, "weekly", 1.0), "is in the policy file; remove it there"),
    ],
)
def test_refusals_name_what_there_is(event: ev.PolicyEvent, says: str) -> None:
    with pytest.raises(Illegal, match=says):
        advance_policy(Policy(queues=(Queue(), NIGHT), reservations=(IN_FILE, ADDED)), event)


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        ([(4, "default")], ""),
        ([(9, "night"), (4, "default"), (7, "night")], "it has 2 jobs that did not end, first 7"),
        ([(9, "night")], "it has 1 job that did not end, first 9"),
    ],
)
def test_a_queue_with_jobs_is_not_removed(jobs: Sequence[tuple[int, str]], says: str) -> None:
    if not says:
        must_keep_queues(Policy(queues=(Queue(), NIGHT)), Policy(), jobs)
        return
    with pytest.raises(Illegal, match=says):
        must_keep_queues(Policy(queues=(Queue(), NIGHT)), Policy(), jobs)


def test_a_queue_is_found_by_name() -> None:
    assert must_have_queue(Policy(queues=(Queue(), NIGHT)), "night") is NIGHT
    with pytest.raises(Illegal, match="no queue 'x'; there are: default"):
        must_have_queue(Policy(), "x")


def test_accounts_are_those_that_list_the_user_else_their_own() -> None:
    policy = Policy(shares=(Share("physics"), Share("physics", "alice"), Share("chemistry", "alice")))
    assert policy.accounts_of("alice") == ("physics", "chemistry")
    assert policy.accounts_of("bob") == ("bob",)
