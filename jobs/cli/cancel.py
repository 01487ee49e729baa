from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs cancel 17                         the signal and grace of its spec
jobs cancel --signal INT --grace 2m 17
jobs cancel --kill 17                  at once
"""


def command(
    jobs: JobIds,
    signal: Annotated[str | None, typer.Option("--signal", metavar="NAME", help="TERM, INT, USR1 …")] = None,
    grace: Annotated[str | None, typer.Option("--grace", metavar="TIME", help="Until it is killed: 30s.")] = None,
    kill: Annotated[bool, typer.Option("--kill", "-9", help="SIGKILL at once.")] = False,
) -> int:
    """End jobs: a signal first, SIGKILL after the grace time."""
    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.steering import each
    from jobs.errors import UserError
    from jobs.units import parse_duration

    if kill and (signal or grace):
        raise UserError("--kill takes no --signal and no --grace", hint="it ends the job at once")
    name = signal.upper().removeprefix("SIG") if signal else None
    request = protocol.Cancel("KILL", 0.0) if kill else protocol.Cancel(name, parse_duration(grace) if grace else None)
    client = daemon()
    return each(jobs, lambda job: client.cancel(job, request), "wait for its end with: {program} wait {job}")
