"""One execution on this host, from its container's making to its clean-up: one task, one object.

Verbs (freeze, thaw, stop, warn, reprioritise) are queued and done one at a time, each with the newest record.
Cancelling the task leaves the container as it is: the next daemon adopts it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from jobs import events as ev
from jobs.errors import HostError, JobsError, LauncherGone, StepFailed, Unavailable
from jobs.priority_class import PriorityClass
from jobs.record import Cancel, Record, State
from jobs.states import cause_of
from runtime import exitrecord, faultpoint
from runtime.cgroups.freezer import FreezeTimeout
from runtime.cgroups.group import JobGroup
from runtime.cgroups.net_priority import carriers
from runtime.client import Created, Launcher
from scheduler.node.ending import kill_for_good, let_go
from scheduler.node.hints import hint_for
from scheduler.node.host import Host
from scheduler.node.prepare import Prepared, limits, prepare, readopt, spool_of
from scheduler.node.running import RunClock
from scheduler.node.undo import Undo
from scheduler.reconcile import STOPPED

log = logging.getLogger("jobs.node")

RETRY_S = 1.0
FATE_S = 10.0  # a container that waits for *go* and reads end of file is gone within milliseconds; this is patience


class NeverRan(JobsError):
    """The start was cut off before the program ran: it may be tried again."""


class Execution:
    """`record` is the newest one that the loop handed over. `finished` is called once, after the clean-up."""

    def __init__(self, host: Host, record: Record, finished: Callable[[Execution], None]) -> None:
        self.host, self.record, self._finished = host, record, finished
        self.id = str(record.execution)
        self.clock = RunClock(record.ran_s)
        self.group: JobGroup | None = None
        self.prepared: Prepared | None = None
        self._spool = spool_of(host, self.id)
        self._undo = Undo()
        self._verbs: dict[str, None] = {}  # asked for and not begun, each once
        self._asked = anyio.Event()
        self._grace: anyio.CancelScope | None = None
        self._stopped_as: Cancel | None = None

    # ── what the supervisor asks ────────────────────────────────────────────────────────────────────────────────

    def ask(self, verb: str, record: Record) -> None:
        """Never blocks. A repeated verb is harmless: each looks at the kernel first."""
        self.record = record
        self._verbs.setdefault(verb)
        self._asked.set()

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run_fresh(self) -> None:
        """Builds the container, runs it, cleans up."""
        try:
            pidfd = await self._build()
        except (JobsError, OSError) as error:
            await self._start_failed(error)
            await self._clean_up()
        except Exception as error:
            log.exception("execution %s could not be started", self.id)
            await self._start_failed(HostError(f"internal error while starting: {error!r}"))
            await self._clean_up()
        else:
            await self._live(pidfd)

    async def run_adopted(self) -> None:
        """After a restart of the daemon: the container lives, or ended while nobody looked, or was never finished."""
        marker = exitrecord.read_marker(f"{self._spool}/started")
        if marker is None and self.record.state is State.STARTING:
            await self.run_fresh()  # nothing was created yet: the same attempt goes on
            return
        self.prepared = await readopt(self.host, self.record, self._undo)
        self.group = self.prepared.group
        pidfd = exitrecord.open_monitor(marker) if marker is not None else None
        if self.record.state is State.STARTING:
            try:
                await self._fate(pidfd)
            except JobsError as error:
                await self._start_failed(error)
                await self._clean_up()
                return
            await self._started()
        elif self.record.running_since:
            # Monotonic time before the restart is lost; the wall clock is the best witness of the time since.
            self.clock.ran_s += max(0.0, time.time() - self.record.running_since)
        await self._live(pidfd)

    async def _build(self) -> int:
        """Returns the monitor's pidfd once the program runs. Raises JobsError."""
        faultpoint.reach("jobsd-placed")
        await self.host.launcher_back()
        tuned = self.record.version
        self.prepared = await prepare(self.host, self.record, self._undo)
        self.group = self.prepared.group
        faultpoint.reach("jobsd-prepared")
        try:
            launcher, created = await self._create()
        except LauncherGone:
            return await self._fate(self._monitor())
        finally:
            self.prepared.close_fds()
        faultpoint.reach("jobsd-created")
        try:
            if self.record.version != tuned:
                self._retune()  # a priority has changed since the limits were written
            if self.record.cancel is not None:
                raise NeverRan("cancelled before it ran")
            await launcher.go(self.id)
        except LauncherGone:
            await self._fate(created.monitor_pidfd)
        except BaseException:
            await self._abandon(created.monitor_pidfd)
            raise
        faultpoint.reach("jobsd-gone")
        await self._started()
        faultpoint.reach("jobsd-started")
        return created.monitor_pidfd

    async def _create(self) -> tuple[Launcher, Created]:
        """The container, while its network is attached beside it. Raises JobsError; then neither is left to run."""
        assert self.prepared is not None
        launcher = await self.host.launcher()
        created: Created | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._attach_network)
                created = await launcher.create(self.id, self.prepared.plan, self.prepared.fds)
                faultpoint.reach("jobsd-creating")
        except BaseExceptionGroup as group:
            if created is not None:
                await self._abandon(created.monitor_pidfd)
            raise group.exceptions[0] from None
        assert created is not None
        return launcher, created

    def _monitor(self) -> int | None:
        marker = exitrecord.read_marker(f"{self._spool}/started")
        return exitrecord.open_monitor(marker) if marker is not None else None

    async def _fate(self, pidfd: int | None) -> int:
        """What became of a start whose launcher or daemon died in the middle: returns when the program runs or ran.

        The monitor decides: it notes `running` when execve succeeded, and ends when *go* can no longer come.
        Raises StepFailed when a step failed, NeverRan when it is certain that the program did not run.
        """
        with anyio.move_on_after(FATE_S):
            with suppress(JobsError, OSError):
                await (await self.host.launcher()).abandon(self.id)  # only one that still waits gives up
            while not self._runs():
                if pidfd is None or await _ended(pidfd, within_s=0.02):
                    break
        if self._runs():
            return -1 if pidfd is None else pidfd
        found = exitrecord.read(f"{self._spool}/exit")
        if found is not None and not found.step:
            return -1 if pidfd is None else pidfd  # it ran and ended; the record says how
        if self.group is not None:
            await kill_for_good(self.group)
        if pidfd is not None:
            os.close(pidfd)
        raise NeverRan("the launcher or the daemon ended in the middle of the start; the program did not run")

    def _runs(self) -> bool:
        marker = exitrecord.read_marker(f"{self._spool}/started")
        return marker is not None and marker.running

    async def _abandon(self, pidfd: int) -> None:
        """Nothing ran: end what was created, and wait until it is gone."""
        with anyio.move_on_after(FATE_S, shield=True):
            with suppress(JobsError, OSError):  # a launcher that died takes the waiting child with it
                await (await self.host.launcher()).abandon(self.id)
            await anyio.wait_readable(pidfd)
        os.close(pidfd)

    async def _started(self) -> None:
        self.clock.start(time.monotonic())
        address = self.prepared.address if self.prepared else ""
        driven = carriers(self.host.caps, self.record.spec.network.mode)
        notes = self.group.notes if self.group else ()
        await self._report(
            ev.Started(self.record.job, self.id, time.time(), address, self.host.caps.freezer, driven, notes)
        )

    async def _live(self, pidfd: int | None) -> None:
        if not self._frozen():
            self.clock.start(time.monotonic())
        if pidfd is not None and pidfd >= 0:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._do_verbs, tasks)
                tasks.start_soon(self._end_without_memory)
                await anyio.wait_readable(pidfd)
                tasks.cancel_scope.cancel()
            os.close(pidfd)
        self.clock.stop(time.monotonic())
        await self._ended()
        await self._clean_up()

    async def _ended(self) -> None:
        if self.group is not None:
            # The monitor is gone, and nobody may live on without one (a killed monitor leaves them).
            await kill_for_good(self.group)
        job, found = self.record.job, exitrecord.read(f"{self._spool}/exit")
        if found is None:
            marker = exitrecord.read_marker(f"{self._spool}/started")
            killed = "ended without an exit record: its monitor was killed, or the host went down"
            reason = STOPPED if marker is not None and marker.stopped else killed
            await self._report(ev.Lost(job, self.id, reason, time.time()))
            return
        if found.step:
            await self._start_failed(StepFailed(found.step, found.errno, found.path))
            return
        usage, cause = replace(self.usage(), dropped_bytes=found.dropped_bytes), self._cause()
        if not cause and usage.oom_kills and found.status != 0:
            cause = "oom"
        ran_s = self.clock.total(time.monotonic())
        await self._report(ev.Exited(job, self.id, found.status, cause, ran_s, usage, found.ended_at))

    def _cause(self) -> str:
        """Why it was stopped; "" when it ended by itself."""
        return cause_of(self._stopped_as) if self._stopped_as is not None else ""

    async def _start_failed(self, error: Exception) -> None:
        step, errno, path = (error.step, error.errno, error.path) if isinstance(error, StepFailed) else ("", 0, "")
        message = error.message if isinstance(error, JobsError) else str(error)
        told = "; ".join(filter(None, (error.hint if isinstance(error, JobsError) else "", hint_for(step, errno))))
        hint = f" ({told})" if told else ""
        await self._report(
            ev.StartFailed(self.record.job, self.id, step, errno, path, message + hint, time.time(),
                           requeue=isinstance(error, NeverRan | LauncherGone) or step == ev.ABANDONED)
        )  # fmt: skip

    async def _clean_up(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._report(ev.CleanedUp(self.record.job, self.id, await let_go(self.host, self.id, self._undo)))
        self._finished(self)

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _do_verbs(self, tasks: TaskGroup) -> None:
        while True:
            if not self._verbs:
                self._asked = anyio.Event()
                await self._asked.wait()
            verb = next(iter(self._verbs))
            del self._verbs[verb]
            try:
                match verb:
                    case "freeze":
                        await self._freeze()
                    case "thaw":
                        await self._thaw()
                    case "warn":
                        await self._warn()
                    case "reprioritise":
                        await self._reprioritise()
                    case "stop":
                        await self._stop(tasks)
            except (JobsError, OSError) as error:
                log.error("%s of execution %s failed: %s", verb, self.id, error)
            except Exception:  # a defect of ours in one verb of one job is no reason to stop all the others
                log.exception("%s of execution %s failed", verb, self.id)

    async def _end_without_memory(self) -> None:
        """A job whose process was killed for want of memory ends as a whole, on every kind of cgroups."""
        try:
            await self._group().kill_when_out_of_memory()
        except (JobsError, OSError) as error:
            log.error("execution %s is out of memory and could not be ended: %s", self.id, error)

    async def _freeze(self) -> None:
        if not self.record.to_freeze or self.record.cancel:
            return  # overtaken by a resume or a cancel
        group = self._group()
        began = time.monotonic()
        try:
            stands = group.freezer.is_frozen()
            took = 0.0 if stands else await group.freezer.freeze(self.host.settings.freeze_deadline_s)
        except FreezeTimeout as error:
            await self._report(
                ev.FreezeFailed(self.record.job, self.id, str(error), time.monotonic() - began, time.time())
            )
            return
        self.clock.stop(time.monotonic())
        ran_s, resident = self.clock.total(time.monotonic()), group.resident_bytes()
        await self._report(ev.Frozen(self.record.job, self.id, took, ran_s, resident, time.time()))

    async def _thaw(self) -> None:
        """CPUs, memory nodes, weights and class first, then the thaw. What cannot be done is tried again."""
        group = self._group()
        began = time.monotonic()
        try:
            await anyio.to_thread.run_sync(self._retune)  # moving pages to another node can take seconds
            await self._retag()
            await group.freezer.thaw()
        except (JobsError, OSError) as error:
            log.error("thaw of execution %s failed, again in %g s: %s", self.id, RETRY_S, error)
            await anyio.sleep(RETRY_S)
            ran_s, resident = self.clock.total(time.monotonic()), group.resident_bytes()
            await self._report(ev.Frozen(self.record.job, self.id, 0.0, ran_s, resident, time.time()))
            return
        self.clock.start(time.monotonic())
        await self._report(ev.Thawed(self.record.job, self.id, time.monotonic() - began, time.time()))

    async def _reprioritise(self) -> None:
        self._retune()
        await self._retag()

    async def _warn(self) -> None:
        """Sent, then reported: after a crash between the two it is sent again, which is better than never."""
        if self.record.warned or self.record.cancel is not None:
            return
        name = self.record.spec.warn.signal
        self._signal(name)
        await self._report(ev.Warned(self.record.job, self.id, name, time.time()))

    def _signal(self, name: str) -> None:
        """To every process of the job but its pid 1."""
        marker = exitrecord.read_marker(f"{self._spool}/started")
        self._group().signal(getattr(signal, f"SIG{name}"), besides=marker.init_pid if marker else 0)

    async def _stop(self, tasks: TaskGroup) -> None:
        """The signal to every process of the job, after the grace the kill. Asked again: the newest wish counts."""
        cancel, group = self.record.cancel, self._group()
        if cancel is None or cancel == self._stopped_as:
            return
        self._stopped_as = cancel
        if self._grace is not None:
            self._grace.cancel()
        frozen = group.freezer.is_frozen()
        if cancel.grace_s <= 0 or cancel.signal == "KILL" or (frozen and self.record.placement is None):
            await group.kill()  # a frozen job that has no CPUs to end on gets no grace
            return
        if frozen:
            await group.freezer.thaw()  # a frozen task does not see its signal
            self.clock.start(time.monotonic())
        self._signal(cancel.signal)
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
            group = self._group()
            group.apply(limits(self.host, self.record))
            group.gather()

    async def _retag(self) -> None:
        if self.prepared is not None and self.prepared.address:
            await self.host.network.set_priority(self.prepared.address, PriorityClass(self.record.network_class))

    async def _attach_network(self) -> None:
        slot = self.prepared.slot if self.prepared else None
        if slot is None or slot.attachment is None:
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

    def resident_bytes(self) -> int | None:
        """None where nothing can be seen: not made yet, or gone."""
        try:
            return self.group.resident_bytes() if self.group is not None and self.group.places.get("memory") else None
        except (JobsError, OSError):
            return None

    def _log_size(self, stream: str) -> int:
        try:
            return os.stat(f"{self._spool}/{stream}").st_size
        except FileNotFoundError:
            return 0

    def _frozen(self) -> bool:
        return self.group is not None and self.group.freezer.is_frozen()

    def _group(self) -> JobGroup:
        if self.group is None:
            raise HostError(f"execution {self.id} has no cgroup yet")
        return self.group

    async def _report(self, event: ev.Event) -> None:
        """A daemon that is stopping writes no more: the next one finds out by itself."""
        with suppress(Unavailable):
            await self.host.report(event)


async def _ended(pidfd: int, within_s: float) -> bool:
    """Whether the process ends within that time."""
    with anyio.move_on_after(within_s):
        await anyio.wait_readable(pidfd)
        return True
    return False
