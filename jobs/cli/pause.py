from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs pause 17
jobs pause --wait --keep-cpus 17       back at once when resumed
"""


def command(
    jobs: JobIds,
    keep_cpus: Annotated[bool, typer.Option("--keep-cpus", help="Do not give its CPUs to others meanwhile.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it stands still.")] = False,
) -> int:
    """Freeze jobs: every process stands still, memory is kept, CPUs are given back.

    A job that waits is held instead. Frozen time does not count for its time limit.
    """
    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.steering import each, wait_until
    from jobs.errors import HostError, WrongState

    client = daemon()

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

    return each(jobs, pause, "go on with: {program} resume {job}")
