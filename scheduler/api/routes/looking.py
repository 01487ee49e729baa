"""list, show, host, head: what is known, without changing anything."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.lowlevel
from fastapi import APIRouter, Query

from jobs import protocol
from jobs.errors import UserError
from jobs.events import Owner
from jobs.inspection import Snapshot
from jobs.record import Record, State
from scheduler.api.parts import JobId, Parts, Peer, job_of
from scheduler.api.views import machine, view

MOST_LISTED = 5000


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["looking"])

    @routes.get("/v1/jobs", summary="Your jobs; for operators with `everyone` all")
    async def list_jobs(
        peer: Peer,
        state: Annotated[list[str] | None, Query(description="only these states")] = None,
        id: Annotated[list[str] | None, Query(description="only these jobs")] = None,
        newest: Annotated[int, Query(ge=0, le=MOST_LISTED, description="only the last so many; 0: as many as go")] = 0,
        tasks: Annotated[bool, Query(description="with tasks of arrays that have ended")] = False,
        everyone: bool = False,
    ) -> protocol.JobList:
        if everyone:
            parts.access.must_operate(peer, "seeing the jobs of all users")
        if id:
            jobs = [await job_of(parts, peer, text) for text in id[:1000]]
            return protocol.JobList(tuple([live(parts, await find(parts, peer, job)) for job in jobs]))
        records = await parts.reader.records(
            uid=None if everyone else peer.uid, states=_states(state or []), newest=newest or MOST_LISTED, tasks=tasks
        )
        found = []
        for number, record in enumerate(records):
            found.append(live(parts, record))
            if number % 200 == 199:
                await anyio.lowlevel.checkpoint()  # a long list must not hold up the scheduler
        return protocol.JobList(tuple(found))

    @routes.get("/v1/jobs/{job}", summary="One job with its spec")
    async def show(job: JobId, peer: Peer) -> protocol.Job:
        return live(parts, await find(parts, peer, job), whole=True)

    @routes.get("/v1/jobs/{job}/inspect", summary="Its processes, seen from outside: what each thread waits for")
    async def inspect(job: JobId, peer: Peer) -> Snapshot:
        record = await find(parts, peer, job)
        return await parts.node.inspect(record, environment=record.owner.uid == peer.uid)

    @routes.get("/v1/host", summary="What this host is and offers; what runs on it is told to operators")
    async def host(peer: Peer) -> dict[str, Any]:
        found = parts.node.describe()
        if not parts.access.operates(peer):
            found.pop("executions", None)
        return found

    @routes.get("/v1/topology", summary="The host's CPUs and memory, and which job has what of them")
    async def topology(peer: Peer) -> protocol.Machine:
        records = await parts.reader.records(states=[str(state) for state in State if state.on_node])
        return machine(parts.topology, parts.capacity, records, peer, parts.access)

    @routes.get("/v1/head", summary="The end of the journal")
    async def head(peer: Peer) -> protocol.Head:
        return protocol.Head(*await parts.reader.head())

    return routes


async def find(parts: Parts, peer: Owner, job: int) -> Record:
    """Raises NoSuchJob, also where the peer may not know of the job."""
    return parts.access.see(peer, job, await parts.reader.record(job))


def live(parts: Parts, record: Record, *, whole: bool = False) -> protocol.Job:
    """With the node's figures of this moment."""
    usage, ran_s = None, None
    waits_for: tuple[str, ...] = ()
    if record.state.on_node:
        usage = parts.node.usage(record.execution)
        ran_s = parts.node.running_s(record.execution) if usage else None
    elif not record.state.final:
        waits_for = tuple(parts.explain(record))
    priority = parts.queues.priority(record) if whole and not record.state.final else None
    return view(record, usage=usage, ran_s=ran_s, waits_for=waits_for, priority=priority, whole=whole)


def _states(names: list[str]) -> list[str]:
    known = [str(state) for state in State]
    for name in names:
        if name not in known:
            raise UserError(f"no state {name[:40]!r}", hint=f"states are: {', '.join(known)}")
    return names
