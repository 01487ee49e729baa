"""A record as the API shows it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields, replace

from jobs.array import index_text
from jobs.events import Owner, Usage
from jobs.host import Topology
from jobs.protocol import Job, Machine, NodeMemory, Placed
from jobs.record import Record
from jobs.runs import count
from jobs.spec import to_json
from scheduler.api.access import Access
from scheduler.capacity import Capacity, hold_of
from scheduler.priority import Parts

MOST_SHOWN = 50  # jobs that are waited for
_FIGURES = tuple(field.name for field in fields(Usage))


def view(
    record: Record,
    *,
    usage: Usage | None = None,
    ran_s: float | None = None,
    waits_for: Sequence[str] = (),
    priority: Parts | None = None,
    whole: bool = False,
) -> Job:
    """`usage` and `ran_s`: the node's live figures, where it has any. `whole`: with the spec."""
    spec, place, wanted = record.spec, record.placement, record.wanted.resources
    return Job(
        job=record.job,
        name=spec.name,
        state=str(record.state),
        final=record.state.final,
        owner=record.user,
        uid=record.owner.uid,
        urgency=record.urgency,
        points=asdict(priority) if priority else {},
        cpu_weight=record.cpu_weight,
        io_weight=record.io_weight,
        network_class=record.network_class,
        cpus_wanted=wanted.cpus,
        memory_limit_bytes=wanted.memory_bytes,
        queue=record.spec.queue,
        account=record.account,
        generic_wanted=wanted.generic,
        variant=record.variant,
        submitted_at=record.submitted_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        frozen_at=record.frozen_at,
        ran_s=record.ran_s if ran_s is None else ran_s,
        exit_status=record.exit_status,
        reason=record.reason,
        waits_for=tuple(waits_for),
        holds=tuple(sorted(record.pause_holds)),
        cancelling=record.cancel.signal if record.cancel and not record.state.final else "",
        preempted_by=record.preempted_by,
        attempt=record.attempt,
        execution=str(record.execution) if record.attempt else "",
        cpus=place.cpus if place else (),
        mems=place.mems if place else (),
        exclusive=place.exclusive if place else False,
        idle=place.idle if place else (),
        generic=_instances(record),
        node_id=place.node_id if place else "",
        address=record.address,
        freezer=record.freezer,
        carriers=record.carriers,
        notes=record.notes,
        freezes=record.freezes,
        resident_bytes=record.resident_bytes,
        usage=_figures(usage or record.usage),
        cleaned=record.cleaned,
        leftovers=record.leftovers,
        version=record.version,
        id=record.written,
        array=record.array,
        index=record.index,
        tasks=_tasks(record),
        pending=_pending(record),
        needs=tuple({"kind": need.kind, "job": need.job, "name": need.name} for need in record.needs[:MOST_SHOWN]),
        not_before=record.not_before,
        retries=record.retries,
        checkpoints=record.checkpoints,
        warned=record.warned,
        deadline_at=record.deadline_at,
        spec=to_json(spec) if whole else None,
    )


def _tasks(record: Record) -> dict[str, int]:
    if (progress := record.progress) is None:
        return {}
    pending, good, bad = map(count, (progress.pending, progress.good, progress.bad))
    return {"all": progress.size, "pending": pending, "live": progress.live, "completed": good, "bad": bad}


def _pending(record: Record) -> str:
    if record.progress is None or record.spec.array is None:
        return ""
    return index_text(record.spec.array, record.progress.pending)


def _figures(usage: Usage) -> dict[str, float]:
    return {name: getattr(usage, name) for name in _FIGURES}  # dataclasses.asdict takes five times as long


def machine(topology: Topology, capacity: Capacity, records: Sequence[Record], peer: Owner, access: Access) -> Machine:
    """`records`: those on the node. What jobs of others have is shown, whose it is only to operators."""
    memory: Counter[int] = Counter()
    pages: Counter[tuple[int, int]] = Counter()
    for hold in map(hold_of, records):
        memory.update(dict(hold.memory))
        pages.update({(node, size): count for node, size, count in hold.pages})
    nodes = tuple(
        replace(node, hugepages=tuple((size, free - pages[node.id, size]) for size, free in node.hugepages))
        for node in topology.nodes
    )
    return Machine(
        node_id=capacity.node_id,
        topology=asdict(replace(topology, nodes=nodes)),
        memory=tuple(NodeMemory(node, size, memory[node]) for node, size in sorted(capacity.memory.items())),
        placed=tuple(
            _placed(record, access.operates(peer) or record.owner.uid == peer.uid)
            for record in sorted(records, key=lambda record: record.job)
        ),
    )


def _placed(record: Record, known: bool) -> Placed:
    place = record.placement
    return Placed(
        job=record.job if known else 0,
        name=record.spec.name if known else "",
        owner=record.user if known else "",
        state=str(record.state),
        cpus=place.cpus if place else (),
        idle=place.idle if place else (),
        exclusive=place.exclusive if place else False,
        shares=place.shares if place else 0.0,
        memory=hold_of(record).memory,
        generic=_instances(record),
    )


def _instances(record: Record) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(name, instances) of the generic resources that it holds now."""
    found: dict[str, tuple[int, ...]] = {}
    for name, number in hold_of(record).generic:
        found[name] = (*found.get(name, ()), number)
    return tuple(found.items())
