"""What the daemon's parts ask of each other, as protocols. Pure: values and signatures only.

api → Writer, Reader, Node;  loop → Writer, Node;  node → Reports. Nobody imports a concrete shell module but `daemon`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.events import Event, Owner, PolicyEvent, Submitted, Usage
from jobs.ids import ExecutionId
from jobs.inspection import Snapshot
from jobs.placement import Placement
from jobs.policy import Policy
from jobs.record import Record


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked submission without its id yet. `toml` is kept by digest, outside the chain of the journal."""

    event: Submitted  # job = 0; the writer fills in the id and what it waits for
    toml: bytes
    siblings: tuple[tuple[str, int], ...] = ()  # earlier jobs of the same file: name, position in the submission
    operates: bool = False  # the submitter may see, and so wait for, the jobs of others


@dataclass(frozen=True, slots=True)
class Stored:
    """One committed event with its place in the journal."""

    seq: int
    index: int  # within the entry
    at: float
    event: Event


class Writer(Protocol):
    """The only appender. Every method returns after the commit, never before."""

    async def submit(self, jobs: Sequence[NewJob]) -> list[int]:
        """Ids in order. The same (owner uid, request_id) again returns the ids given then."""

    async def propose(self, job: int, make: Callable[[Record], Event | None]) -> Record:
        """Calls `make` with the newest record inside the writer's turn; None means nothing to do.

        Raises NoSuchJob, or WrongState when `advance` refuses.
        """

    async def begin_task(self, array: int, index: int, placement: Placement) -> Record:
        """A pending task of an array becomes a job, placed. Raises NoSuchJob, or WrongState when it is stale."""

    async def change(self, make: Callable[[Policy], PolicyEvent | None]) -> Policy:
        """Calls `make` with the policy in force; None means nothing to do. The policy in force then.

        Raises WrongState when `advance_policy` refuses, or a queue that goes still has jobs.
        """

    async def report(self, event: Event) -> bool:
        """A node's report: at least once. False when it was stale (a duplicate, or another execution) and dropped."""


class Reader(Protocol):
    """Committed state; never waits for the writer."""

    async def record(self, job: int) -> Record | None: ...
    async def records(
        self, *, uid: int | None = None, states: Sequence[str] = (), newest: int = 0, tasks: bool = True
    ) -> list[Record]:
        """Oldest first; `newest` keeps only the last so many, 0 all. Not `tasks`: without ended tasks of arrays."""

    async def newest(self, uid: int, name: str) -> Record | None:
        """The user's newest job of that name; tasks of arrays do not count."""

    async def unfinished(self, uid: int, name: str) -> list[int]:
        """The user's jobs of that name that have not ended, oldest first; tasks of arrays do not count."""

    async def tasks(self, array: int, *, live: bool = False) -> list[Record]:
        """Of an array, those that have begun, by index; with `live` only those not final or not cleaned up."""

    async def task(self, array: int, index: int) -> Record | None:
        """None when it has not begun, or there is no such task."""

    def events(self, after: int = 0, job: int | None = None, follow: bool = False) -> AsyncIterator[Stored]: ...
    async def head(self) -> tuple[int, str]:
        """(last sequence number, its hash in hex) of the journal."""


@dataclass(frozen=True, slots=True)
class ExecTicket:
    """For the CLI: connect to `socket`, send `ticket`, receive the terminal's master. Valid for the peer's uid only."""

    socket: str
    ticket: str


class Node(Protocol):
    """This host. Every action is safe to repeat; outcomes come back as reports."""

    def start(self, record: Record) -> None: ...
    def freeze(self, record: Record) -> None: ...
    def thaw(self, record: Record) -> None: ...
    def stop(self, record: Record) -> None:
        """Signal, grace, kill, as `record.cancel` says (also for a time limit: `by` is "time_limit"), thawed as needed.

        A stronger request replaces a weaker one. A frozen record without placement owns no CPUs to handle a signal
        on, and no room was found for it: killed at once.
        """

    def warn(self, record: Record) -> None:
        """The signal of the spec's `warn`, to every process; then Warned is reported."""

    def reprioritise(self, record: Record) -> None:
        """Writes CPU weight, I/O weight and network class of the record into the kernel, frozen or not."""

    def usage(self, execution: ExecutionId) -> Usage | None:
        """Live counters and the running time; None when the execution is not here."""

    def resident_bytes(self, execution: ExecutionId) -> int | None:
        """What would stay in RAM if it were frozen now: anonymous, shared, unevictable; None when it is not here."""

    def running_s(self, execution: ExecutionId) -> float: ...
    def log_path(self, execution: ExecutionId, stream: str) -> str:
        """`stream`: "stdout" | "stderr". The file may be sparse at its start (old output dropped)."""

    async def exec(
        self, record: Record, argv: Sequence[str], *, tty: bool, env: Sequence[tuple[str, str]], peer: Owner
    ) -> ExecTicket: ...
    async def inspect(self, record: Record, *, environment: bool) -> Snapshot:
        """Its processes as they are now, running or frozen; nothing in the job notices. Raises WrongState."""

    def describe(self) -> dict[str, Any]:
        """Capabilities, topology, pools: for `jobs show --host`."""
