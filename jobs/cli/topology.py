from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs.cli.arguments import AsJson

EXAMPLES = """
jobs topology
jobs topology --svg host.svg           a picture for a browser
jobs topology --capture odd.json       to send to somebody: names no host, no address, no user
jobs topology --from odd.json
"""


def command(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="With --capture: where it goes; - is stdout.", show_default=False)
    ] = "",
    svg: Annotated[str, typer.Option("--svg", metavar="FILE", help="Write a picture instead; - is stdout.")] = "",
    source: Annotated[str, typer.Option("--from", metavar="FILE", help="Draw a captured machine instead.")] = "",
    capture: Annotated[bool, typer.Option("--capture", help="Collect the files this is read from into one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw this host: sockets, memory nodes, caches, cores, and which job has what of them.

    Without a daemon only the machine is drawn.
    """
    from jobs.cli.connect import daemon
    from jobs.cli.daemon_program import become_jobsd
    from jobs.cli.terminal import data, json_data, look, say
    from jobs.errors import Unavailable, UserError

    if file and not capture:
        raise UserError(f"what is {file!r} for?", hint=f"jobs topology --from {file}, --svg {file} or --capture {file}")
    if capture + bool(source or svg or as_json) > 1:
        raise UserError("--capture goes with no other option", hint="draw what was captured: jobs topology --from FILE")
    words = ["--capture", file or "topology.json"] if capture else []
    words += ["--from", source] if source else []
    words += ["--svg", svg] if svg else []
    words += ["--json"] if as_json else []
    if capture or source:
        become_jobsd("topology", *words)
    try:
        machine = daemon().machine()
    except Unavailable as error:
        if "JOBS_SOCKET" in os.environ:  # this daemon was meant and no other
            raise
        say(f"only the machine: {error.message}")
        become_jobsd("topology", *words)
    if as_json:
        from dataclasses import asdict

        json_data(asdict(machine))
        return
    from jobs.machine import view_of

    if svg:
        from jobs.cli.terminal import write_file
        from jobs.topology_svg import draw as draw_svg

        write_file(svg, draw_svg(view_of(machine)))
        return
    from jobs.topology_text import draw

    data(draw(view_of(machine), min(look().width, 120)))
