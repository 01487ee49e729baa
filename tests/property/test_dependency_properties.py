"""Dependencies against a model that looks at all records each time: standing, urgency, and who is to be looked at."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.array import parse_array
from jobs.needs import Need, Outcome
from jobs.record import Record, State
from jobs.states import Illegal, advance, task_ended
from scheduler.dependency import MET, Became, Standing, Waits, became, need_of, needed
from tests.builders import ALICE, a_job, a_placement

KINDS = ("after", "afterok", "afternotok", "afterany", "aftercorr", "singleton")
ARRAY = parse_array("0-3")
CHANGES = ("begin", "end well", "end badly", "cancel", "urgency", "hold", "release", "task good", "task bad")
MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"), st.integers(0, 100), st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 12)),
                                                             max_size=3), st.booleans(),
        ),
        st.tuples(st.sampled_from(CHANGES), st.integers(1, 12), st.integers(0, 100)),
    ),
    max_size=40,
)  # fmt: skip


class Model:
    """All records for ever; `waits` sees each change."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.waits = Waits()
        self.last_job = 0

    def happen(self, event: ev.Event) -> None:
        before = self.records.get(event.job)
        try:
            after = advance(before, event, self.records.get(getattr(event, "array", 0)))
        except Illegal:
            return
        seen = {job: (self.waits.standing(record), self.waits.urgency(record)) for job, record in self.records.items()}
        self.records[event.job] = after
        touched = self.waits.change(before, after, self.became())
        for job, (standing, urgency) in seen.items():
            if job != event.job and job not in touched:
                record = self.records[job]
                assert (self.waits.standing(record), self.waits.urgency(record)) == (standing, urgency), "not told"
        if after.array and after.state.final and not (before and before.state.final):
            self.happen(task_ended(after))

    def became(self) -> dict[int, Became]:
        return {job: became(record) for job, record in self.records.items()}

    def submit(self, urgency: int, wanted: list[tuple[str, int]], is_array: bool) -> None:
        needs = []
        for kind, target in dict.fromkeys(wanted):
            record = self.records.get(target)
            if record is None or record.array or (kind == "aftercorr" and not (is_array and record.progress)):
                continue
            needs.append(need_of(kind, record))
        spec = a_job(priority=urgency, array=ARRAY if is_array else None)
        self.last_job += 1
        self.happen(ev.Submitted(self.last_job, spec, ALICE, 0.0, needs=tuple(needs)))

    def change(self, what: str, job: int, number: int) -> None:
        record = self.records.get(job)
        if record is None:
            return
        execution = str(record.execution)
        end = "end well" if number % 2 else "end badly"
        match what:
            case "begin" if record.progress is None:
                self.happen(ev.Placed(job, f"{job}.0.{record.attempt + 1}", a_placement(0), 0.0))
                self.happen(ev.Started(job, f"{job}.0.{record.attempt + 1}", 1.0))
            case "begin":
                index = number % 4
                self.last_job += 1
                before = record.version
                self.happen(ev.TaskBegun(job, index, self.last_job, 1.0))
                if self.records[job].version != before:
                    self.happen(ev.TaskMade(self.last_job, job, index, 1.0))
            case "task good" | "task bad":
                tasks = [each for each in self.records.values() if each.array == job and not each.state.final]
                for task in tasks[:1]:
                    self.change("begin", task.job, 0)
                    self.change(end, task.job, 0)
            case "end well" | "end badly":
                status = 0 if what == "end well" else 1
                self.happen(ev.Exited(job, execution, status, "", 1.0, ev.Usage(), 2.0))
            case "cancel":
                self.happen(ev.CancelRequested(job, "owner", "TERM", 1.0, 3.0))
            case "urgency":
                self.happen(ev.PriorityChanged(job, urgency=number))
            case "hold":
                self.happen(ev.PauseRequested(job, "owner"))
            case "release":
                self.happen(ev.HoldReleased(job, "owner"))

    # ── what should be ──────────────────────────────────────────────────────────────────────────────────────────

    def waiting(self) -> list[Record]:
        return [
            record for record in self.records.values()
            if record.needs and record.state in (State.HELD, State.QUEUED) and not record.attempt
        ]  # fmt: skip

    def urgency(self, record: Record) -> int:
        behind = [each for each in self.waiting() if any(need.job == record.job for need in each.needs)]
        return max([record.urgency, *map(self.urgency, behind)])

    def standing(self, record: Record) -> tuple[set[tuple[str, int]], bool, set[int] | None, set[int]]:
        """(what is open, whether it can never hold, positions that may start, positions that never may)"""
        still, never = set(), False
        tasks: set[int] | None = None
        lost: set[int] = set()
        for need in record.needs:
            target = self.records[need.job]
            ended, good = target.state.final, target.state is State.COMPLETED
            begun = bool(target.started_at) or target.attempt > 1
            if need.kind == "aftercorr":
                if good:
                    continue
                assert record.progress is not None and target.progress is not None
                pending, done, bad = (_set(runs) for runs in (record.progress.pending, target.progress.good,
                                                              target.progress.bad))  # fmt: skip
                tasks = (pending if tasks is None else tasks) & done
                lost |= pending - done if ended else pending & bad
                continue
            holds = {
                "after": begun or ended, "afterok": ended and good, "afternotok": ended and not good,
            }.get(need.kind, ended)  # fmt: skip
            if not holds:
                never |= ended
                if not ended:
                    still.add((need.kind, need.job))
        return still, never, tasks, lost

    def check(self) -> None:
        waiting = {record.job for record in self.waiting()}
        for record in self.records.values():
            found = self.waits.standing(record)
            if record.job not in waiting:
                assert found == MET
                continue
            still, never, tasks, lost = self.standing(record)
            open_ = {(need.kind, need.job) for need in found.open}
            assert bool(found.never) == never
            assert found.tasks is None if tasks is None else _set(found.tasks or ()) == tasks
            assert _set(found.lost) == lost
            assert open_ == still or (not still and tasks == set() and {kind for kind, _ in open_} <= {"aftercorr"})
            assert found.met == (not still and not never and tasks != set())
            assert self.waits.urgency(record) == self.urgency(record)
        for record in self.records.values():
            assert self.waits.urgency(record) == self.urgency(record)
        assert set(self.waits.waiting) == waiting
        assert set(self.waits.behind) == set(needed(self.records.values()))


def _set(runs: Any) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES)
def test_waits_are_as_a_look_at_all_records_says(moves: list[Any]) -> None:
    model = Model()
    for move in moves:
        if move[0] == "submit":
            model.submit(*move[1:])
        else:
            model.change(*move)
        model.check()
    rebuilt = Waits()
    for record in model.records.values():
        rebuilt.change(None, record, model.became())
    assert rebuilt == model.waits, "a restart knows the same"


def test_outcomes_of_jobs_that_are_gone_are_as_at_submission() -> None:
    need = Need("afterok", 1, "prepare", Outcome.GOOD)
    record = advance(None, ev.Submitted(2, a_job(), ALICE, 0.0, needs=(need,)))
    waits = Waits()
    waits.change(None, record, {})
    assert waits.standing(record).met
    lost = advance(None, ev.Submitted(4, a_job(), ALICE, 0.0, needs=(Need("afterok", 3, "a", Outcome.BAD),)))
    waits.change(None, lost, {})
    assert waits.standing(lost) == Standing(never="job 3 (a) has ended; it waited for its success")
