from __future__ import annotations

from jobs.cli.arguments import AsJson, JobId

EXAMPLES = """
jobs why 17
jobs why --json 17 | jq .start_at
"""


def command(job: JobId, as_json: AsJson = False) -> None:
    """Say why a job does not run: what it lacks, who has it, when it will start, what would start it now."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look
    from jobs.render_why import page

    found = daemon().why(job)
    json_data(asdict(found)) if as_json else data(page(found, look()))
