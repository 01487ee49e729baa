"""The only appender: one task that takes requests in order, commits what queued up during the last commit, answers.

It owns the journal's expected sequence number; another daemon's append ends everything here with Conflict. A commit is
never cancelled half-way: a cancelled statement still runs and the next one commits it (docs/design/kernel.md).
Policy-free: `states.advance` says what is legal, the ledger of the world what can be given.
"""

from __future__ import annotations

import logging
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel

from jobs.errors import HostError, JobsError, NoSuchJob, Unavailable, UserError, WrongState
from jobs.events import DaemonStarted, Event, Placed, PolicyEvent, Submitted, TaskBegun, TaskMade, ThawPlaced
from jobs.ids import ExecutionId
from jobs.needs import Need
from jobs.placement import Placement
from jobs.plain import encode_usual
from jobs.policy import Policy
from jobs.policy_changes import advance_policy, must_have_queue, must_keep_queues
from jobs.record import Record
from jobs.spec import Depends
from jobs.states import Illegal, advance, task_ended
from scheduler.capacity import Ledger, hold_of
from scheduler.clock import Clock
from scheduler.fairshare import Key, Used, charged, faded
from scheduler.journal.entry import MOST_BYTES, encode_event, encode_submitted
from scheduler.ports import NewJob
from scheduler.resolving import Sibling, resolve
from scheduler.store import Batch, Store
from scheduler.world import World

NONE = Depends()
log = logging.getLogger("jobs.writer")

MOST_IN_BATCH = 500  # requests in one transaction: so many are encoded in about 50 ms
PAUSE_EVERY = 50  # jobs or requests after which the event loop gets a turn
RETRY_S = 1.0  # a node's report that found no space is tried again after this


@dataclass(slots=True, eq=False)
class _Request:
    """One caller waiting. Exactly one of `value` and `error` is set when `done` is."""

    kind: str  # "submit" | "propose" | "begin" | "change" | "report"
    argument: Any
    done: anyio.Event = field(default_factory=anyio.Event)
    value: Any = None
    error: BaseException | None = None

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value, self.error = value, error
        self.done.set()

    async def result(self) -> Any:
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.value


