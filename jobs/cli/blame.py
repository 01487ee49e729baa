from __future__ import annotations

from jobs.cli.arguments import AsJson, JobId

EXAMPLES = """
jobs blame 17
jobs blame --json 17 | jq '.parts[] | [.seconds, .cause, .job]'
"""


def command(job: JobId, as_json: AsJson = False) -> None:
    """Say who delayed a job and for how long: all the time that it lived and did not run, from the journal."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look
    from jobs.render_blame import page

    found = daemon().blame(job)
    json_data(asdict(found)) if as_json else data(page(found, look()))
