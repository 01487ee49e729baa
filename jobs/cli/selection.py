"""Which jobs a command steers: those named by id, or all of a user, of a queue, or all there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from jobs import protocol
from jobs.client import Client
from jobs.errors import UserError

LIVE = ("queued", "held", "starting", "underway", "running", "frozen", "thawing")
All = Annotated[bool, typer.Option("--all", "-a", help="All your jobs; for operators the jobs of all users.")]
OfUser = Annotated[str, typer.Option("--user", "-u", metavar="USER", help="All jobs of a user; for operators.")]
OfQueue = Annotated[str, typer.Option("--queue", "-q", metavar="QUEUE", help="All jobs in a queue.")]


def chosen(client: Client, ids: Sequence[str] | None, everything: bool, user: str, queue: str) -> Sequence[str]:
    """Ids, those of a selection oldest first. Raises UserError when nothing or both is given."""
    if bool(ids) == bool(everything or user or queue):
        raise UserError(
            "give ids of jobs, or --all, --user or --queue" + (", not both" if ids else ""),
            hint="see your jobs with: jobs list",
        )
    if ids:
        return ids
    found = _live(client, user)
    return [job.written for job in found if user in ("", job.owner) and queue in ("", job.queue)]


def _live(client: Client, user: str) -> Sequence[protocol.Job]:
    """Of everybody for who operates; else one's own. A named user may be somebody else."""
    from jobs.client import Refused

    try:
        return client.jobs(state=LIVE, everyone="true").jobs
    except Refused as error:
        if error.code != "not-allowed" or user:
            raise
        return client.jobs(state=LIVE).jobs
