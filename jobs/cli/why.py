from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, JobId

EXAMPLES = """
jobs why 17
jobs why 17 --at "2027-01-31 22:00"
jobs why --json 17 | jq .start_at
"""


def command(
    job: JobId,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help='As it was then: "2027-01-31 22:00", "10m ago".')
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say why a job does not run: what it lacks, who has it, when it will start, what would start it now."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.moments import moment
    from jobs.cli.terminal import data, json_data, look
    from jobs.render_why import page

    found = daemon().why(job, None if at is None else moment("--at", at))
    json_data(asdict(found)) if as_json else data(page(found, look()))
