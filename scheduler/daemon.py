"""The daemon: puts the parts together and starts them in order. The only module that knows all of them.

Stopping leaves running jobs as they are; where none is left, bridge, tables, groups and private mounts go too.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version

import anyio
from anyio.abc import TaskGroup, TaskStatus

from config.settings import Settings
from jobs import policyfile, specfile
from jobs.errors import HostError, JobsError, UserError
from jobs.events import DaemonStarted, Event, Exited, Lost, Owner, StartFailed
from jobs.host import Topology
from jobs.ids import ExecutionId
from jobs.record import Record
from jobs.spec import JobSpec
from jobs.units import parse_size
from jobs.verdict import Never, NotNow
from scheduler import service
from scheduler.admission import never
from scheduler.api.access import Access
from scheduler.api.app import create_app
from scheduler.api.parts import Parts
from scheduler.api.server import bind, serve
from scheduler.capacity import Capacity
from scheduler.clock import SystemClock
from scheduler.decide import DECIDE_VERSION
from scheduler.explaining import Explaining
from scheduler.loop import Loop
from scheduler.node import inventory
from scheduler.node.ending import clean_up, kill_for_good
from scheduler.node.host import Host, fill_pools, make_folders, open_host, probe
from scheduler.node.supervisor import Supervisor
from scheduler.queues import Queues
from scheduler.reconcile import Abandon, Adopt, CleanUp, Kill, Reset, reconcile
from scheduler.remembering import Remembering
from scheduler.resolving import outcomes
from scheduler.sampling import Sampling
from scheduler.store import Store
from scheduler.world import World
from scheduler.writer import Writer

log = logging.getLogger("jobsd")


async def run(settings: Settings, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """The whole daemon, until cancelled. Raises JobsError when it cannot start or was deposed."""
    make_folders(settings)
    lock = _only_one(settings)
    try:
        await _run_locked(settings, task_status)
    finally:
        os.close(lock)


def _only_one(settings: Settings) -> int:
    """A descriptor that holds the state folder. Raises HostError while another daemon does."""
    lock = os.open(f"{settings.state_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise HostError(
            f"another jobsd uses {settings.state_dir}", hint="stop it, or set JOBS_STATE_DIR to another folder"
        ) from error
    return lock


async def _run_locked(settings: Settings, task_status: TaskStatus[None]) -> None:
    listening = bind(settings.socket)
    store = Store(f"{settings.state_dir}/journal.db")
    clock = SystemClock()
    try:
        await store.open()  # before the host is touched: a damaged journal leaves nothing behind
        caps, seen = probe(settings)
        capacity = Capacity.of(
            seen,
            reserve_bytes=parse_size(settings.reserve_memory),
            node_id=settings.node_id or socket.gethostname(),
            max_jobs=settings.max_jobs,
        )
        records = await store.live_records()
        world = World.of(
            capacity, records, await store.policy(), clock.wall(), await outcomes(records, store), await store.used()
        )
        writer = Writer(store, world, clock, least_job=inventory.highest_job(settings))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run, name="writer")
            tasks.start_soon(_note_start, writer, settings, seen, capacity, clock.wall())
            async with open_host(settings, caps, seen, writer.report, tasks) as host:
                queues = Queues(world, writer, clock, partial(policyfile.load, settings.policy_file))
                await queues.load_at_start()
                node = Supervisor(host, tasks)
                await take_over(host, node, world, writer, clock.wall())
                await fill_pools(host, tasks)
                tasks.start_soon(node.watch_processors, name="processors")
                loop = Loop(world, writer, node, clock)
                assert store.history is not None
                writer.listen(loop.wake)
                tasks.start_soon(loop.run, name="loop")
                tasks.start_soon(Sampling(world, node, clock, loop.wake).run, name="sampling")
                app = create_app(
                    Parts(
                        writer=writer,
                        reader=store,
                        node=node,
                        parse=specfile.parse,
                        admit=_admission(capacity, host, queues),
                        images=host.images,
                        open_source=_opener(host),
                        access=Access(_operators(settings)),
                        explain=_explainer(loop),
                        explaining=Explaining(world, clock),
                        remembering=Remembering(store.history, clock),
                        topology=seen,
                        capacity=capacity,
                        queues=queues,
                    )
                )
                await tasks.start(serve, app, listening)
                service.notify("READY=1")
                if os.environ.get("NOTIFY_SOCKET"):
                    writer.listen(partial(_tell_status, world))
                    _tell_status(world)
                task_status.started()
                log.info("serving on %s, epoch %d, %d jobs known", settings.socket, store.epoch, len(world.live))
                try:
                    await anyio.sleep_forever()
                finally:
                    tasks.cancel_scope.cancel()
    finally:
        listening.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(settings.socket)
        with anyio.CancelScope(shield=True):  # its threads would outlive the loop
            await store.close()


async def _note_start(writer: Writer, settings: Settings, seen: Topology, capacity: Capacity, now: float) -> None:
    """Evidence for questions about the past; without it they are refused, and nothing else is."""
    event = DaemonStarted(0, version("jobsctl"), DECIDE_VERSION, seen, parse_size(settings.reserve_memory),
                          capacity.max_jobs, capacity.node_id, now)  # fmt: skip
    try:
        await writer.report(event)
    except JobsError as error:
        log.warning("this start is not in the journal: %s", error)


async def take_over(host: Host, node: Supervisor, world: World, writer: Writer, now: float) -> None:
    """What an earlier daemon left: the journal's records against what the kernel shows."""
    records = list(world.live.values())
    names = set(inventory.executions(host)) | {str(record.execution) for record in records if record.attempt}
    for name in names:
        inventory.take_leases(host, name)
    outcome = reconcile(records, {name: inventory.observe(host, name) for name in names}, now)
    for event in outcome.events:
        _tell_outcome(event)
        await writer.report(event)
    live: set[str] = set()
    cleaning: dict[str, Record | None] = {}
    for step in outcome.steps:
        record = world.live.get(ExecutionId.parse(step.execution).job)
        known = record if record is not None and str(record.execution) == step.execution else None
        match step:
            case Kill():
                await kill_for_good(host.tree.open(step.execution))
            case Adopt() if known is not None:
                live.add(step.execution)
                node.adopt(known)
            case Abandon():
                pass  # adopting finds out what became of it
            case Reset():  # awaited: the loop starts the same execution again
                await clean_up(host, ExecutionId.parse(step.execution), known)
            case CleanUp():
                cleaning[step.execution] = known
    for execution, known in cleaning.items():
        node.clean_up(ExecutionId.parse(execution), known)
    attached = [host.network.adopt(name) for name in live | set(cleaning)]
    for name in await host.network.sweep({each.address for each in attached if each is not None}):
        log.warning("removed what an earlier daemon left: %s", name)


