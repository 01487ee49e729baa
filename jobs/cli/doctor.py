from __future__ import annotations

from jobs.cli.arguments import AsJson

EXAMPLES = """
jobs doctor
"""


def command(as_json: AsJson = False) -> None:
    """Check what this host offers to jobs, and what is in the way."""
    from jobs.cli.daemon_program import become_jobsd

    become_jobsd("doctor", *(["--json"] if as_json else []))
