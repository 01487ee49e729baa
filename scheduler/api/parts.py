"""What the API is given by the composition root; and what every route starts with: the peer and the job id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Path, Request

from jobs.errors import WrongState
from jobs.events import Owner
from jobs.host import Topology
from jobs.ids import parse_job
from jobs.policy import Policy
from jobs.record import Record
from jobs.spec import JobSpec
from scheduler.api.access import Access, no_such_job
from scheduler.capacity import Capacity
from scheduler.explaining import Explaining
from scheduler.fairshare import Standing
from scheduler.ports import Node, Reader, Writer
from scheduler.priority import Parts as Priority
from scheduler.remembering import Remembering


class ParseSpec(Protocol):
    def __call__(
        self, text: str, *, file: str, folder: str, submitted_from: str, sets: Sequence[str] = (), owner: Owner
    ) -> tuple[JobSpec, ...]:
        """Raises SpecError. Called in a thread."""


class Images(Protocol):
    """Values of any dataclass are answered as JSON objects."""

    async def import_(self, name: str, source_fd: int, *, kind: str, owner: Owner, archive: str) -> Any: ...
    async def list(self) -> Sequence[Any]: ...
    async def remove(self, name: str) -> None: ...


class Queues(Protocol):
    """The policy in force and what is in its queues."""

    @property
    def policy(self) -> Policy: ...
    async def reload(self, by: str) -> bool:
        """Whether the file says something new. Raises JobsError, and then nothing has changed."""

    async def counts(self) -> Mapping[str, Any]:
        """Queue → running, frozen, waiting, held, cpus."""

    def standings(self) -> Sequence[Standing]: ...
    def priority(self, record: Record) -> Priority: ...
    async def groups_of(self, peer: Owner) -> Collection[str]:
        """Their names."""

    def now(self) -> float: ...


# The job as its queue fills it in. Raises UserError when it may not wait there, or could never run here.
Admit = Callable[[JobSpec, Owner], Awaitable[JobSpec]]
Explain = Callable[[Record], Sequence[str]]  # what a waiting job waits for, in words
OpenSource = Callable[[Owner, str], Awaitable[int]]  # an fd opened with that user's rights; raises OSError


@dataclass(frozen=True, slots=True)
class Parts:
    writer: Writer
    reader: Reader
    node: Node
    parse: ParseSpec
    admit: Admit
    images: Images
    open_source: OpenSource
    access: Access
    explain: Explain
    explaining: Explaining
    remembering: Remembering
    topology: Topology
    capacity: Capacity
    queues: Queues


def _peer(request: Request) -> Owner:
    peer: Owner = request.state.peer
    return peer


Peer = Annotated[Owner, Depends(_peer)]


@dataclass(frozen=True, slots=True)
class Named:
    """What was asked for. `pending`: the index of a task of the array `job` that has not begun, so is no job yet."""

    job: int
    pending: int | None = None


async def named(parts: Parts, peer: Owner, text: str) -> Named:
    """`17` or `12_3`. Raises NoSuchJob."""
    try:
        job, index = parse_job(text)
    except ValueError:
        raise no_such_job(repr(text[:40])) from None
    if index is None:
        return Named(job)
    array = parts.access.see(peer, job, await parts.reader.record(job)).spec.array
    if array is None or array.position(index) is None:
        raise no_such_job(text)
    task = await parts.reader.task(job, index)
    return Named(task.job) if task is not None else Named(job, index)


async def job_of(parts: Parts, peer: Owner, text: str) -> int:
    """Raises NoSuchJob, or WrongState for a task that has not begun."""
    found = await named(parts, peer, text)
    if found.pending is not None:
        raise WrongState(f"task {text} has not begun", hint=f"see its array with: jobs show {found.job}")
    return found.job


_Text = Annotated[str, Path(json_schema_extra={"pattern": "^[0-9]{1,15}(_[0-9]{1,9})?$"})]


async def _job_id(job: _Text, request: Request, peer: Peer) -> int:
    return await job_of(request.app.state.parts, peer, job)


async def _job_or_task(job: _Text, request: Request, peer: Peer) -> Named:
    return await named(request.app.state.parts, peer, job)


JobId = Annotated[int, Depends(_job_id)]
JobOrTask = Annotated[Named, Depends(_job_or_task)]
