"""Arguments that several commands share, and the completion of job ids in the shell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer


def complete_jobs(incomplete: str) -> Iterator[tuple[str, str]]:
    """(id, name and state); nothing where no daemon answers."""
    from jobs.cli.connect import daemon
    from jobs.errors import JobsError
    from jobs.render import phase, printable

    try:
        found = daemon().jobs(newest=50).jobs
    except (JobsError, ValueError):
        return
    for job in reversed(found):
        if job.written.startswith(incomplete):
            yield job.written, f"{printable(job.name)}, {phase(job)}"


_ID = "Id of the job: 17, or 12_3 for a task of an array."
JobId = Annotated[str, typer.Argument(metavar="JOB", help=_ID, autocompletion=complete_jobs)]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.", autocompletion=complete_jobs)]
MaybeJobIds = Annotated[
    list[str] | None, typer.Argument(metavar="JOB…", help="Ids of jobs.", autocompletion=complete_jobs)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key of the spec: resources.cpus=4. Repeatable."),
]
