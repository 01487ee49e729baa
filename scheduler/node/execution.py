"""One execution on this host, from its container's making to its clean-up: one task, one object.

Verbs (freeze, thaw, stop, reprioritise) are queued and done one at a time, each with the newest record.
Cancelling the task leaves the container as it is: the next daemon adopts it (`adopted=True`).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from jobs import events as ev
from jobs.errors import HostError, JobsError, StepFailed
from jobs.priority_class import PriorityClass
from jobs.record import Record, State
from runtime import exitrecord
from runtime.cgroups.freezer import FreezeTimeout
from runtime.cgroups.tree import JobGroup
from scheduler.node.prepare import Host, Prepared, limits, prepare, readopt
from scheduler.node.running import RunClock
from scheduler.node.undo import Undo

log = logging.getLogger("jobs.node")


class Execution:
    """`record` is the newest one that the loop handed over. `finished` is called once, after the clean-up."""

    def __init__(self, host: Host, record: Record, finished: Callable[[Execution], None]) -> None:
        self.host, self.record, self._finished = host, record, finished
        self.id = str(record.execution)
        self.clock = RunClock(record.ran_s)
        self.group: JobGroup | None = None
        self.prepared: Prepared | None = None
        self._undo = Undo()
        self._verbs, self._next_verb = anyio.create_memory_object_stream[str](math.inf)
        self._grace: anyio.CancelScope | None = None
        self._stopping_for = ""

    # ── what the supervisor asks ────────────────────────────────────────────────────────────────────────────────

    def ask(self, verb: str, record: Record) -> None:
        """Never blocks. A repeated verb is harmless: each looks at the kernel first."""
        self.record = record
        if verb == "stop" and record.cancel is not None:
            self._stopping_for = "time_limit" if record.cancel.by == "time_limit" else "cancelled"
        self._verbs.send_nowait(verb)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run_fresh(self) -> None:
        """Builds the container, runs it, cleans up."""
        try:
            pidfd = await self._build()
        except JobsError as error:
            await self._start_failed(error)
            return await self._clean_up()
        except Exception as error:
            log.exception("execution %s could not be started", self.id)
            await self._start_failed(HostError(f"internal error while starting: {error}"))
            return await self._clean_up()
        await self._live(pidfd)

    async def run_adopted(self) -> None:
        """After a restart of the daemon: the container lives, or ended while nobody looked."""
        self.prepared, self.group = await readopt(self.host, self.record, self._undo)
        if self.record.state in (State.RUNNING, State.THAWING) and self.record.running_since:
            # Monotonic time before the restart is lost; the wall clock is the best witness of the time since.
            self.clock.ran_s += max(0.0, time.time() - self.record.running_since)
        marker = exitrecord.read_marker(self._spool("started"))
        pidfd = exitrecord.open_monitor(marker) if marker else None
        await self._live(pidfd)

    async def _build(self) -> int:
        self.prepared = await prepare(self.host, self.record, self._undo)
        self.group = self.prepared.group
        launcher = await self.host.launcher()
        try:
            created = await launcher.create(self.id, self.prepared.plan, self.prepared.fds)
        finally:
            self.prepared.close_fds()
        self.prepared.init_pid = created.init_pid
        try:
            await self._attach_network()
            self._retune()  # a priority changed since the placement
            await launcher.go(self.id)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._abandon(created.monitor_pidfd)
            raise
        self.clock.start(time.monotonic())
        await self._report(
            ev.Started(self.record.job, self.id, time.time(), self.prepared.address, self.host.caps.freezer)
        )
        return created.monitor_pidfd

    async def _abandon(self, pidfd: int) -> None:
        """Nothing ran: end what was created, and wait until it is gone."""
        with anyio.move_on_after(5):
            try:
                await (await self.host.launcher()).abandon(self.id)
            except (JobsError, OSError):
                pass  # a launcher that died takes the waiting child with it: it reads end of file
            await anyio.wait_readable(pidfd)
        os.close(pidfd)

    async def _live(self, pidfd: int | None) -> None:
        if self.record.state in (State.RUNNING, State.STARTING, State.THAWING) and not self._frozen():
            self.clock.start(time.monotonic())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._do_verbs, tasks)
            if pidfd is not None:
                await anyio.wait_readable(pidfd)
                os.close(pidfd)
            tasks.cancel_scope.cancel()
        self.clock.stop(time.monotonic())
        await self._ended()
        await self._clean_up()

    async def _ended(self) -> None:
        if self.group is not None:
            # The monitor is gone; nobody may live on without one (and a killed monitor leaves them).
            await self.group.kill()
        found = exitrecord.read(self._spool("exit"))
        if found is None:
            await self._report(
                ev.Lost(self.record.job, self.id, "ended without an exit record (its monitor was killed, or the host "
                        "went down)", time.time())
            )  # fmt: skip
            return
        if found.step:
            failed = StepFailed(found.step, found.errno, found.path)
            await self._report(
                ev.StartFailed(self.record.job, self.id, found.step, found.errno, found.path, failed.message,
                               found.ended_at)
            )  # fmt: skip
            return
        usage = self.usage()
        cause = self._stopping_for
        if not cause and usage.oom_kills and found.status != 0:
            cause = "oom"
        await self._report(
            ev.Exited(self.record.job, self.id, found.status, cause, self.clock.total(time.monotonic()), usage,
                      found.ended_at)
        )  # fmt: skip

    async def _start_failed(self, error: JobsError) -> None:
        step, errno, path = (error.step, error.errno, error.path) if isinstance(error, StepFailed) else ("", 0, "")
        await self._report(
            ev.StartFailed(self.record.job, self.id, step, errno, path, error.message, time.time())
        )

    async def _clean_up(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(30):
            leftovers = await self._undo.unwind()
            await self._report(ev.CleanedUp(self.record.job, self.id, leftovers))
        self._finished(self)

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _do_verbs(self, tasks: TaskGroup) -> None:
        async for verb in self._next_verb:
            try:
                match verb:
                    case "freeze":
                        await self._freeze()
                    case "thaw":
                        await self._thaw()
                    case "reprioritise":
                        await self._reprioritise()
                    case "stop":
                        await self._stop(tasks)
            except (JobsError, OSError) as error:
                log.error("%s of execution %s failed: %s", verb, self.id, error)

    async def _freeze(self) -> None:
        if not self.record.pause_holds:
            return  # resumed meanwhile
        group = self._group()
        began = time.monotonic()
        try:
            took = 0.0 if group.freezer.is_frozen() else await group.freezer.freeze(self.host.settings.freeze_deadline_s)
        except FreezeTimeout as error:
            await self._report(
                ev.FreezeFailed(self.record.job, self.id, str(error), time.monotonic() - began, time.time())
            )
            return
        self.clock.stop(time.monotonic())
        await self._report(
            ev.Frozen(self.record.job, self.id, took, self.clock.total(time.monotonic()), group.resident_bytes(),
                      time.time())
        )  # fmt: skip

    async def _thaw(self) -> None:
        """CPUs, memory nodes, weights and class first, then the thaw (DESIGN §9)."""
        group = self._group()
        began = time.monotonic()
        await anyio.to_thread.run_sync(self._retune)  # moving pages to another node can take seconds
        await self._retag()
        if group.freezer.is_frozen():
            await group.freezer.thaw()
        self.clock.start(time.monotonic())
        await self._report(ev.Thawed(self.record.job, self.id, time.monotonic() - began, time.time()))

    async def _reprioritise(self) -> None:
        self._retune()
        await self._retag()

    async def _stop(self, tasks: TaskGroup) -> None:
        """The signal to every process of the job, then after the grace the kill. Asked again: the newest wish counts."""
        cancel, group = self.record.cancel, self._group()
        if cancel is None:
            return
        if self._grace is not None:
            self._grace.cancel()
        if cancel.grace_s <= 0 or cancel.signal == "KILL":
            await group.kill()
            return
        if group.freezer.is_frozen():
            await group.freezer.thaw()  # a frozen task does not see its signal
            self.clock.start(time.monotonic())
        group.signal(getattr(signal, f"SIG{cancel.signal}"))
        self._grace = anyio.CancelScope()
        tasks.start_soon(self._kill_after, cancel.grace_s, self._grace)

    async def _kill_after(self, grace_s: float, scope: anyio.CancelScope) -> None:
        with scope:
            await anyio.sleep(grace_s)
            await self._group().kill()

    # ── the kernel's side ───────────────────────────────────────────────────────────────────────────────────────

    def _retune(self) -> None:
        """The record's placement, weights and class into the job's own group, frozen or not."""
        if self.record.placement is not None:
            self._group().apply(limits(self.host, self.record))

    async def _retag(self) -> None:
        if self.host.network is not None and self.prepared is not None and self.prepared.address:
            await self.host.network.set_priority(self.prepared.address, PriorityClass(self.record.network_class))

    async def _attach_network(self) -> None:
        slot = self.prepared.slot if self.prepared else None
        if self.host.network is None or slot is None or slot.attachment is None:
            return
        spec = self.record.spec
        await self.host.network.attach(
            slot.attachment,
            execution_id=self.id,
            owner_uid=self.record.owner.uid,
            job_name=spec.name,
            priority_class=PriorityClass(self.record.network_class),
            publish=spec.network.publish,
            rate_bits_s=spec.network.rate_bits_s,
        )

    def usage(self) -> ev.Usage:
        """The group's counters and the bytes of output so far."""
        counters = self.group.usage() if self.group is not None else ev.Usage()
        return replace(counters, stdout_bytes=self._log_size("stdout"), stderr_bytes=self._log_size("stderr"))

    def _log_size(self, stream: str) -> int:
        try:
            return os.stat(self._spool(stream)).st_size
        except FileNotFoundError:
            return 0

    def _spool(self, name: str) -> str:
        return f"{self.host.settings.state_dir}/spool/{self.id}/{name}"

    def _frozen(self) -> bool:
        return self.group is not None and self.group.freezer.is_frozen()

    def _group(self) -> JobGroup:
        if self.group is None:
            raise HostError(f"execution {self.id} has no cgroup yet")
        return self.group

    async def _report(self, event: ev.Event) -> None:
        await self.host.report(event)
