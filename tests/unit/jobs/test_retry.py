"""Which ends are tried again, when, and with how much memory; what a checkpoint, a deadline and a warning do."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import events as ev
from jobs.record import State
from jobs.retry import STAGGER, pause_s
from jobs.spec import Moment, Resources, Retry
from tests.builders import GIB, History


def ended(life: History, status: int, cause: str = "", *, at: float = 1000.0, ran_s: float = 100.0) -> History:
    execution = str(life.record.execution)
    return life.then(ev.Exited(life.record.job, execution, status, cause, ran_s, ev.Usage(), at))


def failed(retry: Retry, status: int = 1, cause: str = "", **spec: Any) -> History:
    return ended(History(retry=retry, **spec).placed(0).started(), status, cause)


def not_started(life: History, *, requeue: bool = False) -> History:
    execution = str(life.record.execution)
    return life.then(ev.StartFailed(1, execution, "overlay", 28, "/x", "no space", 1000.0, requeue=requeue))


@pytest.mark.parametrize(
    ("on", "status", "cause", "again"),
    [
        (("exit",), 1, "", True), (("exit",), 255, "", True), (("exit",), 139, "", False),
        (("exit",), 137, "oom", False), (("exit",), 137, "", False),
        (("signal",), 139, "", True), (("signal",), 3, "", False), (("signal",), 128 + 40, "", True),
        (("oom",), 137, "oom", True), (("oom",), 137, "", False), (("KILL",), 137, "oom", False),
        ((75,), 75, "", True), ((75,), 74, "", False), ((139,), 139, "", True),
        (("SEGV",), 139, "", True), (("SEGV",), 134, "", False), ((), 1, "", False),
        (("exit", "signal", "oom"), 0, "", False),
        (("exit", "signal"), 143, "cancelled", False), (("exit", "signal"), 143, "time_limit", False),
        (("exit", "signal"), 143, "deadline", False),
    ],
)  # fmt: skip
def test_which_ends_are_tried_again(on: tuple[str | int, ...], status: int, cause: str, again: bool) -> None:
    record = failed(Retry(most=1, on=on), status, cause).record
    assert (record.state is State.QUEUED) == again
    assert record.state.final != again


def test_a_start_that_failed_is_tried_again_only_when_asked() -> None:
    assert not_started(History(retry=Retry(most=2)).placed(0)).record.state is State.FAILED
    record = not_started(History(retry=Retry(most=2, on=("start",))).placed(0)).record
    assert (record.state, record.retries, record.reason) == (State.QUEUED, 1, "retry 1 of 2, after no space")


def test_retries_are_counted_and_come_to_an_end() -> None:
    life = failed(Retry(most=2))
    assert (life.record.retries, life.record.reason) == (1, "retry 1 of 2, after exit status 1")
    assert (life.record.placement, life.record.cleaned, life.record.attempt) == (None, False, 1)
    assert not life.cleaned().record.state.final
    ended(life.placed(0).started(), 139)
    assert (life.record.retries, life.record.reason) == (2, "retry 2 of 2, after signal SEGV")
    ended(life.placed(0).started(), 1)
    assert (life.record.state, life.record.attempt) == (State.FAILED, 3)
    assert life.record.reason == "not tried again: no retry is left of 2"


def test_a_success_after_retries_completes() -> None:
    life = ended(failed(Retry(most=2)).placed(0).started(), 0)
    assert (life.record.state, life.record.reason, life.record.exit_status) == (State.COMPLETED, "", 0)


def test_a_retry_of_a_paused_job_is_held() -> None:
    life = ended(History(retry=Retry(most=2)).placed(0).started().paused(), 1)
    assert life.record.state is State.HELD
    assert life.then(ev.HoldReleased(1, "owner")).record.state is State.QUEUED


def test_a_cancel_that_came_first_is_the_end() -> None:
    life = ended(History(retry=Retry(most=2)).placed(0).started().cancelled(), 1)
    assert life.record.state is State.FAILED


def test_the_pause_grows_and_is_bounded() -> None:
    policy = Retry(most=9, backoff_s=10.0, factor=3.0, backoff_most_s=200.0)
    for number, full in enumerate((10.0, 30.0, 90.0, 200.0, 200.0), 1):
        assert full * (1 - STAGGER) <= pause_s(policy, number, 7) <= full
    assert pause_s(policy, 1, 7) != pause_s(policy, 1, 8)
    assert failed(policy).record.not_before == 1000.0 + pause_s(policy, 1, 1)


def test_out_of_memory_asks_for_more_until_there_is_no_more() -> None:
    retry = Retry(most=9, memory_factor=2.0, memory_most_bytes=5 * GIB)
    life = failed(retry, 137, "oom", memory=2 * GIB)
    assert life.record.wanted.resources == Resources(cpus=1, memory_bytes=4 * GIB)
    assert life.record.spec.resources.memory_bytes == 2 * GIB
    ended(life.placed(0).started(), 1)
    assert life.record.wanted.resources.memory_bytes == 4 * GIB  # only an OOM asks for more
    ended(life.placed(0).started(), 137, "oom")
    assert life.record.wanted.resources.memory_bytes == 5 * GIB
    ended(life.placed(0).started(), 137, "oom")
    assert life.record.state is State.OUT_OF_MEMORY
    assert life.record.reason == "not tried again: it already had 5.0GiB, the most that retry.memory_most allows"


def test_short_attempts_in_a_row_are_the_end() -> None:
    life = History(retry=Retry(most=99, crash_limit=3, crash_within_s=10.0))
    for ran_s in (9.0, 9.0, 11.0, 9.0, 9.0):
        assert ended(life.placed(0).started(), 1, ran_s=ran_s).record.state is State.QUEUED
    record = ended(life.placed(0).started(), 1, ran_s=9.0).record
    assert record.state is State.FAILED
    assert record.reason == "not tried again: 3 attempts in a row took less than 10.0s each"


# ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_is_started_again_at_once_and_is_no_retry() -> None:
    life = ended(History(checkpoint_exit_code=85).placed(0).started(), 85)
    assert (life.record.state, life.record.not_before, life.record.retries) == (State.QUEUED, 0.0, 0)
    assert (life.record.checkpoints, life.record.reason) == (1, "checkpoint 1, by exit status 85")
    assert ended(life.placed(0).started(), 85).record.checkpoints == 2
    assert ended(life.placed(0).started(), 0).record.state is State.COMPLETED


def test_checkpoints_without_work_between_them_are_the_end() -> None:
    life = History(checkpoint_exit_code=85, retry=Retry(crash_limit=2))
    ended(life.placed(0).started(), 85, ran_s=0.1)
    assert ended(life.placed(0).started(), 85, ran_s=0.1).record.state is State.FAILED


@pytest.mark.parametrize("cause", ["cancelled", "time_limit", "deadline", "oom"])
def test_a_checkpoint_after_a_stop_does_not_start_again(cause: str) -> None:
    assert ended(History(checkpoint_exit_code=85).placed(0).started(), 85, cause).record.state.final


# ── begin, deadline, warning ────────────────────────────────────────────────────────────────────────────────────────


def test_begin_counts_from_the_submission_or_is_a_time() -> None:
    assert History(at=100.0, begin=Moment(after_s=5.0)).record.not_before == 105.0
    assert History(at=100.0, begin=Moment(at=500.0)).record.not_before == 500.0
    assert History(at=100.0).record.not_before == 0.0


def test_the_latest_start_leaves_room_for_the_time_limit() -> None:
    record = History(at=100.0, deadline=Moment(after_s=60.0), time_limit_s=20.0).record
    assert (record.deadline_at, record.latest_start_at) == (160.0, 140.0)
    assert History(at=100.0).record.latest_start_at == 0.0


def test_a_deadline_ends_what_waits_and_what_runs() -> None:
    def past(life: History, at: float) -> History:
        return life.then(ev.CancelRequested(1, "deadline", "TERM", 30.0, at))

    def waiting(**spec: Any) -> History:
        return History(deadline=Moment(at=1000.0), **spec)

    record = past(waiting(), 1000.0).record
    assert (record.state, record.reason, record.cleaned) == (State.TIMED_OUT, "its deadline has passed", True)
    assert past(waiting(hold=True), 1000.0).record.state is State.TIMED_OUT
    early = past(waiting(time_limit_s=60.0), 941.0).record
    assert early.reason == "it could no longer run 1m and end before its deadline"
    life = past(waiting().placed(0).started(), 1000.0)
    assert life.record.state is State.RUNNING
    assert ended(life, 143, "deadline").record.state is State.TIMED_OUT


def test_no_retry_that_could_not_end_before_the_deadline() -> None:
    life = History(deadline=Moment(at=1005.0), retry=Retry(most=3, backoff_s=60.0)).placed(0).started()
    record = ended(life, 7).record
    assert (record.state, record.reason) == (State.FAILED, "not tried again: no time is left before its deadline")


def test_each_attempt_is_warned_once() -> None:
    life = History(retry=Retry(most=3)).placed(0).started().then(ev.Warned(1, "1.0.1", "USR1", 5.0))
    assert life.record.warned
    assert not ended(life, 1).placed(0).record.warned


def test_only_starts_that_were_cut_off_count_against_their_limit() -> None:
    life = History(retry=Retry(most=9))
    for _ in range(6):
        ended(life.placed(0).started(), 1)
    for _ in range(4):
        assert not_started(life.placed(0), requeue=True).record.state is State.QUEUED
    assert not_started(life.placed(0), requeue=True).record.state is State.FAILED
