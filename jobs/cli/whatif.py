from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, JobId

EXAMPLES = """
jobs whatif 17 --cpus 4
jobs whatif 17 --memory 8GiB --time-limit 30m
jobs whatif 17 --urgency 90
"""


def command(
    job: JobId,
    cpus: Annotated[float | None, typer.Option("--cpus", help="CPUs; a fraction is possible.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="As in a spec: 8GiB.")] = None,
    numa: Annotated[str | None, typer.Option("--numa", help="local, spread or any.")] = None,
    cores: Annotated[str | None, typer.Option("--cores", help="shared or whole.")] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="TIME", help="Of running time: 30m; 0 for none.")
    ] = None,
    urgency: Annotated[int | None, typer.Option("--urgency", help="Place in the queue: 0 to 100.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Another queue.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask whether a waiting job would start if it asked for something else. Changes nothing."""
    from dataclasses import asdict

    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look
    from jobs.render_why import page
    from jobs.units import parse_duration, parse_size

    request = protocol.WhatIf(
        cpus=cpus,
        memory_bytes=None if memory is None else parse_size(memory),
        numa=numa,  # type: ignore[arg-type]  # the daemon says what is possible
        cores=cores,  # type: ignore[arg-type]
        time_limit_s=None if time_limit is None else parse_duration(time_limit),
        urgency=urgency,
        queue=queue,
    )
    found = daemon().what_if(job, request)
    json_data(asdict(found)) if as_json else data(page(found, look(), supposed=True))
