from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson

EXAMPLES = """
jobs doctor
sudo jobs doctor                       also what only root can try
jobs doctor --json > host.json         to send to somebody; paths of mounts are in it, names and addresses not
jobs doctor --from host.json           what somebody sent
"""


def command(
    everything: Annotated[bool, typer.Option("--all", help="A line for each thing that is fine, too.")] = False,
    saved: Annotated[
        str, typer.Option("--from", metavar="FILE", help="Another host: what --json gave there.", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """What this host offers and lacks, what that costs, and what mends it.

    Needs no daemon and changes nothing: what only trying can tell is tried in a child and undone. Exits with 3 when
    jobs can't run here.
    """
    from jobs.cli.daemon_program import become_jobsd

    flags = [*(["--json"] if as_json else []), *(["--all"] if everything else [])]
    become_jobsd("doctor", *flags, *(["--from", saved] if saved else []))
