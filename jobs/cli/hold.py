from __future__ import annotations

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs hold 17
"""


def command(jobs: JobIds) -> int:
    """Keep waiting jobs from starting."""
    from jobs.cli.connect import daemon
    from jobs.cli.steering import each

    return each(jobs, daemon().hold, "let it queue again with: {program} release {job}")
