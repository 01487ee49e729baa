"""What a job becomes: the table by example, and what the requests of owner and operator may do."""

from __future__ import annotations

import pytest

from jobs import events as ev
from jobs.record import FINAL, ON_NODE, State
from jobs.states import TABLE, Illegal, advance
from tests.builders import MIB, History, a_placement, a_record, submitted


def running(**spec: object) -> History:
    return History(**spec).placed(0).started(at=5.0)  # type: ignore[arg-type]


def frozen(**spec: object) -> History:
    return running(**spec).paused().frozen()


def test_a_whole_life() -> None:
    life = History().placed(2)
    assert (life.record.state, life.record.attempt, life.record.placement) == (State.STARTING, 1, a_placement(2))
    life.started(at=7.0)
    assert (life.record.state, life.record.running_since) == (State.RUNNING, 7.0)
    life.paused()
    assert life.record.state is State.RUNNING  # until the kernel agrees
    life.frozen(resident=9 * MIB, ran_s=3.0)
    kept = life.record
    assert (kept.state, kept.placement, kept.resident_bytes) == (State.FROZEN, None, 9 * MIB)
    assert kept.home == a_placement(2)  # its pages are still there
    life.resumed().thaw_placed(3)
    assert (life.record.state, life.record.home) == (State.THAWING, a_placement(3))
    life.thawed().exited(0)
    assert (life.record.state, life.record.placement, life.record.home) == (State.COMPLETED, None, None)
    assert not life.record.cleaned
    assert life.cleaned().record.cleaned


def test_every_state_has_a_row_and_final_ones_end() -> None:
    assert set(TABLE) == set(State)
    for state in FINAL:
        assert set(TABLE[state]) == {ev.CleanedUp}
    for state in ON_NODE:
        assert ev.Lost in TABLE[state] and ev.Exited in TABLE[state] and ev.CancelRequested in TABLE[state]


