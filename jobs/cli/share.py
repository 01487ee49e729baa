from __future__ import annotations

from jobs.cli.arguments import AsJson

EXAMPLES = """
jobs share
jobs share --json | jq 'max_by(.cpu_s)'
"""


def command(as_json: AsJson = False) -> None:
    """Show who has used how much of the machine, what is due to them, and the points that makes.

    Operators see all users, others their own accounts.
    """
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, say
    from jobs.render_queues import share_note, share_table

    found = daemon().shares()
    if as_json:
        json_data([asdict(share) for share in found.shares])
        return
    if found.shares:
        data(share_table(found))
    say(share_note(found))
