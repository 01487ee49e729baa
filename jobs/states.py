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
from jobs.array import Progress
from jobs.ids import ExecutionId
from jobs.record import Cancel, Record, State
from jobs.runs import count, runs_of
from jobs.units import render_duration

HELD, QUEUED, STARTING, RUNNING, FROZEN, THAWING, UNDERWAY = (
    State.HELD, State.QUEUED, State.STARTING, State.RUNNING, State.FROZEN, State.THAWING, State.UNDERWAY,
)  # fmt: skip


MOST_ATTEMPTS = 5  # of starting, when launcher or daemon died in the middle of it
TIME_LIMIT, DEADLINE = "time_limit", "deadline"  # `by` of the cancels that the scheduler itself proposes
PREEMPTION = "preemption"  # `by` of the stop of a job that is queued again for a more urgent one
HOUR_S = 3600.0
CANCELLED_STATUS, LOST_STATUS = 130, 3  # of a task without an exit status, as `jobs wait` has them
MOST_REMEMBERED = 100  # preemptions in Record.preempted_lately


class Illegal(ValueError):
    """The event does not apply in this state, or belongs to another execution."""


# state: {event: next state}. None: the state stays. A callable result ("…") is decided by _outcome.
TABLE: dict[State, dict[type[ev.Event], State | None]] = {
    HELD: {
        ev.TaskEnded: None,
        ev.TasksDropped: None,
        ev.HoldReleased: QUEUED,
        ev.PauseRequested: None,  # a second hold
        ev.CleanedUp: None,
        ev.PriorityChanged: None,
        ev.CancelRequested: State.CANCELLED,  # nothing runs, so the request is the end
    },
    QUEUED: {
        ev.TaskBegun: UNDERWAY,  # when it was the last that waited
        ev.TaskEnded: None,
        ev.TasksDropped: None,
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
    UNDERWAY: {
        ev.TaskEnded: State.COMPLETED,  # when it was the last; _outcome decides
        ev.PriorityChanged: None,
        ev.CancelRequested: None,  # its tasks are told one by one
    },
    **{final: {ev.CleanedUp: None} for final in sorted(State) if State(final).final},
}
_OF_EXECUTION = (
    ev.Started, ev.StartFailed, ev.Preempted, ev.Frozen, ev.FreezeFailed, ev.ThawPlaced, ev.Thawed, ev.Warned,
    ev.Exited, ev.Lost,
    ev.CleanedUp,
)  # fmt: skip


def advance(record: Record | None, event: ev.Event, array: Record | None = None) -> Record:
    """The record after the event. Raises Illegal; the records given are never changed. `array`: of a TaskMade."""
    if record is None:
        if isinstance(event, ev.TaskMade):
            return _task_made(event, array)
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
    state = _next(changed, after, event)
    if isinstance(event, ev.Exited | ev.StartFailed) and state.final:
        changed, again = retry.after(changed, event)
        state = _queued(changed) if again else state
    return replace(changed, state=state, version=record.version + 1)


def _next(record: Record, after: State | None, event: ev.Event) -> State:
    if record.progress is not None and not record.state.final:
        return _of_array(record, record.progress)
    return record.state if after is None else _outcome(after, event, record)


def _of_array(record: Record, progress: Progress) -> State:
    """Of what became of its tasks; an array has no execution of its own."""
    if progress.pending:
        return HELD if record.pause_holds else QUEUED
    if progress.live:
        return UNDERWAY
    if record.cancel is not None:
        return State.TIMED_OUT if record.cancel.by == DEADLINE else State.CANCELLED
    return State.FAILED if progress.bad else State.COMPLETED


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


def cause_of(cancel: Cancel) -> str:
    """The `cause` in the Exited event of a job that was stopped so."""
    return cancel.by if cancel.by in (TIME_LIMIT, DEADLINE) else "cancelled"


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
        needs=event.needs,
        progress=Progress.of(spec.array) if spec.array is not None else None,
    )


def _task_made(event: ev.TaskMade, array: Record | None) -> Record:
    if array is None or array.job != event.array or array.progress is None:
        raise Illegal(f"{event.kind}: job {event.array} is no array")
    return Record(
        job=event.job,
        version=1,
        state=QUEUED,
        spec=array.spec,
        owner=array.owner,
        submitted_at=array.submitted_at,
        urgency=array.urgency,
        cpu_weight=array.cpu_weight,
        io_weight=array.io_weight,
        network_class=array.network_class,
        spec_digest=array.spec_digest,
        array=event.array,
        index=event.index,
    )


def task_ended(task: Record) -> ev.TaskEnded:
    """What the array is told of a task that has ended."""
    status = task.exit_status
    if status is None:
        status = CANCELLED_STATUS if task.state is State.CANCELLED else LOST_STATUS
    return ev.TaskEnded(task.array, task.index, task.job, task.state is State.COMPLETED, status, task.ended_at)


