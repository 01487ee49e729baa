"""This host, as the scheduler sees it (`ports.Node`): one task per execution, verbs handed to it, reports handed back.

No policy here: which job, and whether, was decided before. Never imports store, journal or decide (ARCHITECTURE.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from jobs.errors import WrongState
from jobs.events import Owner, Usage
from jobs.ids import ExecutionId
from jobs.inspection import Snapshot
from jobs.record import Record, State
from scheduler.node import hotplug
from scheduler.node.ending import clean_up
from scheduler.node.execution import Execution
from scheduler.node.host import Host
from scheduler.node.looking import look_at
from scheduler.ports import ExecTicket

log = logging.getLogger("jobs.node")

WATCH_S = 5.0  # a CPU goes offline by an operator's hand; nobody needs to know within milliseconds


class Supervisor:
    """`tasks` is the daemon's task group: cancelling it leaves the containers as they are."""

    def __init__(self, host: Host, tasks: TaskGroup) -> None:
        self._host, self._tasks = host, tasks
        self._executions: dict[str, Execution] = {}
        self._offline: frozenset[int] = frozenset()  # of the CPUs that jobs may have

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, record: Record) -> None:
        """A second call for an execution that is here does nothing."""
        if str(record.execution) not in self._executions:
            self._tasks.start_soon(self._guarded, self._add(record), False, name=f"execution {record.execution}")

    def adopt(self, record: Record) -> None:
        """After a restart: an execution of an earlier daemon, alive or just ended."""
        if str(record.execution) not in self._executions:
            self._tasks.start_soon(self._guarded, self._add(record), True, name=f"execution {record.execution}")

    def clean_up(self, execution: ExecutionId, record: Record | None) -> None:
        """After a restart: what is left of an execution that has ended, or that no record knows."""
        self._tasks.start_soon(self._clean_up, execution, record, name=f"clean-up of {execution}")

    def freeze(self, record: Record) -> None:
        self._ask("freeze", record)

    def thaw(self, record: Record) -> None:
        self._ask("thaw", record)

    def stop(self, record: Record) -> None:
        self._ask("stop", record)

    def warn(self, record: Record) -> None:
        self._ask("warn", record)

    def reprioritise(self, record: Record) -> None:
        self._ask("reprioritise", record)

    def _add(self, record: Record) -> Execution:
        execution = Execution(self._host, record, self._drop)
        self._executions[execution.id] = execution
        return execution

    async def _guarded(self, execution: Execution, adopted: bool) -> None:
        """A defect of ours in one execution is no reason to stop all the others; the next daemon takes it over."""
        try:
            await (execution.run_adopted() if adopted else execution.run_fresh())
        except Exception:
            log.exception("execution %s is left as it is until the daemon starts again", execution.id)
            self._drop(execution)

    async def _clean_up(self, execution: ExecutionId, record: Record | None) -> None:
        try:
            await clean_up(self._host, execution, record)
        except Exception:
            log.exception("what is left of execution %s stays until the daemon starts again", execution)

    def _drop(self, execution: Execution) -> None:
        self._executions.pop(execution.id, None)

    def _ask(self, verb: str, record: Record) -> None:
        execution = self._executions.get(str(record.execution))
        if execution is not None:  # else it has just ended, and its report is on the way
            execution.ask(verb, record)

    # ── CPUs that come and go ───────────────────────────────────────────────────────────────────────────────────

    async def watch_processors(self) -> None:
        """Looks now and then: sysfs tells nobody by itself."""
        while True:
            self.look_at_processors()
            await anyio.sleep(WATCH_S)

    def look_at_processors(self) -> None:
        now = self._host.offline()
        change = hotplug.compare(self._offline, now, self._holders())
        if self._offline - now:
            self._host.tree.widen()
        self._offline = now
        for line in change.warnings:
            log.warning(line)
        for name in change.restore:
            execution = self._executions[name]
            execution.ask("reprioritise", execution.record)

    def _holders(self) -> dict[str, tuple[int, ...]]:
        placed = ((name, execution.record.placement) for name, execution in self._executions.items())
        return {name: placement.cpus for name, placement in placed if placement is not None}

    # ── looks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def usage(self, execution: ExecutionId) -> Usage | None:
        found = self._executions.get(str(execution))
        return found.usage() if found is not None and found.group is not None else None

    def resident_bytes(self, execution: ExecutionId) -> int | None:
        found = self._executions.get(str(execution))
        return found.resident_bytes() if found is not None else None

    def running_s(self, execution: ExecutionId) -> float:
        found = self._executions.get(str(execution))
        return found.clock.total(time.monotonic()) if found is not None else 0.0

    def log_path(self, execution: ExecutionId, stream: str) -> str:
        return f"{self._host.settings.state_dir}/spool/{execution}/{stream}"

    def describe(self) -> dict[str, Any]:
        caps, topology = self._host.caps, self._host.topology
        return {
            "node": self._host.node_id,
            "kernel": caps.kernel,
            "boot_id": caps.boot_id,
            "freezer": caps.freezer,
            "controllers": {mount.controller: f"v{mount.version}" for mount in caps.controllers.values()},
            "namespaces": sorted(caps.namespaces),
            "features": sorted(caps.features),
            "nodes": [
                {"id": node.id, "cpus": list(node.cpus), "memory_bytes": node.memory_bytes} for node in topology.nodes
            ],
            "generic": {item.name: len(item.instances) for item in topology.generic},
            "executions": sorted(self._executions),
            "offline": hotplug.lost(self._host.offline(), self._holders()),
            "in_the_way": list(self._host.in_the_way),
        }

    async def inspect(self, record: Record, *, environment: bool) -> Snapshot:
        """Raises WrongState for a job without processes."""
        execution = self._executions.get(str(record.execution))
        if execution is None or execution.group is None or not record.state.on_node:
            raise WrongState(
                f"job {record.written} is {str(record.state).replace('_', ' ')}; there are no processes to look at",
                hint=f"jobs show {record.written}" if record.state.final else f"jobs why {record.written}",
            )
        return await look_at(record, execution.group, self._host.helper, environment=environment)

    async def exec(
        self, record: Record, argv: Sequence[str], *, tty: bool, env: Sequence[tuple[str, str]], peer: Owner
    ) -> ExecTicket:
        """Raises WrongState for a job that does not run: nothing can start in a frozen group."""
        execution = self._executions.get(str(record.execution))
        if execution is None or execution.prepared is None or record.state is not State.RUNNING:
            raise WrongState(
                f"job {record.job} is {record.state}; exec needs a running job",
                hint=f"resume it first: jobs resume {record.job}" if record.state is State.FROZEN else "",
            )
        request = execution.prepared.exec_request(argv, tty=tty, env=env)
        launcher = await self._host.launcher()
        ticket = await launcher.open_exec(execution.id, request, peer.uid)
        return ExecTicket(self._host.settings.exec_socket, ticket)
