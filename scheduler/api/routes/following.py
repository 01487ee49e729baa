"""logs, wait, events: what lasts. A stream has no buffer of its own: a slow reader slows it, not the daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from jobs import protocol
from jobs.errors import WrongState
from jobs.events import Owner, Submitted, dump
from jobs.record import Record
from scheduler.api.logtail import LogFile
from scheduler.api.news import News
from scheduler.api.parts import JobId, Parts, Peer, job_of
from scheduler.api.routes.looking import find, live
from scheduler.ports import Stored

LOOK_AGAIN_S = (0.02, 0.25)  # a growing file has no event to wait for; from … to, doubling while nothing comes
MOST_OFFSET = 1 << 62


def router(parts: Parts, news: News) -> APIRouter:
    routes = APIRouter(tags=["following"])

    @routes.get("/v1/jobs/{job}/wait", summary="Answers when the job is there, or after `timeout_s` as it is then")
    async def wait(
        job: JobId,
        peer: Peer,
        until: protocol.Until = "final",
        timeout_s: Annotated[float, Query(ge=0, le=protocol.MOST_WAIT_S)] = 30.0,
    ) -> protocol.Job:
        await find(parts, peer, job)
        with anyio.move_on_after(timeout_s):
            await _wait_until(parts, news, job, until)
        return live(parts, await find(parts, peer, job), whole=True)

    @routes.get("/v1/jobs/{job}/logs/{stream}", response_class=StreamingResponse, summary="Output as it was written")
    async def logs(
        job: JobId,
        peer: Peer,
        stream: protocol.Stream,
        start: Annotated[int, Query(alias="from", ge=0, le=MOST_OFFSET)] = 0,
        tail: Annotated[int, Query(ge=0, le=1_000_000, description="only the last lines; 0: begin at `from`")] = 0,
        attempt: Annotated[int, Query(ge=0, le=999_999, description="0: the newest")] = 0,
        follow: bool = False,
    ) -> StreamingResponse:
        record = await find(parts, peer, job)
        if record.progress is not None and record.spec.array is not None:
            one = f"{job}_{record.spec.array.index(0)}"
            raise WrongState(f"job {job} is an array; each of its tasks has an output", hint=f"jobs logs {one}")
        number = attempt or max(1, record.attempt)
        file = await _open(parts, record, number, stream)
        first = await _first(file, start, tail)
        body = _follow(parts, record, number, stream, file, first) if follow else _rest(file, first)
        return StreamingResponse(body, media_type="application/octet-stream", headers={"x-log-from": str(first)})

    @routes.get("/v1/events", response_class=StreamingResponse, summary="The journal's events as JSON lines")
    async def events(
        peer: Peer,
        after: Annotated[int, Query(ge=0, le=MOST_OFFSET, description="a sequence number")] = 0,
        job: Annotated[str | None, Query(description="only of this job: 17 or 12_3")] = None,
        follow: bool = False,
    ) -> StreamingResponse:
        number = await job_of(parts, peer, job) if job is not None else None
        if number is not None:
            await find(parts, peer, number)
        return StreamingResponse(_lines(parts, peer, after, number, follow), media_type="application/x-ndjson")

    return routes


async def _wait_until(parts: Parts, news: News, job: int, until: protocol.Until) -> None:
    while True:
        with news.of(job) as happened:  # before the record, so that no event between the two is missed
            if await _reached(parts, job, until):
                return
            await happened.wait()


async def _reached(parts: Parts, job: int, until: protocol.Until) -> bool:
    record = await parts.reader.record(job)
    return record is None or protocol.reached(record.state, record.state.final, bool(record.pause_holds), until)


async def _open(parts: Parts, record: Record, attempt: int, stream: str) -> LogFile | None:
    if record.attempt < attempt:
        return None
    execution = replace(record.execution, attempt=attempt)
    return await run_sync(LogFile.open, parts.node.log_path(execution, stream))


async def _first(file: LogFile | None, start: int, tail: int) -> int:
    if file is None:
        return start
    offset = await run_sync(file.last_lines, tail) if tail else start
    return await run_sync(file.kept_from, offset)


async def _rest(file: LogFile | None, at: int) -> AsyncIterator[bytes]:
    if file is None:
        return
    try:
        while data := await run_sync(file.read_kept, at):
            yield data
            at += len(data)
    finally:
        file.close()


async def _follow(
    parts: Parts, record: Record, attempt: int, stream: str, file: LogFile | None, at: int
) -> AsyncIterator[bytes]:
    """Ends when the attempt has ended and all was sent; or when output not sent yet was dropped: then ask again."""
    pause_s = LOOK_AGAIN_S[0]
    try:
        while True:
            record = await parts.reader.record(record.job) or record
            ended = over(record, attempt)  # before the read: what came last is read for certain
            file = file or await _open(parts, record, attempt, stream)
            while file and (data := await run_sync(file.read_kept, at)) != b"":
                if data is None:
                    return
                yield data
                at += len(data)
                pause_s = LOOK_AGAIN_S[0]
            if ended:
                return
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_AGAIN_S[1])
    finally:
        if file:
            file.close()


def over(record: Record, attempt: int) -> bool:
    """Whether nothing more comes of this attempt; of one that is still to come, whether it never will."""
    return record.state.final or record.attempt > attempt or (record.attempt == attempt and not record.state.on_node)


async def _lines(parts: Parts, peer: Owner, after: int, job: int | None, follow: bool) -> AsyncIterator[bytes]:
    owners: dict[int, int] = {}
    async with aclosing(parts.reader.events(after=after, job=job, follow=follow)) as found:  # type: ignore[type-var]
        async for stored in found:
            await _learn_owner(parts, stored, owners)
            if parts.access.sees_event(peer, stored.event, owners):
                yield _line(stored)


async def _learn_owner(parts: Parts, stored: Stored, owners: dict[int, int]) -> None:
    event = stored.event
    if isinstance(event, Submitted):
        owners[event.job] = event.owner.uid
    elif event.job not in owners and (record := await parts.reader.record(event.job)):
        owners[event.job] = record.owner.uid


def _line(stored: Stored) -> bytes:
    data = {"seq": stored.seq, "index": stored.index, "at": stored.at, **dump(stored.event)}
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"
