from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import MaybeJobIds
from jobs.cli.selection import All, OfQueue, OfUser

EXAMPLES = """
jobs pause 17
jobs pause --wait --keep-cpus 17       back at once when resumed
jobs pause --queue night               all of it that is there now
jobs pause --all --drain --wait        and nothing new starts, until: jobs queue open default
"""


def command(
    jobs: MaybeJobIds = None,
    everything: All = False,
    user: OfUser = "",
    queue: OfQueue = "",
    drain: Annotated[bool, typer.Option("--drain", help="Start nothing new: drain the queue, or with --all every "
                                        "queue, first; for operators.")] = False,
    keep_cpus: Annotated[bool, typer.Option("--keep-cpus", help="Do not give its CPUs to others meanwhile.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it stands still.")] = False,
) -> int:  # fmt: skip
    """Freeze jobs: every process stands still, memory is kept, CPUs are given back.

    A job that waits is held instead. Frozen time does not count for its time limit.
    """
    from contextlib import suppress

    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.selection import chosen
    from jobs.cli.steering import each, wait_until
    from jobs.cli.terminal import program, say
    from jobs.errors import HostError, JobsError, UserError, WrongState

    client = daemon()
    if drain:
        if not everything and not queue:
            raise UserError("--drain needs --all or --queue", hint="one queue: jobs pause --queue night --drain")
        for name in [queue] if queue else [each.name for each in client.queues().queues if each.state == "open"]:
            client.set_queue(name, "drain")
            say(f"queue {name} is drained; start its jobs again with: {program()} queue open {name}")

    def pause(job: str) -> protocol.Job:
        found = client.pause(job, protocol.Pause(keep_cpus))
        if not wait:
            return found
        found = wait_until(client, job, "frozen")
        if found.final:
            raise WrongState(f"job {job} ended before it was frozen", hint=f"see it with: jobs show {job}")
        if not found.holds:
            raise HostError(f"job {job} could not be frozen and runs on: {found.reason}", hint="try again")
        return found

    ids = chosen(client, jobs, everything, user, queue)
    if not ids:
        say("no jobs there to pause")
    for job in ids if wait and len(ids) > 1 else ():  # they freeze side by side; what is refused is told below
        with suppress(JobsError):
            client.pause(job, protocol.Pause(keep_cpus))
    return each(ids, pause, "go on with: {program} resume {job}")
