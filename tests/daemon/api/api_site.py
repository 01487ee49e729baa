"""The real API on a real socket with the real store and writer; the test plays the scheduler and the node.

The daemon runs in a thread. Clients are the product's own; another user is a connection made under that user's ids.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from builders import a_capacity, a_host, a_placement

from jobs import events as ev
from jobs.client import Client
from jobs.errors import HostError, UserError
from jobs.events import Owner, Usage
from jobs.ids import ExecutionId
from jobs.inspection import Call, Process, Snapshot, Thread
from jobs.policyfile import load
from jobs.record import Record
from jobs.spec import JobSpec
from jobs.specfile import parse
from scheduler.api.access import Access
from scheduler.api.app import create_app
from scheduler.api.parts import Parts
from scheduler.api.peer import PeerProtocol
from scheduler.api.server import bind, serve
from scheduler.clock import SystemClock
from scheduler.explaining import Explaining
from scheduler.ports import ExecTicket
from scheduler.queues import Queues
from scheduler.remembering import Remembering
from scheduler.store import Store
from scheduler.world import World
from scheduler.writer import Writer

ALICE, BOB, OPERATOR = 61001, 61002, 61003
OPERATORS_GID = 61100
HELLO = 'name = "hello"\ncommand = ["echo", "hello"]\n'


@dataclass
class ApiNode:
    """What the API asks of a node. Everything else of ports.Node belongs to the loop."""

    folder: Path
    exec_socket: str = "/nowhere/exec.sock"
    usages: dict[str, Usage] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    executed: list[tuple[int, tuple[str, ...], bool, Owner]] = field(default_factory=list)

    def usage(self, execution: ExecutionId) -> Usage | None:
        return self.usages.get(str(execution))

    def running_s(self, execution: ExecutionId) -> float:
        return self.running.get(str(execution), 0.0)

    def log_path(self, execution: ExecutionId, stream: str) -> str:
        return str(self.folder / str(execution) / stream)

    async def exec(
        self, record: Record, argv: Sequence[str], *, tty: bool, env: Sequence[tuple[str, str]], peer: Owner
    ) -> ExecTicket:
        self.executed.append((record.job, tuple(argv), tty, peer))
        return ExecTicket(self.exec_socket, "t" * 32)

    async def inspect(self, record: Record, *, environment: bool) -> Snapshot:
        thread = Thread(1, 1, "t", "sleeping", call=Call("read", "read(0)", (0,)))
        variables = {"HOME": "/"} if environment else None
        process = Process(1, 1, 0, ("t",), "/t", "/", record.owner.uid, (thread,), environment=variables)
        return Snapshot(record.written, record.spec.name, str(record.state), 1.0, processes=(process,))

    def describe(self) -> dict[str, Any]:
        return {"kernel": "6.18", "executions": ["1.0.1"]}

    # The loop's verbs: the API must not call them.
    def _not_from_the_api(self, record: Record) -> None:
        raise AssertionError("the API told the node to act")

    start = freeze = thaw = stop = warn = reprioritise = _not_from_the_api


@dataclass(frozen=True)
class AnImage:
    name: str
    size_bytes: int


class ApiImages:
    def __init__(self) -> None:
        self.known: dict[str, AnImage] = {}

    async def import_(self, name: str, source_fd: int, *, kind: str, owner: Owner, archive: str) -> AnImage:
        self.known[name] = AnImage(name, len(os.read(source_fd, 100)))
        return self.known[name]

    async def list(self) -> list[AnImage]:
        return list(self.known.values())

    async def remove(self, name: str) -> None:
        if name not in self.known:
            raise UserError(f"no image {name!r}")
        del self.known[name]


class ApiSite:
    def __init__(self, folder: Path, portal: BlockingPortal) -> None:
        self.folder, self.portal = folder, portal
        self.socket = str(folder / "jobsd.sock")
        self.node = ApiNode(folder / "spool")
        self.images = ApiImages()
        self.waits_for: list[str] = []
        self.broken = False  # the parser meets a bug of ours
        self.writer: Writer
        self.store: Store

    def start_daemon(self) -> None:
        self._daemon, _ = self.portal.start_task(self.run)

    def stop_daemon(self) -> None:
        self._daemon.cancel()
        self.portal.call(self._ended.wait)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        self._ended = anyio.Event()
        self.store = await Store(str(self.folder / "journal.db")).open()
        try:
            host = {"cpus_per_node": 64, "memory_per_node": 1 << 40}
            world = World.of(
                a_capacity(**host), await self.store.live_records(), await self.store.policy(),
                used=await self.store.used(),
            )  # fmt: skip
            assert self.store.history is not None
            self.writer = Writer(self.store, world, SystemClock())
            self.queues = Queues(world, self.writer, SystemClock(), lambda: load(str(self.folder / "policy.toml")))
            parts = Parts(
                writer=self.writer, reader=self.store, node=self.node, parse=self._parse, admit=self._admit,
                images=self.images, open_source=self._open, access=Access(OPERATORS_GID),
                explain=lambda record: self.waits_for, explaining=Explaining(world, SystemClock()),
                remembering=Remembering(self.store.history, SystemClock()),
                topology=a_host(**host), capacity=a_capacity(**host),
                queues=self.queues,
            )  # fmt: skip
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.writer.run)
                await tasks.start(serve, create_app(parts), bind(self.socket))
                task_status.started()
        finally:
            with anyio.CancelScope(shield=True):
                await self.store.close()
            self._ended.set()

    def _parse(self, text: str, **where: Any) -> tuple[JobSpec, ...]:
        if self.broken:
            raise ZeroDivisionError("secret of the daemon")
        return parse(text, **where)

    async def _admit(self, spec: JobSpec, owner: Owner) -> JobSpec:
        spec = await self.queues.admit(spec, owner)
        if spec.resources.cpus > 64:
            raise UserError(f"{spec.resources.cpus:g} CPUs wanted, this host has 64", hint="ask for fewer")
        return spec

    async def _open(self, owner: Owner, path: str) -> int:
        if "secret" in path and owner.uid != 0:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return os.open(path, os.O_RDONLY)

    # --- the test's hands ---------------------------------------------------------------------------------------------

    def client(self, uid: int = 0, *groups: int) -> Client:
        with as_user(uid, groups):
            client = Client(self.socket)
            client.connect()
        return client

    def report(self, event: ev.Event) -> Record:
        assert self.portal.call(self.writer.report, event), event
        record = self.portal.call(self.store.record, event.job)
        assert record is not None
        return record

    def place(self, job: int) -> Record:
        record = self.portal.call(self.store.record, job)
        assert record is not None
        following = ExecutionId(job, 0, record.attempt + 1)
        (self.node.folder / str(following)).mkdir(parents=True, exist_ok=True)
        return self.report(ev.Placed(job, str(following), a_placement(job % 64), 1.0))

    def start(self, job: int) -> Record:
        return self.report(ev.Started(job, str(self.place(job).execution), 2.0, "10.0.0.2", "v2"))

    def freeze(self, job: int) -> Record:
        return self.report(ev.Frozen(job, self.execution(job), 0.001, 1.5, 1 << 20, 3.0))

    def end(self, job: int, status: int = 0, cause: str = "") -> Record:
        return self.report(ev.Exited(job, self.execution(job), status, cause, 2.5, Usage(cpu_s=1.25), 4.0))

    def execution(self, job: int) -> str:
        record = self.portal.call(self.store.record, job)
        assert record is not None
        return str(record.execution)

    def write_log(self, job: int, data: bytes, stream: str = "stdout", *, execution: str = "") -> None:
        with open(self.node.log_path(ExecutionId.parse(execution or self.execution(job)), stream), "ab") as file:
            file.write(data)

    def connections(self) -> Counter[int]:
        """uid of each open connection."""
        return Counter(PeerProtocol.connected.elements())

    def head(self) -> tuple[int, str]:
        return self.portal.call(self.store.head)


@contextmanager
def as_user(uid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Effective ids of this process; the kernel notes them when a connection is made. Needs root for another user."""
    if uid == os.geteuid():
        yield
        return
    if os.geteuid() != 0:
        raise HostError("these tests act as several users: run them as root")
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
