"""A real launcher on a folder of its own, and containers in it. Used by the tests of this folder only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
from patience import PATIENCE_S

from jobs.events import Owner
from jobs.host import CONTROLLERS, ControllerMount, HostCaps
from jobs.spec import JobSpec
from runtime import exitrecord, launcher
from runtime.client import Created, Launcher
from runtime.exitrecord import ExitRecord
from runtime.plan import ImageRoot, Inputs, exec_request, plan

T = TypeVar("T")
BASE = 1_900_000_000  # host ids of these tests' jobs
ALICE = Owner(1000, 1000, (1000, 2000), "alice")
HOST_IMAGE = ImageRoot("host", ("/",))
DEADLINE_S = PATIENCE_S


class Finished(NamedTuple):
    record: ExitRecord
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class Box:
    """One container from its slot on."""

    def __init__(self, lab: Lab, client: Launcher, inputs: Inputs, fds: tuple[int, ...]) -> None:
        self.lab, self.client, self.inputs, self.fds = lab, client, inputs, fds
        self.created: Created | None = None

    @property
    def id(self) -> str:
        return self.inputs.execution_id

    @property
    def spool(self) -> Path:
        return Path(self.inputs.spool)

    @property
    def init_pid(self) -> int:
        assert self.created is not None
        return self.created.init_pid

    async def create(self) -> Created:
        self.created = await self.client.create(self.id, plan(self.inputs).to_bytes(), self.fds)
        return self.created

    async def go(self) -> None:
        await self.client.go(self.id)

    async def ended(self) -> Finished:
        assert self.created is not None
        with anyio.fail_after(DEADLINE_S):
            await anyio.wait_readable(self.created.monitor_pidfd)
        return self.finished()

    def finished(self) -> Finished:
        record = exitrecord.read(f"{self.spool}/exit")
        assert record is not None
        return Finished(record, (self.spool / "stdout").read_text(), (self.spool / "stderr").read_text())

    async def until_output(self, text: str, stream: str = "stdout") -> None:
        """The program has said `text`: it runs, and its output arrived through the monitor."""
        with anyio.fail_after(DEADLINE_S):
            while text not in (self.spool / stream).read_text():  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.005)

    async def exec(
        self, *argv: str, tty: bool = False, freezers: tuple[str, ...] = (), uid: int = 0, env: tuple[Any, ...] = ()
    ) -> socket.socket:
        """A connection to exec.sock that has shown its ticket."""
        request = exec_request(self.inputs, argv, tty=tty, env=env, freezers=freezers)
        ticket = await self.client.open_exec(self.id, request, uid)
        return self.lab.show_ticket(ticket)


class Lab:
    """`run_dir`, `state_dir` and the launcher's process. Jobs are numbered from 1."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-lab-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.state_dir, self.run_dir = self.folder / "state", self.folder / "run"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / "launcher.log"
        self._epoch = self._number = 0

    def start(self, environment: Mapping[str, str] | None = None, prelude: str = "") -> None:
        """`prelude`: Python that runs in the launcher before it starts."""
        command = launcher.command(str(self.state_dir), str(self.run_dir))
        if prelude:
            place = command.index("-c") + 1
            command[place] = command[place].replace("from runtime.launcher", f"{prelude}; from runtime.launcher")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()
        self.process = None

    def close(self) -> None:
        if self.process is not None:
            self.kill(signal.SIGTERM)
        print(self.log.read_text())  # pytest shows it with a failure
        shutil.rmtree(self.folder)

    def new_id(self) -> str:
        self._number += 1
        return f"{self._number}.0.1"

    async def connect(self) -> Launcher:
        """Waits until the launcher listens."""
        self._epoch += 1
        with anyio.fail_after(DEADLINE_S):
            while True:
                try:
                    return await Launcher.connect(f"{self.run_dir}/launcher.sock", self._epoch)
                except OSError:
                    assert self.process is None or self.process.poll() is None, self.log.read_text()
                    await anyio.sleep(0.01)

    def call(self, body: Callable[[Launcher], Awaitable[T]]) -> T:
        """Runs `body` with a connection of its own."""

        async def main() -> T:
            client = await self.connect()
            try:
                return await body(client)
            finally:
                client.close()

        return anyio.run(main)

    @asynccontextmanager
    async def box(
        self, client: Launcher, spec: JobSpec, extra: tuple[int, ...] = (), **changes: Any
    ) -> AsyncIterator[Box]:
        """`extra` descriptors follow the slot's: the first has index 2. `network=False`: no network namespace."""
        execution = self.new_id()
        spool = self.state_dir / "spool" / execution
        spool.mkdir()
        network = changes.pop("network", True)
        maps = {"uid_map": id_map(changes.get("extra_ids", ())), "gid_map": id_map(changes.get("extra_gids", ()))}
        slot = await client.slot(**maps, network=network)
        given = (slot.userns, slot.netns, *extra) if network else (slot.userns, *extra)
        values: dict[str, Any] = {
            "execution_id": execution,
            "spec": spec,
            "owner": ALICE,
            "caps": caps(),
            "id_base": BASE,
            "image": HOST_IMAGE,
            "spool": str(spool),
            "hostname": "lab",
            "init": shutil.which("catatonit") or "",
            "userns_fd": 0,
            "netns_fd": 1 if network else -1,
            "hide": (str(self.state_dir), str(self.run_dir)),
        }
        box = Box(self, client, Inputs(**(values | changes)), given)
        try:
            yield box
        finally:
            await self._end(box)
            for fd in (slot.userns, slot.netns, slot.netlink):
                if fd >= 0:
                    os.close(fd)

    async def _end(self, box: Box) -> None:
        if box.created is None:
            return
        with anyio.CancelScope(shield=True):
            marker = exitrecord.read_marker(f"{box.spool}/started")
            monitor = exitrecord.open_monitor(marker) if marker else None
            if monitor is not None:
                try:
                    os.kill(box.created.init_pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                await anyio.wait_readable(monitor)
                os.close(monitor)
            os.close(box.created.monitor_pidfd)

    def run(self, *command: str, script: str = "", extra: tuple[int, ...] = (), **changes: Any) -> Finished:
        """A whole job. Keys of the spec may be among those of Inputs; a key of both is Inputs'."""
        ours = set(JobSpec.__dataclass_fields__) - set(Inputs.__dataclass_fields__) - {"network"}
        keys = {key: changes.pop(key) for key in list(changes) if key in ours}
        spec = JobSpec(name="lab", command=command, script=script, **keys)

        async def body(client: Launcher) -> Finished:
            async with self.box(client, spec, extra, **changes) as box:
                await box.create()
                await box.go()
                return await box.ended()

        return self.call(body)

    def show_ticket(self, ticket: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(DEADLINE_S)
        connection.connect(f"{self.run_dir}/exec.sock")
        connection.send(f'["Ticket", "{ticket}"]'.encode())
        return connection


def id_map(extra: tuple[tuple[int, int], ...] = ()) -> str:
    return "".join(
        f"{inside} {outside} {count}\n" for inside, outside, count in [(0, BASE, 65536), *((i, o, 1) for i, o in extra)]
    )


def caps() -> HostCaps:
    """As much of the host as the planner looks at."""
    controllers, unified = {}, ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind == "cgroup2":
            unified = head.split()[4]
        elif kind == "cgroup":
            for option in options.split(","):
                name = "io" if option == "blkio" else option
                if name in CONTROLLERS:
                    controllers[name] = ControllerMount(name, 1, head.split()[4])
    return HostCaps("", exitrecord.boot_id(), controllers, unified, "v2" if unified else "v1", frozenset())
