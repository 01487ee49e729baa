"""Queues, shares, reservations. Everybody looks; operators change, each change is one event of the journal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from jobs import events, protocol_queues
from jobs.events import Owner
from jobs.policy import Policy, QueueState, Reservation
from jobs.policy_changes import must_have_queue
from scheduler.api.parts import Parts, Peer
from scheduler.api.queue_views import queue_list, reservation_list, share_list

Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


def router(parts: Parts) -> APIRouter:
    routes = APIRouter(tags=["queues"])
    queues, access = parts.queues, parts.access

    async def listed(peer: Owner) -> protocol_queues.QueueList:
        counts, groups = await queues.counts(), await queues.groups_of(peer)
        return queue_list(queues.policy, counts, _name(peer), groups, queues.now())

    async def set_state(peer: Owner, name: str, state: QueueState) -> protocol_queues.QueueList:
        access.must_operate(peer, "draining and opening a queue")

        def make(policy: Policy) -> events.PolicyEvent | None:
            if must_have_queue(policy, name).state == state:
                return None
            return events.QueueChanged(0, name, state, queues.now(), _name(peer))

        await parts.writer.change(make)
        return await listed(peer)

    @routes.get("/v1/queues", summary="Queues, their limits, and what is in them")
    async def list_queues(peer: Peer) -> protocol_queues.QueueList:
        return await listed(peer)

    @routes.post("/v1/queues/{name}/drain", summary="It goes on taking jobs and starts none")
    async def drain(name: Name, peer: Peer) -> protocol_queues.QueueList:
        return await set_state(peer, name, "drained")

    @routes.post("/v1/queues/{name}/open", summary="Its jobs start again")
    async def open_(name: Name, peer: Peer) -> protocol_queues.QueueList:
        return await set_state(peer, name, "open")

    @routes.post("/v1/policy/reload", summary="Read the policy file again; a bad one changes nothing")
    async def reload(peer: Peer) -> protocol_queues.Reloaded:
        access.must_operate(peer, "reading the policy file again")
        changed = await queues.reload(_name(peer))
        return protocol_queues.Reloaded(changed, tuple(queue.name for queue in queues.policy.queues))

    @routes.get("/v1/shares", summary="Who has used how much, and what that is worth; for operators of all users")
    async def list_shares(peer: Peer) -> protocol_queues.ShareList:
        return share_list(queues.policy, queues.standings(), _name(peer), access.operates(peer))

    @routes.get("/v1/reservations", summary="Times when CPUs are kept")
    async def list_reservations(peer: Peer) -> protocol_queues.ReservationList:
        return reservation_list(queues.policy, queues.now())

    @routes.post("/v1/reservations", status_code=201, summary="Keep CPUs free, once or again and again")
    async def reserve(request: protocol_queues.Reserve, peer: Peer) -> protocol_queues.ReservationList:
        access.must_operate(peer, "reserving CPUs")
        new = Reservation(
            request.name, request.at, request.for_s, request.every_s, request.cpus, request.users, by=_name(peer)
        )
        policy = await parts.writer.change(lambda _: events.ReservationAdded(0, new, queues.now(), new.by))
        return reservation_list(policy, queues.now())

    @routes.delete("/v1/reservations/{name}", status_code=204, summary="One that was added by command")
    async def remove_reservation(name: Name, peer: Peer) -> None:
        access.must_operate(peer, "removing a reservation")
        await parts.writer.change(lambda _: events.ReservationRemoved(0, name, queues.now(), _name(peer)))

    return routes


def _name(peer: Owner) -> str:
    return peer.name or str(peer.uid)