def _tell_outcome(event: Event) -> None:
    """What happened while no daemon looked, in the service's journal; jobs that went on are no news."""
    match event:
        case Lost():
            log.warning("execution %s is lost: %s", event.execution, event.reason)
        case StartFailed():
            log.warning("execution %s did not start: %s", event.execution, event.message)
        case Exited():
            log.info("execution %s ended meanwhile, exit status %d", event.execution, event.status)


def _admission(capacity: Capacity, host: Host, queues: Queues) -> Callable[[JobSpec, Owner], Awaitable[JobSpec]]:
    async def admit(spec: JobSpec, owner: Owner) -> JobSpec:
        spec = await queues.admit(spec, owner)
        reasons = [*never(spec, capacity, host.caps)]
        source = spec.image.source
        if source != "host" and not source.startswith("dir:"):
            await _must_exist(host, source)
        if reasons:
            raise UserError("; ".join(reasons), hint="this host could never run it; see: jobs show --host")
        return spec

    return admit


async def _must_exist(host: Host, image: str) -> None:
    names = sorted(each.name for each in await host.images.list())
    if image not in names:
        raise UserError(
            f"image.source: no image {image!r} here; there are: {', '.join(names) or 'none'}",
            hint='"host" and "dir:/path" are possible too; import one: jobs image import NAME SOURCE',
        )


def _opener(host: Host) -> Callable[[Owner, str], Awaitable[int]]:
    async def open_source(owner: Owner, path: str) -> int:
        launcher = await host.launcher()
        return await launcher.open_as(owner.uid, owner.gid, owner.groups, path, os.O_RDONLY | os.O_CLOEXEC)

    return open_source


def _explainer(loop: Loop) -> Callable[[Record], list[str]]:
    def explain(record: Record) -> list[str]:
        match loop.verdict(record.job):
            case NotNow(reasons):
                return [str(reason) for reason in reasons]
            case Never(reason):
                return [reason]
        return []

    return explain


def _operators(settings: Settings) -> int | None:
    try:
        return grp.getgrnam(settings.operators_group).gr_gid
    except KeyError:
        return None


def _tell_status(world: World) -> None:
    """After each commit: looks at what is on the node only, however long the queue."""
    queued = len(world.lines) + len(world.begins)
    service.notify(f"STATUS={service.status(world.active.values(), queued)}")


async def serve_until_signalled(settings: Settings) -> None:
    """What `jobsd` without a subcommand does. SIGTERM or SIGINT end it in order."""
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            tasks.start_soon(_serve_in, tasks, settings)
            async for number in signals:
                log.info("%s: stopping", signal.Signals(number).name)
                service.notify("STOPPING=1", "STATUS=stopping; running jobs go on")
                tasks.cancel_scope.cancel()
                return


async def _serve_in(tasks: TaskGroup, settings: Settings) -> None:
    await run(settings)
    tasks.cancel_scope.cancel()
