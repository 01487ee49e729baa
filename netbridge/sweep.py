"""After a crash: what is left of executions that live no more, and taking it away by name.

`judge` is pure; `sweep` reads the kernel, asks it, and acts. Only this instance's own links and files count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from netbridge.attach import Attachments
from netbridge.attached import Attached
from netbridge.bridge import our_ports
from netbridge.ledger import Ledger
from netbridge.names import NetworkSettings, address_of
from netbridge.netlink import Netlink


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What has to go."""

    executions: tuple[Attached, ...]
    stale: tuple[str, ...]  # execution ids of ledger files of an earlier boot, or unreadable
    ports: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """For the log: one line each."""
        return [
            *(f"network of execution {each.execution_id} at {each.address}" for each in self.executions),
            *(f"stale network file of execution {execution_id}" for execution_id in self.stale),
            *(f"link {port}" for port in self.ports),
        ]


def judge(
    settings: NetworkSettings,
    *,
    attached: Iterable[Attached],
    stale: Iterable[str],
    ports: Iterable[str],
    live: Collection[str],
    prepared: Collection[str],
) -> Leftovers:
    """`live`: addresses of executions that run. `prepared`: addresses of slots that this daemon has ready."""
    keep = {*live, *prepared}
    return Leftovers(
        executions=tuple(each for each in attached if each.address not in live),
        stale=tuple(sorted(stale)),
        ports=tuple(sorted(port for port in ports if address_of(settings, port) not in keep)),
    )


async def sweep(
    settings: NetworkSettings,
    attachments: Attachments,
    ledger: Ledger,
    *,
    live: Collection[str],
    prepared: Collection[str],
) -> Leftovers:
    """Removes what `judge` finds. Raises StepFailed; repeat it then."""
    _, stale = ledger.read_all()
    async with Netlink.here() as netlink:
        ports = [link.name for link in await our_ports(settings, netlink)]
        found = judge(settings, attached=attachments.all, stale=stale, ports=ports, live=live, prepared=prepared)
        await attachments.drop(found.executions)
        for execution_id in found.stale:
            ledger.remove(execution_id)
        for port in found.ports:
            await netlink.try_delete(port)
    return found
