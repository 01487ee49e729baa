from __future__ import annotations

from jobs.cli.arguments import JobIds

EXAMPLES = """
jobs submit --hold nightly.toml
jobs release 17
"""


def command(jobs: JobIds) -> int:
    """Let held jobs queue."""
    from jobs.cli.connect import daemon
    from jobs.cli.steering import each

    return each(jobs, daemon().release)
