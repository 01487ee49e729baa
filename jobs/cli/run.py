from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs.cli.arguments import Sets

EXAMPLES = """
jobs run examples/hello.toml
jobs run --set resources.memory=2GiB build.toml
"""


def command(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A TOML file; - is stdin.", show_default=False)],
    sets: Sets = None,
) -> int:
    """Submit one job, show its output, and exit with its status.

    Where no daemon runs, one lives for this command (as root). Ctrl-C asks the job to stop, a second one kills it.
    """
    from jobs.cli.connect import daemon
    from jobs.cli.following import cancel, follow
    from jobs.cli.specs import read_specs
    from jobs.cli.terminal import say
    from jobs.errors import Unavailable

    client = daemon()
    try:
        client.head()
    except Unavailable:
        if "JOBS_SOCKET" in os.environ:  # this daemon was meant and no other
            raise
        embedded(spec, sets or [])
    accepted = client.submit(read_specs([spec], sets or []))
    say(f"submitted job {accepted.jobs[0]}")
    return follow(client, accepted.jobs, cancel, lasting="JOBS_EMBEDDED" not in os.environ)


def embedded(spec: str, sets: list[str]) -> None:
    """Becomes `jobsd run-embedded`, which starts a daemon and runs this command again with its socket."""
    from jobs.cli.daemon_program import become_jobsd

    os.environ["JOBS_EMBEDDED"] = "1"  # that daemon can't be asked afterwards
    become_jobsd("run-embedded", *(word for value in sets for word in ("--set", value)), "--", spec)
