"""A host without a kernel: takes the loop's verbs, and reports what the test says happened, through a real writer."""

from __future__ import annotations

from jobs import events as ev
from jobs.ids import ExecutionId
from jobs.record import Record
from scheduler.writer import Writer


class FakeNode:
    """`verbs` are what it was told, in order, as (verb, job). With `obeys`, each verb is done at once."""

    def __init__(self) -> None:
        self.verbs: list[tuple[str, int]] = []
        self.records: dict[int, Record] = {}
        self.ran: dict[int, float] = {}
        self.stopped: set[int] = set()
        self.resident: dict[int, int] = {}

    def _told(self, verb: str, record: Record) -> None:
        self.verbs.append((verb, record.job))
        self.records[record.job] = record

    def start(self, record: Record) -> None:
        self._told("start", record)

    def freeze(self, record: Record) -> None:
        self._told("freeze", record)

    def thaw(self, record: Record) -> None:
        self._told("thaw", record)

    def stop(self, record: Record) -> None:
        self._told("stop", record)

    def warn(self, record: Record) -> None:
        self._told("warn", record)

    def reprioritise(self, record: Record) -> None:
        self._told("reprioritise", record)

    def running_s(self, execution: ExecutionId) -> float:
        return self.ran.get(execution.job, 0.0)

    def resident_bytes(self, execution: ExecutionId) -> int | None:
        return self.resident.get(execution.job)

    # ── what the test lets happen ───────────────────────────────────────────────────────────────────────────────

    async def started(self, writer: Writer, job: int) -> bool:
        return await writer.report(ev.Started(job, self._id(job), 0.0, freezer="v2"))

    async def frozen(self, writer: Writer, job: int, resident: int = 1 << 20) -> bool:
        return await writer.report(ev.Frozen(job, self._id(job), 0.001, self.ran.get(job, 0.0), resident, 0.0))

    async def warned(self, writer: Writer, job: int) -> bool:
        return await writer.report(ev.Warned(job, self._id(job), self.records[job].spec.warn.signal, 0.0))

    async def thawed(self, writer: Writer, job: int) -> bool:
        return await writer.report(ev.Thawed(job, self._id(job), 0.001, 0.0))

    async def exited(self, writer: Writer, job: int, status: int = 0, cause: str = "") -> bool:
        usage = ev.Usage(cpu_s=1.5)
        return await writer.report(ev.Exited(job, self._id(job), status, cause, self.ran.get(job, 0.0), usage, 0.0))

    async def cleaned(self, writer: Writer, job: int) -> bool:
        return await writer.report(ev.CleanedUp(job, self._id(job)))

    def _id(self, job: int) -> str:
        return str(self.records[job].execution)
