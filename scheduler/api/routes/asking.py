"""why, whatif, blame: questions about jobs that wait, or did. Nothing is changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from jobs import protocol, protocol_blame
from jobs.errors import WrongState
from jobs.record import Record, State
from scheduler.api.parts import JobId, Parts, Peer
from scheduler.api.routes.looking import find
from scheduler.api.why_views import blame_view, why_view
from scheduler.explain import Asked

At = Annotated[float | None, Query(ge=0, le=1e11, description="of a time that is over: seconds since 1970")]


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["asking"])

    @routes.get("/v1/jobs/{job}/why", summary="Why it does not run, when it will, and what would start it now")
    async def why(job: JobId, peer: Peer, at: At = None) -> protocol.Why:
        record = await find(parts, peer, job)
        if at is not None:
            return why_view(await parts.remembering.why(record, at), peer, parts.access, past=True)
        return why_view(await parts.explaining.why(record), peer, parts.access)

    @routes.post("/v1/jobs/{job}/whatif", summary="Whether it would start if it asked for something else")
    async def what_if(job: JobId, peer: Peer, request: protocol.WhatIf) -> protocol.Why:
        record = await find(parts, peer, job)
        _must_be_queued(record)
        asked = Asked(
            cpus=request.cpus,
            memory=request.memory_bytes,
            numa=request.numa,
            cores=request.cores,
            time_limit=request.time_limit_s,
            urgency=request.urgency,
            queue=request.queue,
        )
        await parts.admit(asked.of(record).spec, record.owner)
        return why_view(await parts.explaining.what_if(record, asked), peer, parts.access)

    @routes.get("/v1/jobs/{job}/blame", summary="Who delayed it, and for how long")
    async def blame(job: JobId, peer: Peer) -> protocol_blame.Blame:
        found = await parts.remembering.blame(await find(parts, peer, job))
        blockers = {part.job: await parts.reader.record(part.job) for part in found.parts if part.job}
        return blame_view(found, {job: each for job, each in blockers.items() if each is not None}, peer, parts.access)

    return routes


def _must_be_queued(record: Record) -> None:
    if record.state is State.HELD:
        raise WrongState(f"job {record.job} is held; it would not start", hint=f"jobs release {record.job}")
    if record.state is not State.QUEUED:
        raise WrongState(f"job {record.job} is {str(record.state).replace('_', ' ')}; it does not wait to start",
                         hint=f"jobs show {record.job}")  # fmt: skip
