"""Everything of this host that executions share, and its opening and closing in order.

Opening takes over what a killed daemon left; closing leaves what running jobs need, and takes the rest down.
"""

from __future__ import annotations

import glob
import logging
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

import anyio
from anyio.abc import TaskGroup

from config.settings import Settings
from jobs import cpuset
from jobs.errors import HostError
from jobs.events import Event
from jobs.host import HostCaps, Topology
from jobs.spec import Image
from netbridge.network import Network, NetworkSettings
from runtime import hostcaps, seccomp, syscalls
from runtime.cgroups import private_mounts
from runtime.cgroups.tree import CgroupTree
from runtime.client import Launcher
from runtime.helper import HelperResult, HelperRunner
from runtime.images.store import ImageStore
from runtime.images.uppers import Uppers
from scheduler.generic import Look, missing, present
from scheduler.node.leases import IdBlocks, SlotPool
from scheduler.node.link import LauncherLink
from scheduler.topology import read_topology

log = logging.getLogger("jobs.node")


@dataclass(slots=True)
class Host:
    """Made once by `open_host`; closed with it."""

    node_id: str
    settings: Settings
    caps: HostCaps
    topology: Topology
    tree: CgroupTree
    blocks: IdBlocks
    slots: SlotPool
    uppers: Uppers
    images: ImageStore
    network: Network
    launcher: Callable[[], Awaitable[Launcher]]
    launcher_back: Callable[[], Awaitable[None]]
    helper: HelperRunner
    report: Callable[[Event], Awaitable[object]]
    init: str  # path of the static reaper
    seccomp: bytes
    io_devices: tuple[tuple[int, int], ...] = ()  # (major, minor) of the disks that I/O rates are written for
    interfaces: tuple[str, ...] = ()  # this host's own links, for net_prio
    in_the_way: tuple[str, ...] = ()  # rules of others that will stop jobs' packets

    def offline(self) -> frozenset[int]:
        """CPUs that were there when the daemon started, and are not now."""
        try:
            online = cpuset.parse(_text("/sys/devices/system/cpu/online"))
        except (OSError, ValueError):
            return frozenset()
        return frozenset(self.topology.cpus).difference(online)


def probe(settings: Settings) -> tuple[HostCaps, Topology]:
    """What this host offers, with the private mounts in place and the freezer of the settings.

    That the host has that freezer was asked before it was touched (scheduler/doctor/refusing.py).
    """
    mounted = private_mounts.to_mount(net_controllers=settings.mount_net_controllers, kernel=syscalls.linux())
    private_mounts.mount_missing(f"{settings.run_dir}/cgroup", mounted)
    caps = hostcaps.probe(f"{settings.run_dir}/cgroup")
    if settings.freezer == "v1":
        caps = hostcaps.forced_v1(caps)
    seen = read_topology(_text, os.listdir, use_isolated_cpus=settings.use_isolated_cpus)
    generic = present(settings.generic, Look(glob.glob, device_number, _text))
    for line in missing(generic):
        log.warning("%s", line)
    return caps, replace(seen, generic=generic)


def device_number(path: str) -> str:
    """ "char/1:3" or "block/7:0": its folder below /sys/dev; "" for what is no device node."""
    try:
        found = os.lstat(path)  # a link could lead elsewhere a moment later
    except OSError:
        return ""
    kind = "char" if stat.S_ISCHR(found.st_mode) else "block" if stat.S_ISBLK(found.st_mode) else ""
    return f"{kind}/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if kind else ""


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def make_folders(settings: Settings) -> None:
    """State is the daemon's alone; the run folder lets everybody reach the socket and nothing else."""
    for path, mode in (
        (settings.state_dir, 0o700),
        (f"{settings.state_dir}/spool", 0o700),
        (settings.run_dir, 0o711),
    ):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)


