"""What a node lends to one execution at a time: a block of host ids, and a slot of namespaces made ahead.

A slot is used once and never recycled. Nothing here knows why an execution wants it.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import anyio

from netbridge.network import Attachment, Network
from runtime.client import Launcher

log = logging.getLogger("jobs.node")

INSIDE_IDS = 65536  # what a job can name; a block has spare ids behind them for submitters above 65535
BLOCK_IDS = 66560
SPARE_IDS = BLOCK_IDS - INSIDE_IDS
REST_S = 0.05  # between a slot's use and the making of the next; several starts' length


class IdBlocks:
    """Blocks of host ids, lowest free first. Only this daemon leases them, so a set in memory is enough;
    after a restart `take` marks the blocks of live executions."""

    def __init__(self, first: int, blocks: int) -> None:
        self._first, self._blocks = first, blocks
        self._taken: set[int] = set()
        self._next = 0

    def lease(self) -> int:
        """The first id of a free block. Goes round, so that a block rests as long as possible. Raises RuntimeError."""
        for step in range(self._blocks):
            block = (self._next + step) % self._blocks
            if block not in self._taken:
                self._taken.add(block)
                self._next = block + 1
                return self._first + block * BLOCK_IDS
        raise RuntimeError(f"all {self._blocks} id blocks are leased; raise the setting id_blocks")

    def take(self, base: int) -> None:
        self._taken.add((base - self._first) // BLOCK_IDS)

    def free(self, base: int) -> None:
        self._taken.discard((base - self._first) // BLOCK_IDS)


def extra_ids(base: int, wanted: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """(inside, host id) for each id above 65535, in the block's spare part."""
    high = sorted({number for number in wanted if number >= INSIDE_IDS})[:SPARE_IDS]
    return tuple((number, base + INSIDE_IDS + k) for k, number in enumerate(high))


def id_map(base: int, extra: tuple[tuple[int, int], ...]) -> str:
    """Text for /proc/PID/uid_map (user_namespaces(7))."""
    lines = [f"0 {base} {INSIDE_IDS}", *(f"{inside} {outside} 1" for inside, outside in extra)]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Slot:
    """Namespaces of one future execution. `netns` is -1 for the host's network, `attachment` None without a bridge."""

    id_base: int
    extra_uids: tuple[tuple[int, int], ...]
    extra_gids: tuple[tuple[int, int], ...]
    userns: int
    netns: int
    attachment: Attachment | None

    def close(self) -> None:
        for fd in (self.userns, self.netns):
            if fd >= 0:
                os.close(fd)
        self.userns = self.netns = -1


class SlotPool:
    """Keeps `ahead` bridge-mode slots ready; every other kind is made when asked for."""

    def __init__(
        self, blocks: IdBlocks, launcher: Callable[[], Awaitable[Launcher]], network: Network, ahead: int
    ) -> None:
        self._blocks, self._launcher, self._network, self._ahead = blocks, launcher, network, ahead
        self._ready: deque[Slot] = deque()
        self._low = anyio.Event()

    async def run(self) -> None:
        """Refills in the background until cancelled."""
        while True:
            while len(self._ready) < self._ahead:
                try:
                    self._ready.append(await self.make("bridge"))
                except Exception as error:  # the launcher is away, or the host refuses: the next acquire will say so
                    log.warning("slot not made: %s", error)
                    await anyio.sleep(1.0)
            self._low = anyio.Event()
            await self._low.wait()
            if self._ready:
                await anyio.sleep(REST_S)  # a start under way needs the CPUs more

    @property
    def full(self) -> bool:
        return len(self._ready) >= self._ahead

    async def acquire(self, mode: str, uids: Iterable[int], gids: Iterable[int]) -> Slot:
        plain = all(number < INSIDE_IDS for number in (*uids, *gids))
        if plain and self._ready and mode == "bridge":
            slot = self._ready.popleft()
            self._low.set()
            return slot
        return await self.make(mode, uids, gids)

    async def make(self, mode: str, uids: Iterable[int] = (), gids: Iterable[int] = ()) -> Slot:
        base = self._blocks.lease()
        netlink = -1
        slot = Slot(base, extra_ids(base, uids), extra_ids(base, gids), -1, -1, None)
        try:
            launcher = await self._launcher()
            made = await launcher.slot(
                uid_map=id_map(base, slot.extra_uids), gid_map=id_map(base, slot.extra_gids), network=mode != "host"
            )
            slot.userns, slot.netns, netlink = made.userns, made.netns, made.netlink
            if mode == "bridge":
                slot.attachment = await self._network.prepare(netlink, slot.netns)
            elif mode == "none":
                await self._network.loopback(netlink)
            return slot
        except BaseException:
            slot.close()
            self._blocks.free(base)
            raise
        finally:
            if netlink >= 0:
                os.close(netlink)

    async def release(self, slot: Slot) -> None:
        """After use, or unused. The veth dies with its namespace."""
        if slot.attachment is not None:
            await self._network.detach(slot.attachment)
            slot.attachment = None
        slot.close()
        self._blocks.free(slot.id_base)

    async def close(self) -> None:
        while self._ready:
            await self.release(self._ready.popleft())
