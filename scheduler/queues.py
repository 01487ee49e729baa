"""What operators do with the policy, and what the API asks of it: reload, counts, standings. No policy of its own.

The writer alone changes the policy in force; `world` is read between its commits.
"""

from __future__ import annotations

import contextlib
import grp
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio.lowlevel
from anyio.to_thread import run_sync

from jobs.errors import JobsError, UserError
from jobs.events import Owner, PolicyChanged
from jobs.policy import Policy
from jobs.policy_changes import advance_policy
from jobs.record import Record, State
from jobs.spec import JobSpec
from scheduler.clock import Clock
from scheduler.fairshare import Standing, cpus_of
from scheduler.ports import Writer
from scheduler.priority import Parts, parts
from scheduler.queue_rules import filled, refusals
from scheduler.world import World

log = logging.getLogger("jobs.queues")

AT_ONCE = 2000  # jobs counted before the event loop gets a turn


@dataclass(slots=True)
class Count:
    """Of one queue. `cpus`: that its jobs own, with those they keep while frozen."""

    running: int = 0
    frozen: int = 0
    waiting: int = 0
    held: int = 0
    cpus: float = 0.0


class Queues:
    """`load` reads the policy file; it blocks, and raises JobsError."""

    def __init__(self, world: World, writer: Writer, clock: Clock, load: Callable[[], Policy]) -> None:
        self._world, self._writer, self._clock, self._load = world, writer, clock, load

    @property
    def policy(self) -> Policy:
        """In force."""
        return self._world.policy

    async def reload(self, by: str) -> bool:
        """Whether the file says something new. Raises JobsError, and then nothing has changed."""
        wanted = await run_sync(self._load)
        before = self._world.policy

        def make(policy: Policy) -> PolicyChanged | None:
            event = PolicyChanged(0, wanted, self._clock.wall(), by)
            return event if advance_policy(policy, event) != policy else None

        return await self._writer.change(make) != before

    async def load_at_start(self) -> None:
        """A file that can't be taken is told; the policy that was in force goes on."""
        try:
            if await self.reload(""):
                log.info("the policy is that of its file from now on")
        except JobsError as error:
            for line in error.message.splitlines():
                log.error("policy file: %s", line)
            log.error("policy file: the policy of before stays in force; mend the file, then: jobs queue reload")

    async def admit(self, spec: JobSpec, owner: Owner) -> JobSpec:
        """As its queue fills it in. Raises UserError when the policy refuses it."""
        policy, user = self.policy, owner.name or str(owner.uid)
        groups = await self.groups_of(owner)
        if reasons := refusals(spec, user, groups, policy):
            raise UserError("; ".join(reasons), hint="see: jobs queue list")
        return filled(spec, user, policy)

    async def counts(self) -> dict[str, Count]:
        """By queue; those without jobs are there too."""
        found = {queue.name: Count() for queue in self.policy.queues}
        for number, record in enumerate(list(self._world.live.values()), 1):
            count = found.setdefault(record.spec.queue, Count())
            if record.state is State.QUEUED:
                count.waiting += 1
            elif record.state is State.HELD:
                count.held += 1
            elif record.state is State.FROZEN:
                count.frozen += 1
            elif record.state.on_node:
                count.running += 1
            if record.placement is not None:
                count.cpus += cpus_of(record)
            if number % AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        return found

    def standings(self) -> Sequence[Standing]:
        """Of this moment; what runs is counted by the wall clock."""
        return self._world.shares.standings(self._clock.wall(), {})

    def priority(self, record: Record) -> Parts:
        """Of a job that has not ended, at this moment."""
        queue = self._world.queue(record.spec.queue)
        share = self._world.shares.points_ms(record.account, record.user)
        return parts(
            record.submitted_at, self._world.urgency(record), queue.points if queue else 0, share, self._clock.wall()
        )

    async def groups_of(self, peer: Owner) -> list[str]:
        """Names of the groups that the kernel said the peer is in, where a queue asks for groups at all."""
        if not any(queue.groups for queue in self.policy.queues):
            return []
        return await run_sync(_names_of, {peer.gid, *peer.groups})

    def now(self) -> float:
        return self._clock.wall()


def _names_of(gids: set[int]) -> list[str]:
    """May ask a directory service; groups without a name are left out."""
    names = []
    for gid in sorted(gids):
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(gid).gr_name)
    return names
