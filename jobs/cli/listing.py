from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.arguments import AsJson

if TYPE_CHECKING:
    from jobs.client import Client

EXAMPLES = """
jobs list
jobs list --state running,frozen
jobs list --everyone --watch
jobs list --json | jq '.[] | select(.exit_status != 0) | .job'
"""


def command(
    states: Annotated[str, typer.Option("--state", metavar="STATE,…", help="Only these states.")] = "",
    newest: Annotated[int, typer.Option("--newest", "-n", min=1, max=5000, help="The last so many.")] = 30,
    everything: Annotated[bool, typer.Option("--all", "-a", help="The last 5000.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", "-t", help="With tasks of arrays that have ended.")] = False,
    everyone: Annotated[bool, typer.Option("--everyone", help="The jobs of all users; for operators.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing them; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """List jobs, oldest first."""
    from dataclasses import asdict

    from jobs import render
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look, program, say

    filters = {"state": [state for state in states.split(",") if state], "newest": 0 if everything else newest}
    filters |= {"tasks": "true"} if tasks else {}
    client = daemon()
    if watch:
        _watch(client, {**filters, "everyone": str(everyone).lower()}, as_json)
        return
    jobs = client.jobs(**filters, everyone=str(everyone).lower()).jobs
    if as_json:
        json_data([asdict(job) for job in jobs])
    elif jobs:
        data(render.table(jobs, look()))
    else:
        say(f"no jobs; submit one with: {program()} submit SPEC")


def _watch(client: Client, filters: dict[str, Any], as_json: bool) -> None:
    """A table that is drawn over; off a terminal one line whenever a job's state changes."""
    import sys
    import time
    from dataclasses import asdict

    from jobs import render
    from jobs.cli.terminal import data, json_data, look

    said: dict[int, str] = {}
    on_terminal = sys.stdout.isatty() and not as_json
    while True:
        jobs = client.jobs(**filters).jobs
        if on_terminal:
            screen = look()
            sys.stdout.write("\x1b[H\x1b[J" + (render.table(jobs, screen) or "no jobs") + "\n")
        for job in jobs if not on_terminal else ():
            if said.get(job.job) != render.phase(job):
                said[job.job] = render.phase(job)
                json_data(asdict(job)) if as_json else data(render.progress(job, look()))
        sys.stdout.flush()
        time.sleep(1.0)
