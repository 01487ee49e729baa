"""cancel, pause, resume, release, priority, exec. Each proposes one event to the writer; the loop acts on it.

What an event means is decided by `jobs.states.advance`; here only by whom, and what to say when it does not apply.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import anyio
from fastapi import APIRouter

from jobs import events, protocol
from jobs.errors import NotAllowed, WrongState
from jobs.record import Record, State
from scheduler.api.parts import JobId, JobOrTask, Parts, Peer
from scheduler.api.routes.looking import find, live


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["steering"])
    access = parts.access

    @routes.post("/v1/jobs/{job}/cancel", summary="Signal, then kill after the grace time")
    async def cancel(which: JobOrTask, peer: Peer, request: protocol.Cancel) -> protocol.Job:
        def make(record: Record) -> events.Event:
            by = access.steers_as(peer, record)
            _must_not_have_ended(record)
            stop = record.spec.stop
            signal = request.signal or stop.signal
            grace_s = stop.grace_s if request.grace_s is None else request.grace_s
            return events.CancelRequested(record.job, by, signal, grace_s, time.time())

        def drop(record: Record) -> events.Event:
            by = access.steers_as(peer, record)
            return events.TasksDropped(record.job, (which.pending or 0,), f"cancelled by {by}", time.time())

        await find(parts, peer, job := which.job)
        if which.pending is not None:
            return live(parts, await parts.writer.propose(job, drop))
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/pause", summary="Freeze; a waiting job is held instead")
    async def pause(job: JobId, peer: Peer, request: protocol.Pause) -> protocol.Job:
        def make(record: Record) -> events.Event | None:
            by = access.steers_as(peer, record)
            _must_not_have_ended(record)
            if by in record.pause_holds and record.keep_cpus == request.keep_cpus:
                return None
            if record.state is State.UNDERWAY:
                return None
            return events.PauseRequested(record.job, by, request.keep_cpus)

        await find(parts, peer, job)
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/resume", summary="Lift your hold; an operator lifts every hold")
    async def resume(job: JobId, peer: Peer) -> protocol.Job:
        def make(record: Record) -> events.Event | None:
            by = access.lifts_as(peer, record)
            _must_not_have_ended(record)
            _must_lift(record, by)
            if record.state is State.HELD:
                return events.HoldReleased(record.job, by)
            return events.ResumeRequested(record.job, by) if record.pause_holds else None

        await find(parts, peer, job)
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/release", summary="Let a held job queue")
    async def release(job: JobId, peer: Peer) -> protocol.Job:
        def make(record: Record) -> events.Event:
            by = access.lifts_as(peer, record)
            if record.state is not State.HELD:
                raise WrongState(f"job {record.written} is {_words(record.state)}, not held", hint=_instead(record))
            _must_lift(record, by)
            return events.HoldReleased(record.job, by)

        await find(parts, peer, job)
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/hold", summary="Keep a waiting job from starting")
    async def hold(job: JobId, peer: Peer) -> protocol.Job:
        def make(record: Record) -> events.Event | None:
            by = access.steers_as(peer, record)
            if record.state not in (State.QUEUED, State.HELD):
                raise WrongState(f"job {record.written} is {_words(record.state)}; only a waiting job can be held",
                                 hint=_instead(record))  # fmt: skip
            return None if by in record.pause_holds else events.PauseRequested(record.job, by)

        await find(parts, peer, job)
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/priority", summary="Change urgency, weights, network class, in any state but ended")
    async def priority(job: JobId, peer: Peer, request: protocol.Priority) -> protocol.Job:
        def make(record: Record) -> events.Event:
            access.steers_as(peer, record)
            _must_not_have_ended(record)
            return events.PriorityChanged(
                record.job, request.urgency, request.cpu_weight, request.io_weight, request.network_class
            )

        await find(parts, peer, job)
        return await _steer(parts, job, make)

    @routes.post("/v1/jobs/{job}/exec", summary="A ticket for a program in the job's namespaces")
    async def exec_(job: JobId, peer: Peer, request: protocol.Exec) -> protocol.Ticket:
        record = await find(parts, peer, job)
        if record.state is State.FROZEN or record.state is State.THAWING:
            raise WrongState(f"job {record.written} is frozen; a program would stand still at once",
                             hint=f"jobs resume {record.written}")  # fmt: skip
        if record.state is not State.RUNNING:
            raise WrongState(f"job {record.written} is {_words(record.state)}, not running", hint=_instead(record))
        ticket = await parts.node.exec(record, request.argv, tty=request.tty, env=request.env, peer=peer)
        return protocol.Ticket(ticket.socket, ticket.ticket)

    return routes


async def _steer(parts: Parts, job: int, make: Callable[[Record], events.Event | None]) -> protocol.Job:
    """The job; of an array first what is pending, so that nothing begins meanwhile, then each task that lives."""
    record = await parts.writer.propose(job, make)
    if record.progress is None:
        return live(parts, record)
    async with anyio.create_task_group() as together:  # so that the writer commits them as one batch
        for task in await parts.reader.tasks(job, live=True):
            if not task.state.final:
                together.start_soon(_steer_task, parts, task.job, make)
    return live(parts, await parts.reader.record(job) or record)


async def _steer_task(parts: Parts, task: int, make: Callable[[Record], events.Event | None]) -> None:
    """One that has ended by now, or for which the verb means nothing, is left as it is."""
    with contextlib.suppress(WrongState, NotAllowed):
        await parts.writer.propose(task, make)


def _must_not_have_ended(record: Record) -> None:
    if record.state.final:
        raise WrongState(f"job {record.written} has ended: {_words(record.state)}", hint=_instead(record))


def _must_lift(record: Record, by: str) -> None:
    """An owner alone can't lift an operator's hold; their own, beside it, they can."""
    if by == "owner" and "operator" in record.pause_holds and "owner" not in record.pause_holds:
        raise NotAllowed(f"an operator holds job {record.written}", hint="only an operator can resume it")
    if by == "owner" and record.state is State.HELD and "operator" in record.pause_holds:
        raise NotAllowed(f"an operator holds job {record.written} too", hint="only an operator can release it")


def _words(state: State) -> str:
    return str(state).replace("_", " ")


def _instead(record: Record) -> str:
    return f"see it with: jobs show {record.written}"