@pytest.mark.parametrize(
    ("status", "cause", "state"),
    [
        (0, "", State.COMPLETED), (3, "", State.FAILED), (137, "oom", State.OUT_OF_MEMORY),
        (143, "cancelled", State.CANCELLED), (0, "cancelled", State.CANCELLED), (143, "time_limit", State.TIMED_OUT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("when", ["starting", "running", "frozen", "thawing"])
def test_the_cause_of_the_end_decides_the_state(when: str, status: int, cause: str, state: State) -> None:
    life = {
        "starting": History().placed(0),
        "running": running(),
        "frozen": frozen(),
        "thawing": frozen().resumed().thaw_placed(0),
    }[when]
    assert life.exited(status, cause).record.state is state
    assert life.record.exit_status == status


def test_a_stale_execution_changes_nothing() -> None:
    life = running()
    with pytest.raises(Illegal, match=r"execution 1\.0\.9 is not the current 1\.0\.1"):
        life.then(ev.Lost(1, "1.0.9", "test", 0.0))
    assert life.record.state is State.RUNNING


def test_a_placement_must_name_the_next_execution() -> None:
    with pytest.raises(Illegal, match="not the next one"):
        History().then(ev.Placed(1, "1.0.2", a_placement(0), 0.0))


def test_nothing_can_be_cleaned_up_before_the_first_attempt() -> None:
    with pytest.raises(Illegal):
        History().then(ev.CleanedUp(1, "1.0.0"))


def test_no_event_for_a_job_that_does_not_exist() -> None:
    with pytest.raises(Illegal, match="no job 4"):
        advance(None, ev.HoldReleased(4, "owner"))
    with pytest.raises(Illegal):
        advance(a_record(), submitted(1))


# ── holds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pausing_a_waiting_job_holds_it() -> None:
    life = History().paused()
    assert life.record.state is State.HELD
    assert life.then(ev.HoldReleased(1, "owner")).record.state is State.QUEUED


def test_an_operators_hold_is_not_lifted_by_the_owner() -> None:
    life = History().paused("operator")
    with pytest.raises(Illegal, match="only an operator"):
        life.then(ev.HoldReleased(1, "owner"))
    assert life.then(ev.HoldReleased(1, "operator")).record.state is State.QUEUED
    life = frozen().paused("operator").resumed("owner")
    assert life.record.pause_holds == {"operator"}
    with pytest.raises(Illegal, match="only an operator"):
        life.resumed("owner")
    assert life.resumed("operator").record.pause_holds == frozenset()


def test_kept_cpus_stay_while_frozen() -> None:
    life = running().paused(keep_cpus=True).frozen()
    assert life.record.placement == a_placement(0)
    assert life.paused("operator").record.placement is None  # the second hold wants them back


def test_a_freeze_that_failed_is_forgotten() -> None:
    life = running().paused().then(ev.FreezeFailed(1, "1.0.1", "in D state", 5.0, 0.0))
    assert (life.record.state, life.record.pause_holds) == (State.RUNNING, frozenset())
    assert life.record.reason == "in D state"


def test_a_thaw_overtaken_by_a_crash() -> None:
    life = frozen().resumed().thaw_placed(1).frozen()
    assert (life.record.state, life.record.placement, life.record.freezes) == (State.FROZEN, None, 1)


# ── ends that did not come from the program ─────────────────────────────────────────────────────────────────────────


def test_cancelling_what_waits_is_its_end() -> None:
    for life in (History(), History(hold=True)):
        assert life.cancelled().record.state is State.CANCELLED
        assert life.record.cleaned


def test_cancelling_a_requeued_job_leaves_the_clean_up_of_its_lost_attempt_open() -> None:
    life = running(on_lost="requeue").lost().cancelled()
    assert (life.record.state, life.record.cleaned) == (State.CANCELLED, False)
    assert life.cleaned().record.cleaned


@pytest.mark.parametrize(
    ("on_lost", "holds", "cancelled_by", "state"),
    [
        ("fail", (), "", State.LOST), ("requeue", (), "", State.QUEUED), ("requeue", ("operator",), "", State.HELD),
        ("requeue", (), "owner", State.CANCELLED), ("fail", (), "owner", State.CANCELLED),
        ("requeue", (), "time_limit", State.TIMED_OUT),
    ],
)  # fmt: skip
def test_what_becomes_of_a_lost_job(on_lost: str, holds: tuple[str, ...], cancelled_by: str, state: State) -> None:
    life = running(on_lost=on_lost)
    for by in holds:
        life.paused(by)
    if cancelled_by:
        life.cancelled(cancelled_by)
    assert life.lost().record.state is state


def test_a_second_attempt_starts_afresh() -> None:
    life = running(on_lost="requeue").lost().placed(1)
    assert (life.record.attempt, str(life.record.execution)) == (2, "1.0.2")
    assert (life.record.ran_s, life.record.ended_at, life.record.reason, life.record.cleaned) == (0.0, 0.0, "", False)


def test_the_time_limit_is_the_reason() -> None:
    assert running().cancelled("time_limit").record.reason == "the time limit is over"
    assert running().cancelled("operator").record.reason == "cancelled by operator"


# ── priority ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_the_kernel_must_hear_is_marked() -> None:
    assert History().then(ev.PriorityChanged(1, cpu_weight=5)).record.weights_version == 0  # nothing on a node yet
    life = running().then(ev.PriorityChanged(1, urgency=9))
    assert (life.record.urgency, life.record.weights_version) == (9, 0)
    life.then(ev.PriorityChanged(1, cpu_weight=5))
    assert (life.record.cpu_weight, life.record.io_weight, life.record.weights_version) == (5, 100, life.record.version)
    before = life.record.weights_version
    life.then(ev.PriorityChanged(1, cpu_weight=5))
    assert life.record.weights_version == before


# ── making room for a more urgent job ───────────────────────────────────────────────────────────────────────────────


def test_a_preempted_job_gives_its_cpus_back_and_comes_back_without_a_request() -> None:
    life = running().preempted(by=12)
    assert (life.record.state, life.record.preempted_by) == (State.RUNNING, 12)
    assert life.record.to_freeze and not life.record.pause_holds
    life = life.frozen()
    assert (life.record.state, life.record.placement) == (State.FROZEN, None)
    life = life.thaw_placed(1)
    assert life.record.preempted_by == 0, "what it was frozen for has had its turn"
    assert life.thawed().record.state is State.RUNNING


def test_a_preempted_job_gives_its_cpus_back_even_where_its_owners_pause_would_keep_them() -> None:
    assert running().preempted().paused(keep_cpus=True).frozen().record.placement is None


def test_a_freeze_for_another_job_that_failed_is_forgotten_but_counted() -> None:
    life = running().preempted(at=7.0).then(ev.FreezeFailed(1, "1.0.1", "in D state", 5.0, 0.0))
    assert not life.record.to_freeze
    assert life.record.preempted_lately == (7.0,)


def test_preemptions_are_remembered_for_an_hour() -> None:
    life = running()
    for at in (0.0, 1800.0, 3700.0):
        life = life.preempted(at=at).frozen().thaw_placed(1).thawed()
    assert life.record.preempted_lately == (1800.0, 3700.0)


def test_a_job_that_is_to_be_queued_again_is_stopped_and_waits_with_its_age() -> None:
    life = running().preempted(by=12, requeue=True)
    assert life.record.cancel is not None and life.record.cancel.by == "preemption"
    after = life.exited(143, "cancelled").record
    assert (after.state, after.cancel, after.submitted_at) == (State.QUEUED, None, 0.0)
    assert "job 12" in after.reason
    assert running().preempted(requeue=True).paused().exited(143, "cancelled").record.state is State.HELD


def test_whoever_is_cancelled_while_preempted_ends() -> None:
    life = running().preempted(requeue=True).cancelled()
    assert life.exited(143, "cancelled").record.state is State.CANCELLED
    assert running().cancelled().preempted(requeue=True).exited(143, "cancelled").record.state is State.CANCELLED


def test_a_job_that_ends_by_itself_while_it_is_preempted_has_ended() -> None:
    assert running().preempted().exited(0).record.state is State.COMPLETED
    assert running().preempted(requeue=True).exited(0).record.state is State.COMPLETED
