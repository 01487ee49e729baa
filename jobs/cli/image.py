from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from jobs.cli.arguments import AsJson

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Import, list and remove images.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  jobs image import debian debian.tar\n  jobs image import tools ./rootfs\n"
           "  jobs image list",
)  # fmt: skip
EXAMPLES = ""
COLUMNS = ("name", "kind", "layers", "size_bytes", "files", "imported_at")


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What specs call it.", show_default=False)],
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder, tar, docker-save archive or OCI layout.", show_default=False),
    ],
    kind: Annotated[str, typer.Option("--kind", help="auto, dir or tar.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Import an image; for operators."""
    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import json_data, say
    from jobs.render import printable

    request = protocol.ImportImage(name, os.path.abspath(source), kind)  # type: ignore[arg-type]
    found = daemon().import_image(request)
    if as_json:
        json_data(found)
    else:
        for note in found.get("notes", ()):
            say(f"note: {printable(note)}")
        say(f'imported image {name}; use it in a spec with: [image] source = "{name}"')
        for note in found["notes"]:
            say(f"note: {note}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List images."""
    from jobs import render
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, say

    images = daemon().images()
    if as_json:
        json_data(images)
    elif images:
        titles = [title for title in COLUMNS if title in images[0]]
        rows = [[_cell(title, image[title]) for title in titles] for image in images]
        data(render.plain_table([title.removesuffix("_bytes").removesuffix("_at").upper() for title in titles], rows))
    else:
        say('no images; specs can use the host\'s own root, or a folder: [image] source = "dir:/path"')


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Images.", show_default=False)],
) -> None:
    """Remove images; refused while a running job uses one."""
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import say

    client = daemon()
    for name in names:
        client.remove_image(name)
        say(f"removed image {name}")


def _cell(title: str, value: object) -> str:
    from jobs.units import render_size

    if title.endswith("bytes") and isinstance(value, int):
        return render_size(value)
    if title.endswith("_at") and isinstance(value, int | float):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if isinstance(value, list):
        return str(len(value))
    return str(value)
