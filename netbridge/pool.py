"""A slot's network, wired ahead of the launch: all that needs netlink. The launch is one nft transaction."""

from __future__ import annotations

import errno

from anyio import CancelScope

from jobs.errors import StepFailed
from netbridge.addresses import Leases, NoAddressLeft
from netbridge.attached import Attachment
from netbridge.names import NetworkSettings, mac_of, port_of
from netbridge.netlink import Netlink
from netbridge.wiring import host_steps, job_steps

_TRIES = 64  # addresses whose old port is still dying with its namespace; a kernel worker takes them away


async def wire(settings: NetworkSettings, leases: Leases, netlink_fd: int, netns_fd: int) -> Attachment:
    """Leases an address and wires the namespace. Raises StepFailed, with nothing left behind."""
    for _ in range(_TRIES):
        address = _lease(leases)
        try:
            await _wire(settings, address, netlink_fd, netns_fd)
        except _StillDying:
            leases.release(address)
        except BaseException:
            leases.release(address)
            raise
        else:
            return Attachment(port_of(settings, address), address, mac_of(address), settings.gateway)
    raise StepFailed("net:veth", errno.EEXIST, settings.port_prefix, hint="ports of ended jobs do not go away")


class _StillDying(Exception):
    """The port of an earlier job with this address is still there."""


async def _wire(settings: NetworkSettings, address: str, netlink_fd: int, netns_fd: int) -> None:
    port = port_of(settings, address)
    async with Netlink.here() as host:
        if host.exists(port):
            raise _StillDying(port)
        await host.perform(host_steps(settings, address, netns_fd))
        try:
            async with Netlink.through(netlink_fd) as job:
                await job.perform(job_steps(settings, address))
            await host.wait_forwarding(port)  # the job's first packet must not be the one that is lost
        except BaseException:
            with CancelScope(shield=True):
                await host.try_delete(port)
            raise


def _lease(leases: Leases) -> str:
    try:
        return leases.lease()
    except NoAddressLeft as error:
        raise StepFailed("net:address", errno.EADDRNOTAVAIL, str(error)) from error
