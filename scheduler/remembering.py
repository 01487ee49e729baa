"""Answers about the past: reads the journal on a connection of its own, in a thread, one question at a time.

What is read is bounded; a question that needs more is refused with the sizes. Nothing is changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from jobs.errors import UserError
from jobs.events import DaemonStarted, Event
from jobs.record import Record
from jobs.units import render_size
from scheduler.blame import MOST_ASKED, Blame, Blaming
from scheduler.clock import Clock
from scheduler.explain import Answer, Explanation, answer, best, cheapest
from scheduler.journal.history import History
from scheduler.past import Past

MOST_BYTES = 64 << 20  # of the journal, that are replayed for one question: about 12 s of a CPU (measured)
MARGIN_S = 60.0  # an end may be written later than it was

T = TypeVar("T")


class Remembering:
    def __init__(self, history: History, clock: Clock) -> None:
        self._history, self._clock = history, clock
        self._one = CapacityLimiter(1)

    async def why(self, record: Record, at: float) -> Answer:
        """As it was at that time. Raises UserError when that is not known, HostError."""
        if at > self._clock.wall():
            raise UserError(f"{stamp(at)} is in the future", hint="--at asks about the past; without it: now")
        if at < record.submitted_at:
            raise UserError(
                f"job {record.job} was submitted at {stamp(record.submitted_at)}, after {stamp(at)}",
                hint="ask about a later time",
            )
        return await self._ask(lambda: self._why(record, at))

    def _why(self, record: Record, at: float) -> Answer:
        past = Past()
        for when, events in self._entries(until=at):
            past.happen(when, events)
        then, notes = past.record(record.job), (past.note,) if past.note else ()
        if then is None and not past.ended(record.job):
            then = past.record(record.array)  # a task that had not begun: its array waited
        if then is None:
            return Answer(at, record, Explanation(None), notes=notes)
        if (world := past.open(at)) is None:
            raise not_known(at)
        found = answer(world, then, at)
        changes = [each for each in cheapest(world, then, found.explanation, at) if each is not None]
        return Answer(
            at, then, found.explanation, tuple(best(changes)), found.blockers, found.ends, (*found.notes, *notes)
        )

    async def blame(self, record: Record) -> Blame:
        """Raises UserError when the journal is too long, HostError."""
        return await self._ask(lambda: self._blame(record))

    def _blame(self, record: Record) -> Blame:
        until = record.ended_at if record.state.final else self._clock.wall()
        past, own = Past(), {record.job, record.array or record.job}
        every = max(1, -(-self._history.span(min(own)) // MOST_ASKED))
        blaming = Blaming(past, record.job, record.array, every, _since=record.submitted_at)
        for at, events in self._entries(until=until + MARGIN_S):
            blaming.until(at)
            past.happen(at, events)
            started = any(isinstance(event, DaemonStarted) for event in events)
            blaming.entry(at, own=any(event.job in own for event in events), restarted=started)
            if blaming.ended:
                break
        blaming.finish(until)
        parts = blaming.parts()
        return Blame(record, until, sum(part.seconds for part in parts), parts, notes=tuple(_notes(blaming)))

    async def _ask(self, question: Callable[[], T]) -> T:
        return await run_sync(question, limiter=self._one, abandon_on_cancel=True)

    # ── in the thread ───────────────────────────────────────────────────────────────────────────────────────────

    def _entries(self, until: float) -> Iterator[tuple[float, list[Event]]]:
        """Raises UserError when that is too much."""
        size = self._history.size(until)
        if size > MOST_BYTES:
            raise UserError(
                f"the journal up to {stamp(until)} has {render_size(size)}; at most {render_size(MOST_BYTES)} are "
                "replayed for an answer about the past",
                hint="jobs events --job ID shows what happened to the job itself",
            )
        return self._history.entries(until)


def _notes(blaming: Blaming) -> Iterator[str]:
    if blaming.past.note:
        yield blaming.past.note
    if blaming.every > 1:
        yield f"a long wait: of what happened to others, every {blaming.every}th was looked at"
    if blaming.restarts:
        when = ", ".join(map(stamp, blaming.restarts[:3]))
        yield f"the daemon was started again at {when}; for how long none ran before is not known"


def stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def not_known(at: float) -> UserError:
    return UserError(
        f"what this host could give at {stamp(at)} is not in the journal: an older version wrote it",
        hint="jobs events --job ID shows what happened to the job itself",
    )
