"""What to believe after a restart: the journal's records against what the kernel and the spool show. Pure.

Run once, before the loop. The events go through the writer like any report; then the node does the steps, in order.
Nothing is believed from a launcher's memory: marker, exit record, monitor, processes and boot id tell everything.

    monitor lives              → adopt it; the record is corrected where a crash came between deed and event
    exit record                → it ended while nobody looked: Exited, or StartFailed at its step
    no marker, was starting    → its program never ran: the loop starts the same execution again
    marker, nothing else       → Lost: what became of it is not known
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobs import events as ev
from jobs.errors import StepFailed
from jobs.record import Record, State
from jobs.states import cause_of


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit record. `step` is "" unless the start failed."""

    status: int
    ended_at: float
    step: str = ""
    errno: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there of one execution. The defaults say: nothing."""

    marker: bool = False  # the launcher began to start it
    begun: bool = True  # its marker names a monitor; without one *go* cannot have been given
    went: bool = False  # the marker says that execve succeeded
    same_boot: bool = True  # the marker's boot id is today's
    stopped: bool = False  # its monitor was told that all processes are ended
    monitor: bool = False  # its monitor lives
    exit: Ended | None = None
    populated: bool = False  # processes in job/run
    frozen: bool = False  # the kernel's word
    groups: bool = False  # it has cgroups
    resident_bytes: int = 0
    usage: ev.Usage = field(default_factory=ev.Usage)


@dataclass(frozen=True, slots=True)
class Step:
    """For the node. `execution` may belong to no record (a stray)."""

    execution: str


class Adopt(Step):
    """Watch it as if this daemon had started it."""


class Abandon(Step):
    """Its container waits for a go that nobody will give: end it; then adopt, which reports how that went."""


class Kill(Step):
    """Processes without a monitor: nobody would record their end."""


class CleanUp(Step):
    """Groups, mounts, leases, folders; then CleanedUp is reported."""


class Reset(Step):
    """The half-made groups of a start that never began. To be awaited: the loop starts the same execution again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    events: tuple[ev.Event, ...] = ()
    steps: tuple[Step, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.events + other.events, self.steps + other.steps)


NOTHING = Observed()
STOPPED = "all jobs on this host were ended (jobs-cgroup.service was stopped, or the host was going down)"


def reconcile(records: Iterable[Record], observed: Mapping[str, Observed], now: float) -> Outcome:
    """`records`: not final or not cleaned up; `observed` by execution id; `now` is wall time."""
    outcome, known = Outcome(), set()
    for record in sorted(records, key=lambda record: record.job):
        if record.attempt:
            execution = str(record.execution)
            known.add(execution)
            outcome += _of_record(record, observed.get(execution, NOTHING), now)
    for execution in sorted(set(observed) - known):
        outcome += Outcome(steps=_remove(execution, observed[execution]))
    return outcome


def _of_record(record: Record, seen: Observed, now: float) -> Outcome:
    execution = str(record.execution)
    if not record.state.on_node:  # ended, or back in the queue: only what is left of it matters
        return Outcome(steps=() if record.cleaned else _remove(execution, seen))
    if seen.monitor:
        return _alive(record, seen, now)
    if seen.exit is not None:
        return Outcome((_ended(record, seen, seen.exit),), _remove(execution, seen))
    if record.state is State.STARTING and not seen.marker:
        return Outcome(steps=(Reset(execution),) if seen.groups else ())
    if record.state is State.STARTING and not seen.begun:
        return Outcome((_never_ran(record, now),), _remove(execution, seen))
    return Outcome((ev.Lost(record.job, execution, _why_lost(seen), now),), _remove(execution, seen))


def _alive(record: Record, seen: Observed, now: float) -> Outcome:
    job, execution = record.job, str(record.execution)
    adopt = (Adopt(execution),)
    match record.state:
        case State.STARTING if not seen.went and seen.exit is None:
            return Outcome(steps=(Abandon(execution), *adopt))
        case State.STARTING if seen.went:
            return Outcome((ev.Started(job, execution, now),), adopt)
        case State.RUNNING if seen.frozen:  # killed between the freeze and its event
            return Outcome((ev.Frozen(job, execution, 0.0, _ran_s(record, now), seen.resident_bytes, now),), adopt)
        case State.THAWING if not seen.frozen:  # killed between the thaw and its event
            return Outcome((ev.Thawed(job, execution, 0.0, now),), adopt)
    return Outcome(steps=adopt)


def _ended(record: Record, seen: Observed, exit: Ended) -> ev.Event:
    job, execution = record.job, str(record.execution)
    if exit.step and record.state is State.STARTING:
        message = StepFailed(exit.step, exit.errno, exit.path).message
        again = exit.step == ev.ABANDONED
        return ev.StartFailed(job, execution, exit.step, exit.errno, exit.path, message, exit.ended_at, requeue=again)
    ran_s = _ran_s(record, exit.ended_at)
    return ev.Exited(job, execution, exit.status, _cause(record, seen, exit), ran_s, seen.usage, exit.ended_at)


def _cause(record: Record, seen: Observed, exit: Ended) -> str:
    if record.cancel is not None:
        return cause_of(record.cancel)
    return "oom" if seen.usage.oom_kills and exit.status else ""


def _ran_s(record: Record, until: float) -> float:
    """The node's count up to its last report; since then only the wall clock was there."""
    since = until - record.running_since if record.running_since else 0.0
    return record.ran_s + max(0.0, since)


def _never_ran(record: Record, now: float) -> ev.StartFailed:
    """Certain, so it is tried again as a new attempt."""
    reason = "the launcher died at the beginning of the start; the program did not run"
    return ev.StartFailed(record.job, str(record.execution), ev.ABANDONED, 0, "", reason, now, requeue=True)


def _why_lost(seen: Observed) -> str:
    if not seen.marker:
        return "its spool folder is gone"
    if not seen.same_boot:
        return "the host was restarted while it ran"
    if seen.stopped:
        return STOPPED
    if seen.populated:
        return "its monitor was killed; what still ran of it was killed too, because nobody would have seen its end"
    return "it was being started or ran, and left neither processes nor an exit record"


def _remove(execution: str, seen: Observed) -> tuple[Step, ...]:
    return (*((Kill(execution),) if seen.populated else ()), CleanUp(execution))
