from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs wait 17 && echo good
jobs wait 17 18 19                     status of the first that failed
jobs wait --timeout 10m 17             124 when it has not ended by then
"""
EXIT_TIMEOUT = 124  # as timeout(1)


def command(
    jobs: JobIds,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Give up after: 90s, 10m.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing.")] = False,
) -> int:
    """Wait until jobs have ended; exit with the job's own status.

    130: cancelled before it ran. 3: it could not be started, or was lost.
    """
    import sys
    import time

    from jobs import protocol, render
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import look, say
    from jobs.units import parse_duration

    client = daemon()
    deadline = time.monotonic() + (parse_duration(timeout) if timeout else float("inf"))
    statuses = []
    for job in jobs:
        while not (found := client.wait(job, "final", max(0.0, min(30.0, deadline - time.monotonic())))).final:
            if time.monotonic() >= deadline:
                say(f"job {job} has not ended: {render.phase(found)}")
                return EXIT_TIMEOUT
        statuses.append(protocol.exit_code(found))
        if not quiet:
            say(render.outcome(found, look(sys.stderr)))
    return next((status for status in statuses if status), 0)
