"""Wakes who waits for a job. One follower of the journal serves them all: a commit costs one read, not one each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskStatus

from jobs.errors import HostError
from scheduler.ports import Reader

log = logging.getLogger("jobs.api")
AGAIN_S = 1.0  # after the journal could not be read


class News:
    """`run` must be under way before the first `of`: what was committed before is seen in the record."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: dict[int, set[anyio.Event]] = {}

    @contextmanager
    def of(self, job: int) -> Iterator[anyio.Event]:
        """Set at the next event of the job. Enter it, look at the record, then wait: nothing in between is missed."""
        happened = anyio.Event()
        self._waiting.setdefault(job, set()).add(happened)
        try:
            yield happened
        finally:
            if waiting := self._waiting.get(job):
                waiting.discard(happened)
                if not waiting:
                    del self._waiting[job]

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        after, _ = await self._reader.head()
        task_status.started()
        while True:
            try:
                async for stored in self._reader.events(after=after, follow=True):
                    after = stored.seq
                    self._wake(stored.event.job)
            except HostError as error:  # the writer meets it too and decides; here it only delays
                log.error("following the journal: %s", error)
                for job in list(self._waiting):
                    self._wake(job)
                await anyio.sleep(AGAIN_S)

    def _wake(self, job: int) -> None:
        for happened in self._waiting.get(job, ()):
            happened.set()
