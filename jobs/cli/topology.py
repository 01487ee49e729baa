from __future__ import annotations

from jobs.cli.arguments import AsJson

EXAMPLES = """
jobs topology
jobs topology --json
"""


def command(as_json: AsJson = False) -> None:
    """Show the CPUs and memory nodes of this host."""
    from jobs.cli.daemon_program import become_jobsd

    become_jobsd("topology", *(["--json"] if as_json else []))
