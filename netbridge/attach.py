"""Executions join the network, change their class, and leave. Every change goes ledger → kernel → hosts file.

The ledger comes first: whoever is killed on the next line leaves a file that says what to look for. Each change is
undone in reverse when a later step fails, and one at a time: the tables and the files follow one order of events.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace

from anyio import CancelScope, Lock

from jobs.errors import StepFailed
from jobs.priority_class import PriorityClass
from netbridge import policy
from netbridge.attached import Attached
from netbridge.hosts import HostsFiles
from netbridge.ledger import Ledger
from netbridge.names import NetworkSettings
from netbridge.netlink import Netlink
from netbridge.nft import Nft
from netbridge.published import PublishedPorts
from netbridge.rate import receiving


class Attachments:
    """What is attached now, by address."""

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        nft: Nft,
        ledger: Ledger,
        hosts: HostsFiles,
        tables: Callable[[Sequence[Attached]], str],
    ) -> None:
        self._settings, self._nft, self._ledger, self._hosts = settings, nft, ledger, hosts
        self._tables = tables  # both tables anew, for these executions
        self._ports = PublishedPorts()
        self._attached: dict[str, Attached] = {}
        self._lock = Lock()

    def load(self, known: Iterable[Attached]) -> None:
        """After a restart: what the ledger says, dead or alive, until `drop` sorts it out."""
        self._attached = {each.address: each for each in known}

    @property
    def all(self) -> list[Attached]:
        return list(self._attached.values())

    def adopt(self, execution_id: str) -> Attached | None:
        """A live execution of an earlier daemon. Its ports are held again where nobody took them."""
        for each in self._attached.values():
            if each.execution_id == execution_id:
                try:
                    self._ports.hold(execution_id, each.owner_uid, each.publish)
                except StepFailed:
                    pass  # a program bound it while no daemon ran; the tables lead it to the job all the same
                return each
        return None

    async def join(self, attached: Attached) -> None:
        """Raises StepFailed, with nothing left behind."""
        async with self._lock, AsyncExitStack() as undo:
            with _step("net:ledger", attached.execution_id):
                self._ledger.write(attached)
            undo.callback(self._ledger.remove, attached.execution_id)
            self._ports.hold(attached.execution_id, attached.owner_uid, attached.publish)
            undo.callback(self._ports.release, attached.execution_id)
            await self._change(policy.joining(self._settings, attached), [*self.all, attached])
            undo.push_async_callback(self._withdraw, attached)
            self._attached[attached.address] = attached
            undo.callback(self._write_hosts, attached.owner_uid, self._others(attached.address))
            self._write_hosts(attached.owner_uid, self.all)
            if attached.rate_bits_s:  # last: a bucket on the veth dies with it, and nothing after it can fail
                await self._limit_receiving(attached)
            undo.pop_all()

    async def leave(self, address: str) -> None:
        """Raises StepFailed; repeat it then. Safe to repeat."""
        async with self._lock:
            attached = self._attached.get(address)
            if attached is None:
                return
            await self._withdraw(attached)
            self._ports.release(attached.execution_id)
            self._ledger.remove(attached.execution_id)
            self._write_hosts(attached.owner_uid, self.all)  # last: a full disk keeps a stale name, nothing else

    async def reclass(self, address: str, priority_class: PriorityClass) -> None:
        """Raises StepFailed; the old class stays then."""
        async with self._lock:
            old = self._attached.get(address)
            if old is None:
                raise StepFailed("net:priority", errno.ENOENT, address)
            new = replace(old, priority_class=priority_class)
            with _step("net:ledger", new.execution_id):
                self._ledger.write(new)
            try:
                await self._change(
                    policy.reclassing(self._settings, old, priority_class), [*self._others(address), new]
                )
            except BaseException:
                self._ledger.write(old)
                raise
            self._attached[address] = new

    async def drop(self, dead: Iterable[Attached]) -> None:
        """Many at once, in one transaction: the tables are made anew of those that live. Raises StepFailed."""
        async with self._lock:
            gone = list(dead)
            for each in gone:
                self._attached.pop(each.address, None)
            await self._nft.run("net:policy", self._tables(self.all))
            for each in gone:
                self._ports.release(each.execution_id)
                self._ledger.remove(each.execution_id)
            self._hosts.remove_others(each.owner_uid for each in self.all)
            for owner_uid in sorted({each.owner_uid for each in self.all}):
                self._write_hosts(owner_uid, self.all)

    def release_ports(self) -> None:
        self._ports.release_all()

    async def _withdraw(self, attached: Attached) -> None:
        """Takes the elements out, even when we are being cancelled."""
        with CancelScope(shield=True):
            await self._change(policy.leaving(self._settings, attached), self._others(attached.address))
            self._attached.pop(attached.address, None)

    def _others(self, address: str) -> list[Attached]:
        return [each for each in self.all if each.address != address]

    async def _change(self, commands: str, wanted: Sequence[Attached]) -> None:
        """A few elements; where that is refused (somebody flushed the ruleset), both tables anew."""
        try:
            await self._nft.run("net:policy", commands)
        except StepFailed:
            await self._nft.run("net:policy", self._tables(wanted))

    async def _limit_receiving(self, attached: Attached) -> None:
        async with Netlink.here() as netlink:
            await netlink.limit_receiving(attached.attachment.link, receiving(attached.rate_bits_s))

    def _write_hosts(self, owner_uid: int, attached: Iterable[Attached]) -> None:
        members = [each for each in attached if each.owner_uid == owner_uid]
        with _step("net:hosts", f"hosts file of uid {owner_uid}"):
            self._hosts.write(owner_uid, members)


@contextmanager
def _step(step: str, path: str) -> Iterator[None]:
    """Names the step that an OSError stopped."""
    try:
        yield
    except OSError as error:
        raise StepFailed(step, error.errno or 0, error.filename or path) from error
