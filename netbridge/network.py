"""The job network as the daemon sees it: one object, one instance (bridge, tables, leases). See README.md.

    start → prepare (ahead, per slot) → attach → set_priority … → detach → stop
    after a crash: start → adopt (per live execution) → sweep

Nothing here starts a process. A daemon that leaves its jobs running just exits: only `stop` takes the network down.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Sequence

from anyio import CancelScope

from jobs.errors import StepFailed
from jobs.priority_class import PriorityClass
from jobs.spec import Publish
from netbridge import hosts, policy, sysctl
from netbridge.addresses import Leases
from netbridge.attach import Attachments
from netbridge.attached import Attached, Attachment
from netbridge.bridge import lower_bridge, raise_bridge, sysctls_of_the_bridge
from netbridge.forwarding import Forwarding
from netbridge.hosts import HostsFiles
from netbridge.ledger import Ledger
from netbridge.names import NetworkSettings, address_of
from netbridge.netlink import Netlink
from netbridge.nft import Nft
from netbridge.obstacles import obstacles
from netbridge.pool import wire
from netbridge.sweep import sweep
from netbridge.wiring import loopback_steps

log = logging.getLogger(__name__)

__all__ = ["Attachment", "Network", "NetworkSettings"]


class Network:
    """Bridge, leases, tables and names of one instance."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._folder = os.path.join(settings.state_dir, "net")
        self._leases = Leases(settings.subnet)
        self._ledger = Ledger(self._folder)
        self._hosts = HostsFiles(os.path.join(settings.state_dir, "hosts"))
        self._nft = Nft()
        self._forwarding = Forwarding(settings)
        self._attachments = Attachments(
            settings, nft=self._nft, ledger=self._ledger, hosts=self._hosts, tables=self._tables
        )

    async def start(self) -> None:
        """Makes the network, or takes over what a killed daemon left. Raises StepFailed, taking back what it made."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        known, _ = self._ledger.read_all()
        self._attachments.load(known)
        self._claim(known)
        try:
            await self._raise()
        except BaseException:
            if not known:
                with CancelScope(shield=True):
                    await self.stop()
            raise

    async def stop(self) -> None:
        """Takes everything down, jobs' links too, and gives the host its own settings back. Safe to repeat."""
        self._attachments.release_ports()
        async with self._forwarding.turn(), Netlink.here() as netlink:
            await lower_bridge(self._settings, netlink)
            await self._forwarding.end(netlink)
        await self._nft.run("net:policy", policy.remove(self._settings))  # last: the fence stands while we forward
        self._hosts.remove_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def prepare(self, netlink_fd: int, netns_fd: int) -> Attachment:
        """Wires a fresh slot: its address, its veth, its route. Raises StepFailed, with nothing left behind.

        `netlink_fd`: an AF_NETLINK, SOCK_DGRAM socket opened inside the namespace. Both descriptors stay the caller's.
        """
        return await wire(self._settings, self._leases, netlink_fd, netns_fd)

    async def loopback(self, netlink_fd: int) -> None:
        """For a slot without a network: switches its lo on and nothing else. Raises StepFailed."""
        async with Netlink.through(netlink_fd) as job:
            await job.perform(loopback_steps())

    async def attach(
        self,
        attachment: Attachment,
        *,
        execution_id: str,
        owner_uid: int,
        job_name: str,
        priority_class: PriorityClass,
        publish: tuple[Publish, ...] = (),
        rate_bits_s: int = 0,
    ) -> None:
        """Lets a prepared slot speak, as this execution. Until then every frame of it is dropped. Raises StepFailed."""
        await self._attachments.join(
            Attached(execution_id, attachment, owner_uid, job_name, priority_class, tuple(publish), rate_bits_s)
        )

    async def set_priority(self, address: str, priority_class: PriorityClass) -> None:
        """Re-tags a running or frozen job's packets from the next one on. Raises StepFailed."""
        await self._attachments.reclass(address, priority_class)

    async def detach(self, attachment: Attachment) -> None:
        """Gives back the address of an execution or of an unused slot. Safe to repeat."""
        await self._attachments.leave(attachment.address)
        self._leases.release(attachment.address)

    def adopt(self, execution_id: str) -> Attachment | None:
        """What an earlier daemon attached for this execution; None when it had no network of ours. Safe to repeat."""
        found = self._attachments.adopt(execution_id)
        return found.attachment if found else None

    async def sweep(self, live_addresses: set[str]) -> list[str]:
        """Removes what no live execution and no prepared slot of ours needs; returns what it was, a line each."""
        prepared = self._leases.taken - {each.address for each in self._attachments.all}
        found = await sweep(self._settings, self._attachments, self._ledger, live=live_addresses, prepared=prepared)
        for each in found.executions:
            self._leases.release(each.address)
        return found.names

    def hosts_dir(self, owner_uid: int) -> str:
        """The folder to bind read-only into the owner's jobs; its file `hosts` is kept current."""
        try:
            return self._hosts.folder_of(owner_uid)
        except OSError as error:
            raise StepFailed("net:hosts", error.errno or 0, error.filename or "") from error

    def resolv_conf(self) -> str:
        """Text for a job's /etc/resolv.conf."""
        return hosts.host_resolv_conf()

    async def prepare_host_priority(self) -> tuple[str, ...]:
        """This host's own links: those which net_prio must map for jobs in the host's network."""
        async with Netlink.here() as netlink:
            names = [link.name for link in await netlink.links()]
        ours = {"lo", self._settings.bridge}
        return tuple(name for name in names if name not in ours and address_of(self._settings, name) is None)

    async def obstacles(self) -> list[str]:
        """Rules of others that will stop jobs' packets, a line each. Raises StepFailed."""
        return obstacles(await self._nft.list_chains(), self._settings.bridge)

    async def _warn(self) -> None:
        try:
            for line in await self.obstacles():
                log.warning("jobs may not reach the world: %s", line)
        except StepFailed as error:  # somebody's rules that this libnftables can't read are no reason not to start
            log.warning("%s", error)

    def _claim(self, known: Sequence[Attached]) -> None:
        for each in known:
            try:
                self._leases.claim(each.address)
            except ValueError as error:
                hint = "jobs of other settings still run; start with those, or end the jobs first"
                raise StepFailed("net:lease", errno.EADDRNOTAVAIL, str(error), hint=hint) from error

    async def _raise(self) -> None:
        """The order matters: originals before any change; tables before a packet could be forwarded."""
        async with self._forwarding.turn(), Netlink.here() as netlink:
            await self._forwarding.note(netlink)
            await raise_bridge(self._settings, netlink)
        await self._nft.run("net:policy", self._tables(self._attachments.all))
        sysctl.write_all(sysctls_of_the_bridge(self._settings))
        self._forwarding.begin()
        await self._warn()

    def _tables(self, attached: Sequence[Attached]) -> str:
        resolvers = hosts.servers(self.resolv_conf())
        return policy.whole(self._settings, attached, fenced=self._forwarding.fenced, resolvers=resolvers)
