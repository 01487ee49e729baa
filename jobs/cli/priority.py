from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, JobId

EXAMPLES = """
jobs priority --urgency 90 17
jobs priority --cpu-weight 400 --network background 17
"""


def command(
    job: JobId,
    urgency: Annotated[int | None, typer.Option("--urgency", help="Place in the queue: 0 to 100.")] = None,
    cpu_weight: Annotated[int | None, typer.Option("--cpu-weight", help="Beside others on a CPU: 1 to 10000.")] = None,
    io_weight: Annotated[int | None, typer.Option("--io-weight", help="Beside others on a disk: 1 to 10000.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="CLASS", help="background, normal, high or realtime.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's priorities while it waits, runs or is frozen."""
    from dataclasses import asdict

    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import json_data, say

    found = daemon().priority(job, protocol.Priority(urgency, cpu_weight, io_weight, network))
    if as_json:
        json_data(asdict(found))
        return
    say(
        f"job {found.written}: urgency {found.urgency}, cpu weight {found.cpu_weight}, io weight {found.io_weight}, "
        f"network {found.network_class}"
    )
