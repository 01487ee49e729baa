from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, Sets

EXAMPLES = """
jobs check encode.toml
jobs check --json encode.toml          every key as it is understood, units resolved
"""


def command(
    files: Annotated[list[str], typer.Argument(metavar="SPEC…", help="TOML files; - is stdin.", show_default=False)],
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Check specs as `submit` would, without submitting.

    The jobs of a file are shown in the order in which they wait for each other.
    """
    from jobs import render_page
    from jobs.cli.connect import daemon
    from jobs.cli.specs import read_specs
    from jobs.cli.terminal import data, json_data

    checked = daemon().check(read_specs(files, sets or []))
    if as_json:
        json_data(list(checked.specs))
    else:
        for file, spec in zip(checked.files, checked.specs, strict=True):
            data(render_page.spec_line(file, spec))
