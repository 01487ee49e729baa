"""What is done about an execution that is over: nobody lives on, and everything it was lent is given back.

For one that this daemon watched, and for what an earlier daemon left.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

import anyio

from jobs import events as ev
from jobs.errors import JobsError, Unavailable
from jobs.ids import ExecutionId
from jobs.record import Record
from runtime.cgroups.group import JobGroup
from scheduler.node.host import Host
from scheduler.node.prepare import readopt, spool_of
from scheduler.node.undo import Undo

log = logging.getLogger("jobs.node")


async def kill_for_good(group: JobGroup) -> None:
    """Of an execution that is over. What does not die even so is named in the log, and by the clean-up that follows."""
    try:
        await group.kill()
    except (JobsError, OSError) as error:
        log.error("%s", error)


async def let_go(host: Host, execution: str, undo: Undo) -> tuple[str, ...]:
    """Everything taken is given back, the lease's note last: until then a later daemon tries again."""
    leftovers = await undo.unwind()
    if not leftovers:
        with suppress(FileNotFoundError):
            os.unlink(f"{spool_of(host, execution)}/lease.json")
    return leftovers


async def clean_up(host: Host, execution: ExecutionId, record: Record | None) -> None:
    """What an earlier daemon left of an execution that has ended. Without a record it is a stray, and told by name."""
    undo = Undo()
    group = host.tree.open(str(execution))
    with anyio.CancelScope(shield=True):
        await kill_for_good(group)
        if record is not None:
            await readopt(host, record, undo)
        else:
            log.warning("execution %s belongs to no job of this journal; removing what is left of it", execution)
            undo.push("cgroups", group.remove)
        leftovers = await let_go(host, str(execution), undo)
        if record is not None:
            with suppress(Unavailable):
                await host.report(ev.CleanedUp(record.job, str(execution), leftovers))
