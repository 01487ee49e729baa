from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs resume 17
jobs resume --wait 17                  return when it runs
"""


def command(
    jobs: JobIds,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it runs again.")] = False,
) -> int:
    """Let paused jobs go on, as soon as there are CPUs for them."""
    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.steering import each, wait_until

    client = daemon()

    def resume(job: str) -> protocol.Job:
        found = client.resume(job)
        return wait_until(client, job, "running") if wait and not found.holds else found

    return each(jobs, resume)