def _progress(record: Record) -> Progress:
    if record.progress is None:
        raise Illegal(f"job {record.job} is no array")
    return record.progress


def _position(record: Record, index: int) -> int:
    position = record.spec.array.position(index) if record.spec.array is not None else None
    if position is None:
        raise Illegal(f"job {record.job} has no task {index}")
    return position


def _task_begun(record: Record, event: ev.TaskBegun) -> Record:
    progress, position = _progress(record), _position(record, event.index)
    try:
        after = progress.begin(position)
    except ValueError:
        raise Illegal(f"{event.kind}: task {record.job}_{event.index} is not pending") from None
    return replace(record, progress=after, started_at=record.started_at or event.at)


def _task_ended(record: Record, event: ev.TaskEnded) -> Record:
    progress, position = _progress(record), _position(record, event.index)
    try:
        after = progress.end(position, good=event.good, status=event.status)
    except ValueError:
        raise Illegal(f"{event.kind}: task {record.job}_{event.index} does not live") from None
    return _array_ended(replace(record, progress=after), event.at)


def _tasks_dropped(record: Record, event: ev.TasksDropped) -> Record:
    progress, positions = _progress(record), runs_of(_position(record, index) for index in event.indexes)
    try:
        after = progress.drop(positions)
    except ValueError:
        raise Illegal(f"{event.kind}: not all of these tasks of job {record.job} are pending") from None
    return _array_ended(replace(record, progress=after, reason=event.reason), event.at)


def _array_ended(record: Record, at: float) -> Record:
    """Fields of an array whose last task has ended; unchanged while it has not."""
    progress = record.progress
    if progress is None or not progress.ended:
        return record
    bad = count(progress.bad)
    reason = f"{bad} of {progress.size} tasks did not complete"
    if record.reason and bad:
        reason = f"{reason}; {record.reason}"
    status = progress.status if progress.status or not bad else None
    return replace(record, ended_at=at, cleaned=True, exit_status=status, reason=reason if bad else record.reason)


def _hold_released(record: Record, event: ev.HoldReleased) -> Record:
    left = record.pause_holds - {event.by} if event.by == "owner" else frozenset()
    if left:
        raise Illegal("an operator holds this job; only an operator can release it")
    return replace(record, pause_holds=left)


def _placed(record: Record, event: ev.Placed) -> Record:
    if record.progress is not None:
        raise Illegal(f"{event.kind}: job {record.job} is an array; its tasks are placed")
    following = ExecutionId(record.job, 0, record.attempt + 1)
    if event.execution != str(following):
        raise Illegal(f"{event.kind}: execution {event.execution} is not the next one, {following}")
    return replace(record, attempt=following.attempt, placement=event.placement, home=event.placement, cleaned=False,
                   variant=event.placement.variant,
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
    return replace(record, preempted_by=event.by, preempted_lately=lately, cancel=cancel,
                   resident_bytes=event.resident_bytes)  # fmt: skip


def _frozen(record: Record, event: ev.Frozen) -> Record:
    return replace(record, frozen_at=event.at, ran_s=event.ran_s, resident_bytes=event.resident_bytes,
                   running_since=0.0, freezes=record.freezes + (record.state is RUNNING),
                   placement=record.placement if record.keep_cpus and not record.preempted_by else None)  # fmt: skip


def _freeze_failed(record: Record, event: ev.FreezeFailed) -> Record:
    return replace(record, pause_holds=frozenset(), preempted_by=0, resident_bytes=0, reason=event.reason)


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
    reason = by_itself.get(event.by, event.reason or f"cancelled by {event.by}")
    marked = replace(record, cancel=Cancel(event.by, event.signal, event.grace_s), reason=reason)
    if marked.progress is not None:
        return _array_ended(replace(marked, progress=marked.progress.drop(marked.progress.pending)), event.at)
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
    ev.TaskBegun: _task_begun, ev.TaskEnded: _task_ended, ev.TasksDropped: _tasks_dropped,
    ev.HoldReleased: _hold_released, ev.Placed: _placed, ev.Started: _started, ev.StartFailed: _start_failed,
    ev.PauseRequested: _pause, ev.ResumeRequested: _resume, ev.Preempted: _preempted,
    ev.Frozen: _frozen, ev.FreezeFailed: _freeze_failed, ev.Warned: _warned,
    ev.ThawPlaced: _thaw_placed, ev.Thawed: _thawed, ev.PriorityChanged: _priority, ev.CancelRequested: _cancel,
    ev.Exited: _exited, ev.Lost: _lost, ev.CleanedUp: _cleaned,
}  # fmt: skip
