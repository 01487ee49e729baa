"""Every branch of what to believe after a restart; and each outcome is legal for its record."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from jobs import events as ev
from jobs.record import Record, State
from jobs.states import advance
from scheduler.reconcile import Abandon, Adopt, CleanUp, Ended, Kill, Observed, Outcome, Reset, reconcile
from tests.builders import MIB, History

NOW = 1000.0
X = "1.0.1"
EXIT = Ended(3, 900.0)


def starting(**spec: Any) -> History:
    return History(**spec).placed(0)


def running(**spec: Any) -> History:
    return starting(**spec).started(at=800.0)


def frozen(**spec: Any) -> History:
    return running(**spec).paused().frozen(ran_s=50.0)


def thawing(**spec: Any) -> History:
    return frozen(**spec).resumed().thaw_placed(0)


def after(life: History, **seen: Any) -> Outcome:
    return reconcile([life.record], {X: Observed(**seen)} if seen else {}, NOW)


# ── its monitor lives ───────────────────────────────────────────────────────────────────────────────────────────────

ALIVE: dict[str, Any] = {"marker": True, "went": True, "monitor": True, "populated": True, "groups": True}


@pytest.mark.parametrize(
    ("life", "seen", "event"),
    [
        (running(), {}, None),
        (frozen(), {"frozen": True}, None),
        (thawing(), {"frozen": True}, None),  # the loop tells the thaw again
        (starting(), {}, ev.Started(1, X, NOW)),  # killed between the start and its event
        (running(), {"frozen": True, "resident_bytes": MIB}, ev.Frozen(1, X, 0.0, 200.0, MIB, NOW)),
        (thawing(), {}, ev.Thawed(1, X, 0.0, NOW)),
        (running(), {"exit": EXIT}, None),  # it has just ended: the adopted one reports that
    ],
    ids=["running", "frozen", "thawing", "started", "froze", "thawed", "ending"],
)
def test_a_living_execution_is_adopted_and_its_record_corrected(
    life: History, seen: dict[str, Any], event: ev.Event | None
) -> None:
    assert after(life, **ALIVE | seen) == Outcome((event,) if event else (), (Adopt(X),))


def test_a_container_that_waits_for_its_go_is_abandoned() -> None:
    """Whether the go was on its way is not known here: the adopted one reports what became of it."""
    assert after(starting(), **ALIVE | {"went": False}) == Outcome((), (Abandon(X), Adopt(X)))


# ── it ended ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("life", [starting(), running(), frozen(), thawing()], ids=lambda life: life.record.state)
def test_an_exit_record_is_believed_in_every_state(life: History) -> None:
    usage = ev.Usage(cpu_s=4.0)
    outcome = after(life, marker=True, went=True, exit=EXIT, groups=True, usage=usage)
    (event,) = outcome.events
    assert isinstance(event, ev.Exited)
    assert (event.status, event.cause, event.usage, event.at) == (3, "", usage, 900.0)
    assert outcome.steps == (CleanUp(X),)
    assert advance(life.record, event).state is State.FAILED


def test_running_time_goes_on_to_the_end_and_not_beyond() -> None:
    def ran_s(life: History) -> float:
        (event,) = after(life, marker=True, exit=EXIT).events
        assert isinstance(event, ev.Exited)
        return event.ran_s

    assert ran_s(running()) == 100.0
    assert ran_s(frozen()) == 50.0
    assert ran_s(starting()) == 0.0
    assert ran_s(History().placed(0).started(at=5000.0)) == 0.0, "a clock that was set back"


@pytest.mark.parametrize(
    ("life", "status", "oom_kills", "cause"),
    [
        (running(), 137, 1, "oom"),
        (running(), 0, 1, ""),  # a child was killed, the program went on and succeeded
        (running().cancelled(), 143, 0, "cancelled"),
        (running().cancelled("time_limit"), 143, 0, "time_limit"),
        (running().cancelled("deadline"), 143, 0, "deadline"),
        (running().cancelled(), 137, 1, "cancelled"),
    ],
)
def test_the_cause_is_found_again(life: History, status: int, oom_kills: int, cause: str) -> None:
    (event,) = after(life, marker=True, exit=Ended(status, 900.0), usage=ev.Usage(oom_kills=oom_kills)).events
    assert isinstance(event, ev.Exited) and event.cause == cause


def test_a_start_that_failed_says_where() -> None:
    (event,) = after(starting(), marker=True, exit=Ended(125, 900.0, "overlay", 28, "/x")).events
    assert event == ev.StartFailed(
        1, X, "overlay", 28, "/x", "failed at step 'overlay' on /x: No space left on device", 900.0
    )


def test_processes_that_outlived_their_monitor_are_killed_before_the_clean_up() -> None:
    assert after(running(), marker=True, exit=EXIT, populated=True, groups=True).steps == (Kill(X), CleanUp(X))


# ── nothing tells how it ended ──────────────────────────────────────────────────────────────────────────────────────


def test_what_was_never_begun_is_started_again() -> None:
    assert after(starting()) == Outcome()
    assert after(starting(), groups=True) == Outcome((), (Reset(X),)), "after its half-made groups are gone"


@pytest.mark.parametrize(
    ("life", "seen", "why"),
    [
        (running(), {}, "its spool folder is gone"),
        (frozen(), {}, "its spool folder is gone"),
        (starting(), {"marker": True}, "left neither processes nor an exit record"),
        (running(), {"marker": True, "went": True}, "left neither processes nor an exit record"),
        (running(), {"marker": True, "went": True, "same_boot": False}, "the host was restarted"),
        (starting(), {"marker": True, "same_boot": False}, "the host was restarted"),
        (running(), {"marker": True, "went": True, "stopped": True}, "all jobs on this host were ended"),
        (running(), {"marker": True, "went": True, "stopped": True, "same_boot": False}, "the host was restarted"),
        (running(), {"marker": True, "populated": True}, "its monitor was killed"),
        (frozen(), {"marker": True, "populated": True, "frozen": True}, "its monitor was killed"),
        (thawing(), {"marker": True}, "left neither processes nor an exit record"),
    ],
)
def test_lost_by_name(life: History, seen: dict[str, Any], why: str) -> None:
    outcome = after(life, **seen)
    (event,) = outcome.events
    assert isinstance(event, ev.Lost) and why in event.reason and event.execution == X
    assert outcome.steps == ((Kill(X), CleanUp(X)) if seen.get("populated") else (CleanUp(X),))


# ── what is not on the node ─────────────────────────────────────────────────────────────────────────────────────────


def test_ended_jobs_are_cleaned_up_once() -> None:
    assert after(running().exited()) == Outcome((), (CleanUp(X),))
    assert after(running().exited(), populated=True, groups=True) == Outcome((), (Kill(X), CleanUp(X)))
    assert after(running().exited().cleaned()) == Outcome()


def test_a_lost_attempt_of_a_requeued_job_is_cleaned_up() -> None:
    assert after(running(on_lost="requeue").lost()) == Outcome((), (CleanUp(X),))


def test_waiting_jobs_need_nothing() -> None:
    assert reconcile([History(1).record, History(2, hold=True).record], {}, NOW) == Outcome()


def test_strays_are_removed() -> None:
    alive, empty = Observed(populated=True, groups=True), Observed(groups=True)
    seen = {"9.0.1": alive, "8.0.1": empty, "1.0.7": Observed(marker=True)}
    outcome = reconcile([running().record], {X: Observed(**ALIVE)} | seen, NOW)
    assert outcome.steps == (Adopt(X), CleanUp("1.0.7"), CleanUp("8.0.1"), Kill("9.0.1"), CleanUp("9.0.1"))


def test_every_event_is_legal_whatever_is_seen() -> None:
    """All states × all observations: the event applies, and what is not adopted ends or starts again."""
    lives = [starting(), running(), running().paused(), running().cancelled(), frozen(), frozen().cancelled()]
    lives.append(thawing())
    flags = ("marker", "went", "same_boot", "stopped", "monitor", "populated", "frozen", "groups")
    for life, exit in product(lives, (None, EXIT, Ended(125, 900.0, "overlay", 28, "/x"))):
        for values in product((False, True), repeat=len(flags)):
            outcome = after(life, exit=exit, **dict(zip(flags, values, strict=True)))
            record: Record = life.record
            for event in outcome.events:
                record = advance(record, event)
            adopted = Adopt(X) in outcome.steps
            again = record.state is State.STARTING and not adopted
            assert adopted + again + record.state.final == 1
            assert adopted == dict(zip(flags, values, strict=True))["monitor"]
            assert not record.state.final or CleanUp(X) in outcome.steps


# ── it certainly never ran ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "seen",
    [{"marker": True, "begun": False}, {"marker": True, "exit": Ended(125, 900.0, ev.ABANDONED, 125, "")}],
    ids=["a marker without a monitor", "abandoned before go"],
)
def test_a_start_that_certainly_did_not_run_is_tried_again(seen: dict[str, Any]) -> None:
    outcome = after(starting(), **seen)
    (event,) = outcome.events
    assert isinstance(event, ev.StartFailed)
    assert event.requeue
    assert outcome.steps == (CleanUp(X),)
    assert advance(starting().record, event).state is State.QUEUED