class _Turn:
    """What one batch will change, on top of the committed world. Thrown away when the commit fails."""

    def __init__(self, world: World, store: Store, at: float, next_job: int) -> None:
        self.world, self._store, self.next_job = world, store, next_job
        self.batch = Batch(at)
        self.steps: list[tuple[Event, Record | None, Record | None]] = []  # no records: of no job
        self.policy = world.policy
        self._records: dict[int, Record] = {}
        self._expected: dict[int, Submitted] = {}
        self._named: dict[tuple[int, str], list[int]] = {}  # (uid, name) → jobs submitted in this batch
        self._requests: dict[tuple[int, str], dict[int, int]] = {}
        self._ledger: Ledger | None = None  # a copy, made when the batch places something

    @property
    def _used(self) -> ChainMap[Key, Used]:
        return ChainMap(self.batch.used, self.world.shares.used)

    def change(self, event: PolicyEvent) -> None:
        """Raises Illegal and changes nothing when the event does not apply."""
        after = advance_policy(self.policy, event)
        must_keep_queues(self.policy, after, self._queues_of_jobs())
        self.batch.used.update(faded(self._used, event, self.policy))
        self.batch.texts.append(_checked(encode_event(event), "policy"))
        self.batch.jobs_of.append(event.job)
        self.batch.policy = self.policy = after
        self.steps.append((event, None, None))

    def note(self, event: DaemonStarted) -> None:
        """Evidence that changes nothing. Raises UserError when it does not fit an entry."""
        self.batch.texts.append(_checked(encode_event(event), "description of this host"))
        self.batch.jobs_of.append(event.job)
        self.steps.append((event, None, None))

    def _queues_of_jobs(self) -> Iterator[tuple[int, str]]:
        for job, record in {**self.world.live, **self._records}.items():
            if not record.state.final:
                yield job, record.spec.queue

    def current(self, job: int) -> Record | None:
        return self._records.get(job) or self.world.live.get(job)

    def remember(self, record: Record) -> None:
        self._records.setdefault(record.job, record)

    def apply(self, event: Event, before: Record | None, text: str = "", array: Record | None = None) -> Record:
        """Raises Illegal and changes nothing when the event does not apply or what it gives is not free."""
        after = advance(before, event, array)
        text = text or encode_event(event)
        if isinstance(event, Placed | ThawPlaced):
            self._give(event, after)
        elif self._ledger is not None:
            self._move(after)
        self.batch.texts.append(text)
        self.batch.jobs_of.append(event.job)
        (self.batch.added if before is None or event.job in self.batch.added else self.batch.changed)[event.job] = after
        self.batch.used.update(charged(self._used, event, before, self.policy.half_life_s))
        self.steps.append((event, before, after))
        self._records[event.job] = after
        if after.array and after.state.final and before is not None and not before.state.final:
            self.apply(task_ended(after), self.current(after.array))
        return after

    def begin_task(self, array: Record, index: int, placement: Placement) -> Record:
        """Three events or, raising Illegal, none."""
        at, job = self.batch.at, self.next_job + 1
        made, begun = TaskMade(job, array.job, index, at), TaskBegun(array.job, index, job, at)
        placed = Placed(job, str(ExecutionId(job)), placement, at)
        advance(array, begun)
        if refusal := self._own_ledger().refusal(placement):
            raise Illegal(f"{placed.kind}: {refusal}")
        self.next_job = job
        self.apply(begun, array)
        return self.apply(placed, self.apply(made, None, array=array))

    # ── resolving.Known: with what this batch submits, even where it is not applied yet ─────────────────────────

    def expect(self, event: Submitted) -> None:
        self._named.setdefault((event.owner.uid, event.spec.name), []).append(event.job)
        self._expected[event.job] = event

    async def record(self, job: int) -> Record | None:
        if found := self.current(job):
            return found
        expected = self._expected.get(job)
        return advance(None, expected) if expected is not None else await self._store.record(job)

    async def newest(self, uid: int, name: str) -> Record | None:
        if here := self._named.get((uid, name)):
            return await self.record(here[-1])
        found = await self._store.newest(uid, name)
        return found and (self.current(found.job) or found)

    async def unfinished(self, uid: int, name: str) -> list[int]:
        stored = [job for job in await self._store.unfinished(uid, name) if not self._has_ended(job)]
        return [*stored, *self._named.get((uid, name), ())]

    def _has_ended(self, job: int) -> bool:
        record = self._records.get(job)
        return record is not None and record.state.final

    def _own_ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = self.world.ledger.copy()
            for record in self._records.values():
                self._move(record)
        return self._ledger

    def _give(self, event: Placed | ThawPlaced, after: Record) -> None:
        self._own_ledger()
        assert self._ledger is not None
        held = self._ledger.holds.get(event.job)
        self._ledger.release(event.job)
        if refusal := self._ledger.refusal(event.placement):
            if held is not None:
                self._ledger.charge(event.job, held)
            raise Illegal(f"{event.kind}: {refusal}")
        self._ledger.charge(event.job, hold_of(after))

    def _move(self, record: Record) -> None:
        assert self._ledger is not None
        self._ledger.release(record.job)
        self._ledger.charge(record.job, hold_of(record))

    async def requested(self, store: Store, uid: int, request_id: str) -> dict[int, int]:
        """Ordinal → job, of earlier requests with this id, in the store or in this batch."""
        key = uid, request_id
        if key not in self._requests:
            self._requests[key] = await store.requested(uid, request_id) if request_id else {}
        return self._requests[key]


