from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, MaybeJobIds

EXAMPLES = """
jobs show 17
jobs show --json 17 | jq .usage
jobs show --host                       what this host offers to jobs; what it lacks: jobs doctor
"""


def command(
    jobs: MaybeJobIds = None,
    host: Annotated[bool, typer.Option("--host", help="This host instead: controllers, features, CPUs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show everything known of a job, or of the host."""
    from dataclasses import asdict

    from jobs import render_page
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look
    from jobs.errors import UserError

    if bool(jobs) == host:
        raise UserError("give ids of jobs, or --host", hint="see your jobs with: jobs list")
    client = daemon()
    if host:
        found_host = client.host()
        json_data(found_host) if as_json else data(render_page.host_page(found_host))
        return
    found = [client.job(job) for job in jobs or []]
    if as_json:
        json_data(asdict(found[0]) if len(found) == 1 else [asdict(job) for job in found])
    else:
        data("\n\n".join(render_page.page(job, look()) for job in found))
