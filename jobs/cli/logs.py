from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import JobId

if TYPE_CHECKING:
    from jobs.client import Client
    from jobs.protocol import Stream

EXAMPLES = """
jobs logs 17
jobs logs -f 17                        until the job has ended
jobs logs --stderr --tail 20 17
jobs logs --attempt 1 17               of a job that was tried again
"""


def command(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, max=1_000_000, help="Only the last lines.")] = 0,
    attempt: Annotated[
        int | None, typer.Option("--attempt", "-a", min=1, metavar="N", help="Of this attempt; the newest by default.")
    ] = None,
    stderr: Annotated[bool, typer.Option("--stderr", "-e", help="The job's stderr instead of its stdout.")] = False,
) -> None:
    """Print a job's output as it was written."""
    from jobs.cli.connect import daemon

    client = daemon()
    stream: Stream = "stderr" if stderr else "stdout"
    number = attempt or max(1, client.job(job).attempt)
    _copy(client, job, stream, tail, follow, number)
    while follow and not attempt and not _was_last(client, job, number):
        number += 1
        _copy(client, job, stream, 0, follow, number)


def _was_last(client: Client, job: str, attempt: int) -> bool:
    found = client.job(job)
    return found.final and found.attempt <= attempt


def _copy(client: Client, job: str, stream: Stream, tail: int, follow: bool, attempt: int) -> None:
    """Resumes where it was when the daemon restarts meanwhile, or dropped old output while we were slow."""
    import sys

    from jobs.cli.following import dropped, over
    from jobs.cli.terminal import say
    from jobs.errors import Unavailable

    at = 0
    while True:
        before = at
        ended = over(client.job(job), attempt)  # before the output is read: what came last is then in it
        try:
            start, chunks = client.logs(job, stream, start=at, tail=tail, follow=follow, attempt=attempt)
            if start > at and not tail:
                say(dropped(start - at))
            at, tail = start, 0
            for data in chunks:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                at += len(data)
        except Unavailable:
            if not follow:
                raise
            client.close()  # the next question waits for the daemon
            continue
        if not follow or (ended and at == before):
            return
