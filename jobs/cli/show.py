from __future__ import annotations

from jobs.cli.arguments import AsJson, JobIds

EXAMPLES = """
jobs show 17
jobs show --json 17 | jq .usage
"""


def command(jobs: JobIds, as_json: AsJson = False) -> None:
    """Show everything known of a job."""
    from dataclasses import asdict

    from jobs import render
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look

    client = daemon()
    found = [client.job(job) for job in jobs]
    if as_json:
        json_data(asdict(found[0]) if len(found) == 1 else [asdict(job) for job in found])
    else:
        data("\n\n".join(render.page(job, look()) for job in found))