class Writer:
    """`world` must hold the store's live records. `run` until cancelled; `listen` is told after each commit."""

    def __init__(self, store: Store, world: World, clock: Clock, *, least_job: int = 0) -> None:
        self._store, self._world, self._clock = store, world, clock
        self._queue: deque[_Request] = deque()
        self._arrived = anyio.Event()
        self._last_job, self._least = 0, least_job
        self._listeners: list[Callable[[], None]] = []
        self._stopped: JobsError | None = None

    def listen(self, callback: Callable[[], None]) -> None:
        """`callback` is called after each commit, must not block, and finds the world changed."""
        self._listeners.append(callback)

    # ── ports.Writer ────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        return list(await self._ask(_Request("submit", tuple(jobs))))

    async def propose(self, job: int, make: Callable[[Record], Event | None]) -> Record:
        record: Record = await self._ask(_Request("propose", (job, make)))
        return record

    async def begin_task(self, array: int, index: int, placement: Placement) -> Record:
        record: Record = await self._ask(_Request("begin", (array, index, placement)))
        return record

    async def change(self, make: Callable[[Policy], PolicyEvent | None]) -> Policy:
        policy: Policy = await self._ask(_Request("change", make))
        return policy

    async def report(self, event: Event) -> bool:
        return bool(await self._ask(_Request("report", event)))

    async def _ask(self, request: _Request) -> Any:
        if self._stopped is not None:
            raise self._stopped
        self._queue.append(request)
        self._arrived.set()
        return await request.result()

    # ── the one task ────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Raises Conflict or Unknown; whoever waits or comes later gets the same error."""
        stopped: JobsError = Unavailable("the daemon is stopping", hint="try again when it is back")
        try:
            self._last_job = max(self._least, await self._store.last_job())
            while True:
                await anyio.lowlevel.checkpoint()  # a queue that never empties must not outrun a cancellation
                while not self._queue:
                    self._arrived = anyio.Event()
                    await self._arrived.wait()
                if not await self._turn():
                    with anyio.move_on_after(RETRY_S):  # only reports are left, and there was no space for them
                        self._arrived = anyio.Event()
                        await self._arrived.wait()
        except JobsError as error:
            stopped = error
            raise
        finally:
            self._stopped = stopped
            while self._queue:
                self._queue.popleft().answer(error=stopped)

    async def _turn(self) -> bool:
        """One batch. False when it could not be committed and its reports wait for a better moment."""
        requests = [self._queue.popleft() for _ in range(min(MOST_IN_BATCH, len(self._queue)))]
        committed = False
        with anyio.CancelScope(shield=True):
            try:
                committed = await self._do(requests)
            except BaseException as error:
                for request in requests:
                    if not request.done.is_set():
                        request.answer(error=error if isinstance(error, JobsError) else Unavailable(f"{error!r}"))
                raise
        return committed

    async def _do(self, requests: Sequence[_Request]) -> bool:
        turn = _Turn(self._world, self._store, self._clock.wall(), self._last_job)
        answers: list[tuple[_Request, Any]] = []
        for number, request in enumerate(requests, 1):
            if number % PAUSE_EVERY == 0:
                await anyio.lowlevel.checkpoint()
            try:
                answers.append((request, await self._handle(turn, request)))
            except (JobsError, Illegal) as error:
                request.answer(error=error if isinstance(error, JobsError) else WrongState(str(error)))
            except Exception as error:  # a bug of the caller's `make`: theirs alone
                request.answer(error=error)
        if turn.steps:
            try:
                await self._store.commit(self._store.seq, turn.batch)
            except HostError as error:
                return self._postpone([request for request, _ in answers], error)
            self._last_job = turn.next_job
            for event, before, after in turn.steps:
                if isinstance(event, PolicyEvent):
                    self._world.change_policy(event)
                elif after is not None:
                    self._world.apply(event, before, after)
        for request, value in answers:
            request.answer(value)
        if turn.steps:
            for callback in self._listeners:
                callback()
        return True

    def _postpone(self, requests: Iterable[_Request], error: HostError) -> bool:
        """Nothing was kept. Callers hear it now; a node's reports are facts and stay until they are written."""
        log.error("commit failed: %s", error)
        waiting = [request for request in requests if not request.done.is_set()]
        for request in waiting:
            if request.kind != "report":
                request.answer(error=error)
        self._queue.extendleft(reversed([request for request in waiting if request.kind == "report"]))
        return False

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, turn: _Turn, request: _Request) -> Any:
        match request.kind:
            case "submit":
                return await self._submit(turn, request.argument)
            case "propose":
                job, make = request.argument
                record = await self._find(turn, job)
                event = make(record)
                return record if event is None else turn.apply(event, record)
            case "begin":
                array, index, placement = request.argument
                return turn.begin_task(await self._find(turn, array), index, placement)
            case "change":
                changed = request.argument(turn.policy)
                if changed is not None:
                    turn.change(changed)
                return turn.policy
            case _:
                return await self._report(turn, request.argument)

    async def _submit(self, turn: _Turn, jobs: Sequence[NewJob]) -> list[int]:
        """All of the request or, when one job can't be stored, none."""
        ids: list[int] = []
        new: list[tuple[NewJob, Submitted, str, str, int]] = []
        ordinals: dict[tuple[int, str], int] = {}
        for number, job in enumerate(jobs, 1):
            if number % PAUSE_EVERY == 0:
                await anyio.lowlevel.checkpoint()
            uid, request_id = job.event.owner.uid, job.event.request_id
            ordinal = ordinals.get((uid, request_id), 0)
            ordinals[uid, request_id] = ordinal + 1
            given = (await turn.requested(self._store, uid, request_id)).get(ordinal) if request_id else None
            ids.append(given or turn.next_job + len(new) + 1)
            if given is None:
                must_have_queue(turn.policy, job.event.spec.queue)
                event = replace(job.event, job=ids[-1], needs=await _needs(turn, job, jobs, ids))
                turn.expect(event)
                spec = encode_usual(event.spec)
                new.append((job, event, spec, _checked(encode_submitted(event, spec), "spec of this job"), ordinal))
        for job, event, spec, text, ordinal in new:
            turn.apply(event, None, text)
            turn.batch.spec_texts[event.job] = spec
            uid, request_id = event.owner.uid, event.request_id
            if request_id:
                (await turn.requested(self._store, uid, request_id))[ordinal] = event.job
                turn.batch.requests.append((uid, request_id, ordinal, event.job))
            if event.spec_digest:
                turn.batch.specs[event.spec_digest] = job.toml
        turn.next_job += len(new)
        return ids

    async def _report(self, turn: _Turn, event: Event) -> bool:
        if isinstance(event, DaemonStarted):
            turn.note(event)
            return True
        try:
            turn.apply(event, await self._find(turn, event.job))
        except (Illegal, NoSuchJob) as error:
            log.info("report dropped: %s", error)
            return False
        return True

    async def _find(self, turn: _Turn, job: int) -> Record:
        record = turn.current(job)
        if record is None:
            record = await self._store.record(job)
            if record is None:
                raise NoSuchJob(f"no job {job}", hint="see: jobs list")
            turn.remember(record)
        return record


async def _needs(turn: _Turn, job: NewJob, jobs: Sequence[NewJob], ids: Sequence[int]) -> tuple[Need, ...]:
    if job.event.spec.depends == NONE:
        return ()
    siblings = {name: Sibling(ids[position], jobs[position].event.spec) for name, position in job.siblings}
    return await resolve(job.event.spec, job.event.owner, job.operates, siblings, turn)


def _checked(text: str, what: str) -> str:
    """Raises UserError when the event does not fit an entry of the journal."""
    size, most = len(text.encode()), MOST_BYTES - 256
    if size > most:
        raise UserError(
            f"the {what} is too large: {size} bytes as stored, at most {most}",
            hint="put a long script into a file of the image or of a mount",
        )
    return text
