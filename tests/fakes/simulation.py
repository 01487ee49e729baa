"""A whole life without shell: records, world and rounds, driven by a test. Illegal moves change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jobs import events as ev
from jobs.events import Owner
from jobs.placement import Placement
from jobs.policy import Policy
from jobs.record import Record, State
from jobs.spec import JobSpec
from jobs.states import Illegal, advance, cause_of, task_ended
from scheduler.actions import GiveUp, Overdue, Place, Preempt, ThawPlace, TimeUp, Warn
from scheduler.capacity import Capacity
from scheduler.decide import decide
from scheduler.decision import Decision
from scheduler.dependency import need_of
from scheduler.world import World
from tests.builders import ALICE


class Simulation:
    """`now` moves by `tick`; the node reports what the test asks for."""

    def __init__(self, capacity: Capacity, policy: Policy | None = None, *, now: float = 1000.0) -> None:
        self.capacity = capacity
        self.now = now
        self.world = World.of(capacity, policy=policy, now=self.now)
        self.records: dict[int, Record] = {}
        self.history: list[ev.Event] = []
        self.ran: dict[int, float] = {}
        self.resident: dict[int, int] = {}  # what `settle` reports of a job that is frozen; else half of its memory

    def happen(self, event: ev.Event) -> bool:
        before = self.records.get(event.job)
        try:
            after = advance(before, event, self.records.get(event.array) if isinstance(event, ev.TaskMade) else None)
        except Illegal:
            return False
        self.world.apply(event, before, after)
        if isinstance(event, ev.Placed):
            self.ran.pop(event.job, None)  # an attempt has its own clock
        self.records[event.job] = after
        self.history.append(event)
        if after.array and after.state.final and before is not None and not before.state.final:
            assert self.happen(task_ended(after))
        return True

    def submit(
        self, spec: JobSpec, *, hold: bool = False, owner: Owner = ALICE, needs: Iterable[tuple[str, int]] = ()
    ) -> int:
        """`needs`: (kind, job)."""
        job = len(self.records) + 1
        found = tuple(need_of(kind, self.records[other]) for kind, other in dict.fromkeys(needs))
        self.happen(ev.Submitted(job, spec, owner, self.now, hold=hold, needs=found))
        return job

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for job, record in self.records.items():
            if record.state is State.RUNNING:
                self.ran[job] = self.ran.get(job, 0.0) + seconds

    def decide(self) -> Decision:
        self.world.tick(self.now)
        return decide(self.world, self.now, self.ran)

    def round(self) -> Decision:
        """Decides, and commits what is to be committed."""
        decision = self.decide()
        for action in decision.actions:
            record = self.records[action.job]
            if isinstance(action, Place) and action.index is not None:
                self.begin_task(record.job, action.index, action.placement)
                continue
            if record.version != action.version:
                continue
            match action:
                case GiveUp() if action.tasks:
                    assert self.happen(ev.TasksDropped(record.job, action.tasks, action.reason, self.now))
                case GiveUp():
                    cancel = ev.CancelRequested(record.job, "dependency", "TERM", 0.0, self.now, action.reason)
                    assert self.happen(cancel)
                case Place():
                    execution = f"{record.job}.0.{record.attempt + 1}"
                    assert self.happen(ev.Placed(record.job, execution, action.placement, self.now))
                case ThawPlace():
                    assert self.happen(ev.ThawPlaced(record.job, str(record.execution), action.placement, self.now))
                case Preempt(by=by, resident_bytes=resident, requeue=requeue):
                    execution = str(record.execution)
                    assert self.happen(ev.Preempted(record.job, execution, by, resident, self.now, requeue))
                case Overdue():
                    assert self.happen(ev.CancelRequested(record.job, "deadline", "TERM", 1.0, self.now))
                case Warn():
                    assert self.happen(ev.Warned(record.job, str(record.execution), "USR1", self.now))
                case TimeUp():
                    assert self.happen(ev.CancelRequested(record.job, "time_limit", "TERM", 1.0, self.now))
        return decision

    def begin_task(self, array: int, index: int, placement: Placement) -> int:
        job = len(self.records) + 1
        assert self.happen(ev.TaskBegun(array, index, job, self.now))
        assert self.happen(ev.TaskMade(job, array, index, self.now))
        assert self.happen(ev.Placed(job, f"{job}.0.1", placement, self.now))
        return job

    # ── the node ────────────────────────────────────────────────────────────────────────────────────────────────

    def report(self, job: int, what: str, *, resident: int = 0, status: int = 0, cause: str = "") -> bool:
        """Of a job that exists; False when it does not apply now."""
        record = self.records[job]
        execution, now = str(record.execution), self.now
        cause = cause_of(record.cancel) if record.cancel is not None else cause
        made: dict[str, Callable[[], ev.Event]] = {
            "started": lambda: ev.Started(job, execution, now, freezer="v2"),
            "start_failed": lambda: ev.StartFailed(job, execution, "overlay", 28, "/x", "no space", now),
            "frozen": lambda: ev.Frozen(job, execution, 0.001, self.ran.get(job, 0.0), resident, now),
            "freeze_failed": lambda: ev.FreezeFailed(job, execution, "deadline", 5.0, now),
            "thawed": lambda: ev.Thawed(job, execution, 0.001, now),
            "exited": lambda: ev.Exited(job, execution, status, cause, self.ran.get(job, 0.0), ev.Usage(), now),
            "lost": lambda: ev.Lost(job, execution, "test", now),
            "cleaned": lambda: ev.CleanedUp(job, execution),
        }
        return self.happen(made[what]())

    def settle(self, *, exits: bool = False) -> None:
        """The node does all that the records ask for; with `exits` every running job ends."""
        for job, record in list(self.records.items()):
            match record.state:
                case State.STARTING:
                    self.report(job, "started")
                case State.THAWING:
                    self.report(job, "thawed")
                case State.RUNNING if record.cancel is not None or exits:
                    self.report(job, "exited")
                case State.RUNNING if record.to_freeze:
                    half = record.spec.resources.memory_bytes // 2
                    self.report(job, "frozen", resident=self.resident.get(job, half))
            after = self.records[job]
            if after.attempt and not after.state.on_node and not after.cleaned:  # ended, or queued again
                self.report(job, "cleaned")
