"""Values for tests in the words of the domain: `a_job(cpus=2)`, `a_host(nodes=2, cpus_per_node=8)`, `a_record(...)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from jobs import events as ev
from jobs.events import Owner
from jobs.host import Generic, Instance, NumaNode, Topology
from jobs.placement import Placement
from jobs.record import Record
from jobs.spec import JobSpec, Network, Publish, Resources
from jobs.states import advance
from scheduler.capacity import Capacity
from scheduler.ports import NewJob

MIB, GIB = 1 << 20, 1 << 30
ALICE = Owner(uid=1000, gid=1000, name="alice")
BOB = Owner(uid=1001, gid=1001, name="bob")


def a_host(
    *, nodes: int = 1, cpus_per_node: int = 4, memory_per_node: int = 8 * GIB, threads: int = 1,
    hugepages: Sequence[tuple[int, int]] = (), memory_only: int = 0, generic: Sequence[Generic] = (),
) -> Topology:  # fmt: skip
    """`threads` CPUs of neighbouring numbers are one core; nodes are 20 apart; `memory_only` nodes come last."""
    count = nodes + memory_only
    return Topology(
        nodes=tuple(
            NumaNode(
                id=node,
                cpus=tuple(range(node * cpus_per_node, (node + 1) * cpus_per_node)) if node < nodes else (),
                memory_bytes=memory_per_node,
                distances=tuple((other, 10 if other == node else 20) for other in range(count)),
                hugepages=tuple(hugepages),
            )
            for node in range(count)
        ),
        siblings=tuple(
            tuple(range(first, first + threads)) for first in range(0, nodes * cpus_per_node, threads) if threads > 1
        ),
        generic=tuple(generic),
    )


def gpus(*nodes: int) -> Generic:
    """One on each of these memory nodes, numbered in their order."""
    return Generic("gpu", tuple(Instance((f"/dev/gpu{number}", "/dev/gpuctl"), node)
                                for number, node in enumerate(nodes)))  # fmt: skip


def licences(count: int, *, name: str = "licence", release_when_frozen: bool = False) -> Generic:
    return Generic(name, (Instance(),) * count, release_when_frozen)


def a_capacity(*, reserve_bytes: int = 0, max_jobs: int = 1000, **host: Any) -> Capacity:
    return Capacity.of(a_host(**host), reserve_bytes=reserve_bytes, node_id="test", max_jobs=max_jobs)


def a_job(
    *, cpus: float = 1, memory: int = 256 * MIB, name: str = "job", numa: Any = "local", priority: int = 50,
    hugepages: Sequence[tuple[int, int]] = (), publish: Iterable[int] = (), time_limit_s: float = 0.0,
    generic: Mapping[str, int] = MappingProxyType({}), **spec: Any,
) -> JobSpec:  # fmt: skip
    return JobSpec(
        name=name,
        command=("true",),
        priority=priority,
        numa=numa,
        time_limit_s=time_limit_s,
        resources=Resources(cpus=cpus, memory_bytes=memory, hugepages=tuple(hugepages), generic=tuple(generic.items())),
        network=Network(publish=tuple(Publish(port, port) for port in publish)),
        **spec,
    )


def submitted(job: int = 1, *, at: float = 0.0, owner: Owner = ALICE, hold: bool = False, **spec: Any) -> ev.Submitted:
    return ev.Submitted(job, a_job(**spec), owner, at, hold=hold)


def a_new_job(
    *, at: float = 0.0, owner: Owner = ALICE, hold: bool = False, request_id: str = "", digest: str = "",
    toml: bytes = b"", siblings: tuple[tuple[str, int], ...] = (), operates: bool = False, **spec: Any,
) -> NewJob:  # fmt: skip
    event = ev.Submitted(0, a_job(**spec), owner, at, hold=hold, request_id=request_id, spec_digest=digest)
    return NewJob(event, toml, siblings, operates)


def a_placement(*cpus: int, memory: int = 256 * MIB, node: int = 0, shares: float = 0.0) -> Placement:
    cpus = cpus or (0,)
    return Placement("test", cpus, (node,), not shares, shares, memory, ((node, memory),))


def a_record(*happened: ev.Event, job: int = 1, at: float = 0.0, owner: Owner = ALICE, **spec: Any) -> Record:
    """Submitted, then what happened."""
    record = advance(None, submitted(job, at=at, owner=owner, **spec))
    for event in happened:
        record = advance(record, event)
    return record


class History:
    """The events of one job's life with the right execution ids: `History(7).placed(0).started().frozen()`."""

    def __init__(self, job: int = 1, *, at: float = 0.0, owner: Owner = ALICE, hold: bool = False, **spec: Any) -> None:
        self.record = advance(None, submitted(job, at=at, owner=owner, hold=hold, **spec))

    def then(self, event: ev.Event) -> History:
        self.record = advance(self.record, event)
        return self

    @property
    def _ids(self) -> tuple[int, str]:
        return self.record.job, str(self.record.execution)

    def placed(self, *cpus: int, placement: Placement | None = None) -> History:
        following = replace(self.record.execution, attempt=self.record.attempt + 1)
        wanted = self.record.spec.resources
        place = placement or a_placement(*cpus, memory=wanted.memory_bytes)
        return self.then(ev.Placed(self.record.job, str(following), place, 0.0))

    def started(self, at: float = 0.0) -> History:
        return self.then(ev.Started(*self._ids, at=at, freezer="v2"))

    def paused(self, by: str = "owner", *, keep_cpus: bool = False) -> History:
        return self.then(ev.PauseRequested(self.record.job, by, keep_cpus))

    def resumed(self, by: str = "owner") -> History:
        return self.then(ev.ResumeRequested(self.record.job, by))

    def preempted(self, by: int = 2, *, at: float = 0.0, requeue: bool = False) -> History:
        return self.then(ev.Preempted(*self._ids, by=by, resident_bytes=0, at=at, requeue=requeue))

    def frozen(self, *, resident: int = 64 * MIB, ran_s: float = 1.0) -> History:
        return self.then(ev.Frozen(*self._ids, took_s=0.001, ran_s=ran_s, resident_bytes=resident, at=0.0))

    def thaw_placed(self, *cpus: int, placement: Placement | None = None) -> History:
        place = placement or a_placement(*cpus, memory=self.record.spec.resources.memory_bytes)
        return self.then(ev.ThawPlaced(*self._ids, placement=place, at=0.0))

    def thawed(self) -> History:
        return self.then(ev.Thawed(*self._ids, took_s=0.001, at=0.0))

    def cancelled(self, by: str = "owner") -> History:
        return self.then(ev.CancelRequested(self.record.job, by, "TERM", 30.0, 0.0))

    def exited(self, status: int = 0, cause: str = "") -> History:
        return self.then(ev.Exited(*self._ids, status=status, cause=cause, ran_s=1.0, usage=ev.Usage(), at=0.0))

    def lost(self) -> History:
        return self.then(ev.Lost(*self._ids, reason="test", at=0.0))

    def cleaned(self) -> History:
        return self.then(ev.CleanedUp(*self._ids))
