"""The shell around `decide`: wakes on commits and on deadlines, proposes what was decided, tells the node. No policy.

After a round comes a gap of REST times what deciding took, at most GAP_S from its beginning: long rounds are coalesced,
short ones delay nobody (docs/design/round-gap.md). Commit first, then act: a placement is in the journal before the
node hears of it. What the node was told is remembered per record, so that a round repeats nothing; after a restart
everything is told again, and every verb is safe to repeat.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set

import anyio

from jobs.errors import HostError, NoSuchJob, WrongState
from jobs.events import CancelRequested, Event, Placed, Preempted, TasksDropped, ThawPlaced
from jobs.ids import ExecutionId
from jobs.record import Record, State
from jobs.states import DEADLINE, TIME_LIMIT
from jobs.verdict import Verdict
from scheduler.actions import (
    Action,
    Freeze,
    GiveUp,
    Overdue,
    Place,
    Preempt,
    Reprioritise,
    Start,
    Stop,
    Thaw,
    ThawPlace,
    TimeUp,
    Warn,
)  # fmt: skip
from scheduler.clock import Clock
from scheduler.decide import clock_points, decide
from scheduler.decision import Decision
from scheduler.ports import Node, Writer
from scheduler.world import World

log = logging.getLogger("jobs.loop")

GAP_S = 0.020  # most, from the beginning of a round: the API keeps a p99 of 11 ms beside long rounds (measured)
REST = 9.0  # deciding takes at most a tenth of the time
RETRY_S = 1.0  # after a round whose commits were refused, for example on a full disk
MOST_WAIT_S = 60.0  # for a time of the wall clock, which may be set meanwhile


class Loop:
    """`await run()` until cancelled. `decision` is the last round's; `phase`: "round", "rest" or "gap"."""

    def __init__(self, world: World, writer: Writer, node: Node, clock: Clock) -> None:
        self._world, self._writer, self._node, self._clock = world, writer, node, clock
        self._wake = anyio.Event()
        self._told: dict[int, dict[str, object]] = {}  # job → verb → what it was told about
        self.decision = Decision()
        self.rounds = 0
        self.phase = "rest"
        self._took_s = 0.0  # the last round's deciding, without its commits
        self._due: dict[int, float] = {}  # running job with a limit → not before this (monotonic) is it reached

    def wake(self) -> None:
        """Something changed. Cheap; any number of calls before the next round are one."""
        self._wake.set()

    def verdict(self, job: int) -> Verdict | None:
        """Why the job does not run now; None when it does not wait for resources."""
        record = self._world.live.get(job)
        return self.decision.verdict(record) if record is not None else None

    async def run(self) -> None:
        while True:
            self._wake = anyio.Event()
            began = self._clock.monotonic()
            self.phase = "round"
            refused = not await self.round()
            await self._wait(began, retry=refused)
            self.phase = "gap"
            await self._clock.sleep_until(began + min(GAP_S, self._took_s * (1 + REST)))

    async def round(self) -> bool:
        """One round, with all its consequences committed or told. False when a commit was refused by the host."""
        self.rounds += 1
        began = self._clock.monotonic()
        now = self._clock.wall()
        self._world.tick(now)
        self.decision = decide(self._world, now, self._seen())
        self._took_s = self._clock.monotonic() - began
        refused: list[HostError] = []
        async with anyio.create_task_group() as tasks:  # together, so that the writer commits them as one batch
            for action in self.decision.actions:
                if isinstance(action, Place | ThawPlace | TimeUp | Overdue | GiveUp | Preempt):
                    tasks.start_soon(self._propose, action, refused)
        for action in self.decision.actions:
            self._tell(action)
        self._forget()
        if refused:
            log.error("round %d: %d commits refused: %s", self.rounds, len(refused), refused[0])
        return not refused

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _wait(self, began: float, *, retry: bool) -> None:
        """Until something changed, a time limit is reached, or a refused commit is worth another try."""
        self.phase = "rest"
        until = began + RETRY_S if retry else self._next_time()
        if retry:
            self._wake = anyio.Event()
        async with anyio.create_task_group() as tasks:
            if until is not None:
                tasks.start_soon(self._wake_at, until)
            await self._wake.wait()
            tasks.cancel_scope.cancel()

    async def _wake_at(self, deadline: float) -> None:
        await self._clock.sleep_until(deadline)
        self._wake.set()

    def _next_time(self) -> float | None:
        """When time alone makes a round worth while: a limit is reached, or the world changes. Monotonic."""
        limited, now = self._world.limited, self._clock.monotonic()
        self._look(limited.keys() - self._due.keys(), now, decided=False)
        times = [min(self._due.values())] if self._due else []
        if (change := self._world.next_change()) is not None:
            left_s = min(MOST_WAIT_S, max(0.0, change - self._clock.wall()))
            times.append(now + left_s)
        return min(times, default=None)

    def _seen(self) -> Mapping[int, float]:
        """Running time, as the node counts it, of the jobs whose limit may be reached. The node is asked when a job
        begins to run and when its limit could be reached: one frozen in between has more time left, never less."""
        limited, now = self._world.limited, self._clock.monotonic()
        for job in self._due.keys() - limited.keys():
            del self._due[job]
        new = limited.keys() - self._due.keys()
        return self._look(new | {job for job, due in self._due.items() if due <= now}, now, decided=True)

    def _look(self, jobs: Set[int], now: float, *, decided: bool) -> Mapping[int, float]:
        """`decided`: a round acts on what is due by now, so the next is what lies ahead; else it is due at once."""
        limited = self._world.limited
        seen = {job: self._node.running_s(limited[job].execution) for job in sorted(jobs)}
        for job, ran_s in seen.items():
            ahead = [at - ran_s for at in clock_points(limited[job]) if at > ran_s or not decided]
            self._due[job] = now + max(0.0, min(ahead, default=0.0))
        return seen

    # ── doing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _propose(self, action: Action, refused: list[HostError]) -> None:
        """A stale action, one whose record has changed since the decision, is dropped."""

        def make(record: Record) -> Event | None:
            return self._event(action, record) if record.version == action.version else None

        try:
            if isinstance(action, Place) and action.index is not None:
                task = await self._writer.begin_task(action.job, action.index, action.placement)
                self._tell(Start(task.job, task.version))
            else:
                await self._writer.propose(action.job, make)
        except HostError as error:
            refused.append(error)
        except (WrongState, NoSuchJob) as error:
            log.warning("decision dropped: %s", error)

    def _event(self, action: Action, record: Record) -> Event:
        now = self._clock.wall()
        match action:
            case Place():
                execution = ExecutionId(record.job, 0, record.attempt + 1)
                return Placed(record.job, str(execution), action.placement, now)
            case ThawPlace():
                return ThawPlaced(record.job, str(record.execution), action.placement, now)
            case GiveUp() if action.tasks:
                return TasksDropped(record.job, action.tasks, action.reason, now)
            case GiveUp():
                return CancelRequested(record.job, "dependency", record.spec.stop.signal, 0.0, now, action.reason)
            case Preempt(by=by, resident_bytes=resident, requeue=requeue):
                return Preempted(record.job, str(record.execution), by, resident, now, requeue)
            case _:
                stop, whose = record.spec.stop, DEADLINE if isinstance(action, Overdue) else TIME_LIMIT
                return CancelRequested(record.job, whose, stop.signal, stop.grace_s, now)

    def _tell(self, action: Action) -> None:
        """The node's verb for what the record says now: it may have changed while the proposals were committed."""
        record = self._world.active.get(action.job)
        if record is None:
            return
        wish = _wish(action, record)
        if wish is None:
            return
        verb, about = wish
        told = self._told.setdefault(record.job, {})
        if told.get(verb) == about:
            return
        told[verb] = about
        verbs: Mapping[str, Callable[[Record], None]] = {
            "start": self._node.start, "freeze": self._node.freeze, "thaw": self._node.thaw, "stop": self._node.stop,
            "warn": self._node.warn, "reprioritise": self._node.reprioritise,
        }  # fmt: skip
        verbs[verb](record)

    def _forget(self) -> None:
        for job in [job for job in self._told if job not in self._world.active]:
            del self._told[job]


def _wish(action: Action, record: Record) -> tuple[str, object] | None:
    """The verb for an action on a record, and what makes it new: told again only when that changes. Pure."""
    match action, record.state:
        case ((Place() | Start()), State.STARTING):
            return "start", record.attempt
        case ((ThawPlace() | Thaw()), State.THAWING):
            return "thaw", record.version
        case ((Freeze() | Preempt()), State.RUNNING) if record.to_freeze and record.cancel is None:
            return "freeze", record.version
        case Warn(), State.RUNNING if not record.warned and record.cancel is None:
            return "warn", record.attempt
        case ((Stop() | TimeUp() | Overdue() | Preempt()), _) if record.cancel is not None:
            return "stop", (record.attempt, record.placement is None, record.cancel)  # once: a signal is not repeated
        case Reprioritise(), _:
            return "reprioritise", (record.attempt, record.weights_version)
    return None
