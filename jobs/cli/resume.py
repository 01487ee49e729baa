from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import MaybeJobIds
from jobs.cli.selection import All, OfQueue, OfUser

EXAMPLES = """
jobs resume 17
jobs resume --wait 17                  return when it runs
jobs resume --all --spread 30s         one after the other, over half a minute
"""


def command(
    jobs: MaybeJobIds = None,
    everything: All = False,
    user: OfUser = "",
    queue: OfQueue = "",
    spread: Annotated[str, typer.Option(metavar="TIME", help="Over how long several are spread.")] = "0s",
    wait: Annotated[bool, typer.Option("--wait", help="Return when it runs again.")] = False,
) -> int:
    """Let paused jobs go on, as soon as there are CPUs for them."""
    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.selection import chosen
    from jobs.cli.steering import each, wait_until
    from jobs.cli.terminal import say
    from jobs.units import parse_duration

    client = daemon()

    def resume(job: str) -> protocol.Job:
        found = client.resume(job)
        return wait_until(client, job, "running") if wait and not found.holds else found

    ids = chosen(client, jobs, everything, user, queue)
    if not ids:
        say("no jobs there to resume")
    return each(ids, resume, apart_s=parse_duration(spread) / max(1, len(ids) - 1))