def disks_of(path: str) -> tuple[tuple[int, int], ...]:
    """(major, minor) of the whole disk that a path lies on; () for filesystems without one."""
    device = os.stat(path).st_dev
    folder = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    if not os.path.isdir(folder):
        return ()
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(os.path.realpath(folder))
    with open(f"{folder}/dev", encoding="ascii") as file:
        major, _, minor = file.read().strip().partition(":")
    return ((int(major), int(minor)),)


@asynccontextmanager
async def open_host(
    settings: Settings,
    caps: HostCaps,
    seen: Topology,
    report: Callable[[Event], Awaitable[object]],
    tasks: TaskGroup,
) -> AsyncIterator[Host]:
    """Bridge, groups, pools and the connection to the launcher. Background work runs in `tasks`.

    Waits for the launcher only where it is needed: a daemon without one still answers, and says what is missing.
    """
    # Grows with each daemon for as long as a launcher can live, also when the journal was replaced: since boot.
    link = LauncherLink(settings.launcher_socket, time.monotonic_ns())
    tasks.start_soon(link.run, name="launcher link")

    async def helper(
        argv: Sequence[str],
        *,
        fds: Sequence[int] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        stdin: bytes = b"",
        timeout_s: float = 300,
    ) -> HelperResult:
        return await (await link.get()).helper(argv, fds=fds, env=env, stdin=stdin, timeout_s=timeout_s)

    async def idmap_userns(uid_map: str, gid_map: str) -> int:
        return await (await link.get()).idmap_userns(uid_map, gid_map)

    tree = CgroupTree(caps, settings.cgroup_root)
    network = Network(_network_settings(settings))
    try:
        tree.prepare(disks_of(settings.state_dir))
        await network.start()
        blocks = IdBlocks(settings.id_first, settings.id_blocks)
        host = Host(
            node_id=settings.node_id or socket.gethostname(),
            settings=settings,
            caps=caps,
            topology=seen,
            tree=tree,
            blocks=blocks,
            slots=SlotPool(blocks, link.get, network, settings.slots),
            uppers=Uppers(settings.state_dir, helper, Image().writable_bytes, settings.uppers),
            images=ImageStore(settings.state_dir, helper, idmap_userns),
            network=network,
            launcher=link.get,
            launcher_back=link.back,
            helper=helper,
            report=report,
            init=hostcaps.find_reaper(settings.init),
            seccomp=seccomp.default_program(),
            io_devices=disks_of(settings.state_dir),
            interfaces=await network.prepare_host_priority(),
            in_the_way=await _in_the_way(network),
        )
        for stray in await host.images.start():
            log.warning("removed what an earlier daemon left: %s", stray)
        try:
            yield host
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(30):
                await host.slots.close()
                await host.uppers.stop()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(30):
            await _leave(settings, tree, network)


async def _in_the_way(network: Network) -> tuple[str, ...]:
    try:
        return tuple(await network.obstacles())
    except HostError as error:  # somebody's rules that cannot be read are no reason not to start
        return (error.message,)


def _network_settings(settings: Settings) -> NetworkSettings:
    return NetworkSettings(
        state_dir=settings.state_dir,
        bridge=settings.bridge,
        subnet=settings.subnet,
        nft_table=settings.nft_table,
        uplink=settings.uplink,
    )


async def _leave(settings: Settings, tree: CgroupTree, network: Network) -> None:
    """What running jobs use stays for the next daemon; without any, the host is left as it was found."""
    if tree.names():
        log.info("stopping; %d executions go on", len(tree.names()))
        return
    await network.stop()
    with suppress(HostError):
        tree.remove_root()
    private_mounts.unmount(f"{settings.run_dir}/cgroup")


async def fill_pools(host: Host, tasks: TaskGroup) -> None:
    """In the background, after the leases of living executions are known."""

    async def uppers() -> None:
        try:
            await host.uppers.start(tasks)
        except HostError as error:
            log.error("no writable layers ahead: %s", error)

    tasks.start_soon(uppers, name="writable layers")
    tasks.start_soon(host.slots.run, name="slots")
