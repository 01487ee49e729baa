"""What the API is given by the composition root; and what every route starts with: the peer and the job id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Path, Request

from jobs.events import Owner
from jobs.host import Topology
from jobs.record import Record
from jobs.spec import JobSpec
from scheduler.api.access import Access, no_such_job
from scheduler.capacity import Capacity
from scheduler.ports import Node, Reader, Writer


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


Admit = Callable[[JobSpec, Owner], Awaitable[None]]  # raises UserError when the job could never run here
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
    topology: Topology
    capacity: Capacity


def _peer(request: Request) -> Owner:
    peer: Owner = request.state.peer
    return peer


def _job_id(job: Annotated[str, Path(json_schema_extra={"pattern": "^[0-9]{1,15}$"})]) -> int:
    return job_id(job)


def job_id(text: str) -> int:
    """Plain ASCII digits and nothing else. Raises NoSuchJob."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise no_such_job(repr(text[:40]))
    return int(text)


Peer = Annotated[Owner, Depends(_peer)]
JobId = Annotated[int, Depends(_job_id)]
