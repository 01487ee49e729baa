"""What a job is: one table from (state, event) to a state, and `advance`, which alone changes a record. Pure.

An event without a row raises `Illegal` and changes nothing. docs/reference/states.md is drawn from TABLE.
Requests (pause, cancel, priority) mark the record; the loop acts on the marks, the node reports what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobs import events as ev
from jobs import retry
from jobs.ids import ExecutionId
from jobs.record import Cancel, Record, State
from jobs.units import render_duration

HELD, QUEUED, STARTING, RUNNING, FROZEN, THAWING = (
    State.HELD, State.QUEUED, State.STARTING, State.RUNNING, State.FROZEN, State.THAWING,
)  # fmt: skip


MOST_ATTEMPTS = 5  # of starting, when launcher or daemon died in the middle of it
TIME_LIMIT, DEADLINE = "time_limit", "deadline"  # `by` of the cancels that the scheduler itself proposes
PREEMPTION = "preemption"  # `by` of the stop of a job that is queued again for a more urgent one
HOUR_S = 3600.0
MOST_REMEMBERED = 100  # preemptions in Record.preempted_lately


class Illegal(ValueError):
    """The event does not apply in this state, or belongs to another execution."""


# state: {event: next state}. None: the state stays. A callable result ("…") is decided by _outcome.
TABLE: dict[State, dict[type[ev.Event], State | None]] = {
    HELD: {
        ev.HoldReleased: QUEUED,
        ev.PauseRequested: None,  # a second hold
        ev.CleanedUp: None,
        ev.PriorityChanged: None,
        ev.CancelRequested: State.CANCELLED,  # nothing runs, so the request is the end
    },
    QUEUED: {
        ev.Placed: STARTING,
        ev.PauseRequested: HELD,  # pausing a waiting job holds it
        ev.CleanedUp: None,  # of the attempt that was lost
        ev.PriorityChanged: None,
        ev.CancelRequested: State.CANCELLED,
    },
    STARTING: {
        ev.Started: RUNNING,
        ev.StartFailed: State.FAILED,  # or again: jobs.retry
        ev.PauseRequested: None,  # remembered; frozen as soon as it runs
        ev.ResumeRequested: None,
        ev.PriorityChanged: None,
        ev.CancelRequested: None,  # remembered; stopped as soon as it runs
        ev.Exited: State.FAILED,  # so short that its end was seen before its start; _outcome decides
        ev.Lost: State.LOST,
    },
    RUNNING: {
        ev.PauseRequested: None,
        ev.ResumeRequested: None,
        ev.Preempted: None,  # frozen, or stopped and queued again, as soon as the node did it
        ev.Frozen: FROZEN,
        ev.FreezeFailed: None,
        ev.Warned: None,
        ev.PriorityChanged: None,
        ev.CancelRequested: None,
        ev.Exited: State.FAILED,  # _outcome decides, or again: jobs.retry
        ev.Lost: State.LOST,
    },
    FROZEN: {
        ev.PauseRequested: None,  # a second hold
        ev.ResumeRequested: None,  # thawed when there is room
        ev.ThawPlaced: THAWING,
        ev.PriorityChanged: None,
        ev.CancelRequested: None,
        ev.Exited: State.FAILED,  # killed while frozen
        ev.Lost: State.LOST,
    },
    THAWING: {
        ev.Thawed: RUNNING,
        ev.Frozen: FROZEN,  # the thaw was overtaken by a crash: the kernel still says frozen
        ev.PauseRequested: None,
        ev.ResumeRequested: None,
        ev.PriorityChanged: None,
        ev.CancelRequested: None,
        ev.Exited: State.FAILED,
        ev.Lost: State.LOST,
    },
    **{final: {ev.CleanedUp: None} for final in sorted(State) if State(final).final},
}
_OF_EXECUTION = (
    ev.Started, ev.StartFailed, ev.Preempted, ev.Frozen, ev.FreezeFailed, ev.ThawPlaced, ev.Thawed, ev.Warned,
    ev.Exited, ev.Lost,
    ev.CleanedUp,
)  # fmt: skip


def advance(record: Record | None, event: ev.Event) -> Record:
    """The record after the event. Raises Illegal; the record given is never changed."""
    if record is None:
        if not isinstance(event, ev.Submitted):
            raise Illegal(f"{event.kind}: no job {event.job}")
        return _submitted(event)
    row = TABLE[record.state]
    if type(event) not in row:
        raise Illegal(f"{event.kind}: job {record.job} is {record.state}")
    if isinstance(event, _OF_EXECUTION) and (event.execution != str(record.execution) or not record.attempt):
        raise Illegal(f"{event.kind}: execution {event.execution} is not the current {record.execution}")
    after = row[type(event)]
    changed = _MEANING[type(event)](record, event)
    state = changed.state if after is None else _outcome(after, event, changed)
    if isinstance(event, ev.Exited | ev.StartFailed) and state.final:
        changed, again = retry.after(changed, event)
        state = _queued(changed) if again else state
    return replace(changed, state=state, version=record.version + 1)


def _outcome(after: State, event: ev.Event, record: Record) -> State:
    """But for a retry."""
    if isinstance(event, ev.Exited):
        if event.cause == "cancelled" and record.cancel is None and record.preempted_by:
            return _queued(record)
        return _BY_CAUSE.get(event.cause) or (State.COMPLETED if event.status == 0 else State.FAILED)
    if isinstance(event, ev.Lost | ev.StartFailed | ev.CancelRequested) and record.cancel:
        return State.TIMED_OUT if record.cancel.by in (TIME_LIMIT, DEADLINE) else State.CANCELLED
    again = isinstance(event, ev.StartFailed) and event.requeue and record.abandoned < MOST_ATTEMPTS
    if again or (isinstance(event, ev.Lost) and record.spec.on_lost == "requeue"):
        return _queued(record)
    return after


_BY_CAUSE = {
    "oom": State.OUT_OF_MEMORY, "time_limit": State.TIMED_OUT, "deadline": State.TIMED_OUT,
    "cancelled": State.CANCELLED,
}  # fmt: skip


def _queued(record: Record) -> State:
    return HELD if record.pause_holds else QUEUED


def _submitted(event: ev.Submitted) -> Record:
    spec = event.spec
    return Record(
        job=event.job,
        version=1,
        state=HELD if event.hold else QUEUED,
        spec=spec,
        owner=event.owner,
        submitted_at=event.at,
        urgency=spec.priority,
        cpu_weight=spec.resources.cpu_weight,
        io_weight=spec.resources.io.weight,
        network_class=str(spec.network.priority_class),
        spec_digest=event.spec_digest,
        request_id=event.request_id,
        pause_holds=frozenset({"owner"}) if event.hold else frozenset(),
        not_before=spec.begin.of(event.at),
    )


def _hold_released(record: Record, event: ev.HoldReleased) -> Record:
    left = record.pause_holds - {event.by} if event.by == "owner" else frozenset()
    if left:
        raise Illegal("an operator holds this job; only an operator can release it")
    return replace(record, pause_holds=left)


def _placed(record: Record, event: ev.Placed) -> Record:
    following = ExecutionId(record.job, 0, record.attempt + 1)
    if event.execution != str(following):
        raise Illegal(f"{event.kind}: execution {event.execution} is not the next one, {following}")
    return replace(record, attempt=following.attempt, placement=event.placement, home=event.placement, cleaned=False,
                   leftovers=(), reason="", weights_version=0, started_at=0.0, ended_at=0.0, ran_s=0.0, freezes=0,
                   exit_status=None, usage=ev.Usage(), preempted_by=0, warned=False)  # fmt: skip


def _started(record: Record, event: ev.Started) -> Record:
    return replace(record, started_at=event.at, running_since=event.at, address=event.address, freezer=event.freezer,
                   carriers=event.carriers, notes=event.notes, abandoned=0)  # fmt: skip


def _start_failed(record: Record, event: ev.StartFailed) -> Record:
    return replace(record, ended_at=event.at, placement=None, home=None, reason=event.message,
                   abandoned=record.abandoned + event.requeue)  # fmt: skip


def _pause(record: Record, event: ev.PauseRequested) -> Record:
    # A second hold that does not keep the CPUs gives back those that the first one kept.
    gives_back = record.state is FROZEN and not event.keep_cpus
    return replace(record, pause_holds=record.pause_holds | {event.by}, keep_cpus=event.keep_cpus, reason="",
                   placement=None if gives_back else record.placement)  # fmt: skip


def _resume(record: Record, event: ev.ResumeRequested) -> Record:
    # An operator lifts every hold, an owner only their own.
    if event.by == "owner" and record.pause_holds == {"operator"}:
        raise Illegal("an operator holds this job; only an operator can resume it")
    left = record.pause_holds - {"owner"} if event.by == "owner" else frozenset[str]()
    return replace(record, pause_holds=left)


def _preempted(record: Record, event: ev.Preempted) -> Record:
    lately = (*(at for at in record.preempted_lately if at > event.at - HOUR_S), event.at)[-MOST_REMEMBERED:]
    stop = record.spec.stop
    cancel = Cancel(PREEMPTION, stop.signal, stop.grace_s) if event.requeue and not record.cancel else record.cancel
    return replace(record, preempted_by=event.by, preempted_lately=lately, cancel=cancel)


def _frozen(record: Record, event: ev.Frozen) -> Record:
    return replace(record, frozen_at=event.at, ran_s=event.ran_s, resident_bytes=event.resident_bytes,
                   running_since=0.0, freezes=record.freezes + (record.state is RUNNING),
                   placement=record.placement if record.keep_cpus and not record.preempted_by else None)  # fmt: skip


def _freeze_failed(record: Record, event: ev.FreezeFailed) -> Record:
    return replace(record, pause_holds=frozenset(), preempted_by=0, reason=event.reason)


def _warned(record: Record, event: ev.Warned) -> Record:
    return replace(record, warned=True)


def _thaw_placed(record: Record, event: ev.ThawPlaced) -> Record:
    return replace(record, placement=event.placement, home=event.placement, preempted_by=0)


def _thawed(record: Record, event: ev.Thawed) -> Record:
    return replace(record, running_since=event.at, frozen_at=0.0, resident_bytes=0)


def _priority(record: Record, event: ev.PriorityChanged) -> Record:
    def new(given: Any, old: Any) -> Any:
        return old if given is None else given

    changed = replace(record, urgency=new(event.urgency, record.urgency),
                      cpu_weight=new(event.cpu_weight, record.cpu_weight),
                      io_weight=new(event.io_weight, record.io_weight),
                      network_class=new(event.network_class, record.network_class))  # fmt: skip
    # Urgency lives in the scheduler; the rest is in the kernel of a job that is on a node and must be written there.
    in_kernel = _weights(changed) != _weights(record) and record.state.on_node
    return replace(changed, weights_version=record.version + 1) if in_kernel else changed


def _weights(record: Record) -> tuple[int, int, str]:
    return record.cpu_weight, record.io_weight, record.network_class


def _cancel(record: Record, event: ev.CancelRequested) -> Record:
    by_itself = {TIME_LIMIT: "the time limit is over", DEADLINE: _past_deadline(record, event.at)}
    reason = by_itself.get(event.by, f"cancelled by {event.by}")
    marked = replace(record, cancel=Cancel(event.by, event.signal, event.grace_s), reason=reason)
    # Nothing is on a node, so nothing will report an end; only an earlier, lost attempt may still be cleaned up.
    if record.state.on_node:
        return marked
    return replace(marked, ended_at=event.at, cleaned=record.cleaned or not record.attempt)


def _past_deadline(record: Record, now: float) -> str:
    if now >= record.deadline_at:
        return "its deadline has passed"
    return f"it could no longer run {render_duration(record.spec.time_limit_s)} and end before its deadline"


def _exited(record: Record, event: ev.Exited) -> Record:
    # A very short job has ended before the daemon, which looks at the clock later than the monitor, called it started.
    ended_at = max(event.at, record.started_at)
    record = _without_preemption(record)
    return replace(record, exit_status=event.status, ran_s=event.ran_s, usage=event.usage, ended_at=ended_at,
                   placement=None, home=None, running_since=0.0, frozen_at=0.0, resident_bytes=0)  # fmt: skip


def _without_preemption(record: Record) -> Record:
    """The stop for another job's sake is done with; a cancel by a person stays."""
    if record.cancel is None or record.cancel.by != PREEMPTION:
        return record
    return replace(record, cancel=None, reason=f"queued again: its CPUs went to job {record.preempted_by}")


def _lost(record: Record, event: ev.Lost) -> Record:
    record = _without_preemption(record)
    return replace(record, ended_at=event.at, placement=None, home=None, running_since=0.0, frozen_at=0.0,
                   resident_bytes=0, reason=event.reason)  # fmt: skip


def _cleaned(record: Record, event: ev.CleanedUp) -> Record:
    return replace(record, cleaned=True, leftovers=event.leftovers)


_MEANING: dict[type[ev.Event], Callable[[Record, Any], Record]] = {
    ev.HoldReleased: _hold_released, ev.Placed: _placed, ev.Started: _started, ev.StartFailed: _start_failed,
    ev.PauseRequested: _pause, ev.ResumeRequested: _resume, ev.Preempted: _preempted,
    ev.Frozen: _frozen, ev.FreezeFailed: _freeze_failed, ev.Warned: _warned,
    ev.ThawPlaced: _thaw_placed, ev.Thawed: _thawed, ev.PriorityChanged: _priority, ev.CancelRequested: _cancel,
    ev.Exited: _exited, ev.Lost: _lost, ev.CleanedUp: _cleaned,
}  # fmt: skip
