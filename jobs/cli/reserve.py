from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True,
    help="Keep CPUs free at a time to come; for operators.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='\b\nExamples:\n  jobs reserve add outage --from "2027-01-31 22:00" --for 4h\n'
           "  jobs reserve add course --from 2027-02-01T09:00 --for 2h --every 7d --cpus 8 --users alice,bob\n"
           "  jobs reserve list",
)  # fmt: skip
EXAMPLES = ""


def complete_reservations(incomplete: str) -> list[str]:
    """Nothing where no daemon answers."""
    from jobs.cli.connect import daemon
    from jobs.errors import JobsError

    try:
        return [each.name for each in daemon().reservations().reservations if each.name.startswith(incomplete)]
    except (JobsError, ValueError):
        return []


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.", show_default=False)],
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help='When: "2027-01-31 22:00" in local time, or "now".')
    ],
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long: 4h, 30m.")],
    every: Annotated[str, typer.Option("--every", metavar="DURATION", help="Again after so long: 7d.")] = "",
    cpus: Annotated[int, typer.Option("--cpus", min=0, help="So many CPUs; 0: the whole host.")] = 0,
    users: Annotated[
        str, typer.Option("--users", metavar="USER,…", help="Whose jobs may use them; nobody's: maintenance.")
    ] = "",
) -> None:
    """Keep CPUs free, once or again and again."""
    from jobs import protocol_queues
    from jobs.cli.connect import daemon
    from jobs.cli.moments import moment
    from jobs.cli.terminal import look, say
    from jobs.render_queues import reservation_line
    from jobs.units import parse_duration

    request = protocol_queues.Reserve(
        name, moment("--from", begin), parse_duration(length), parse_duration(every) if every else 0.0, cpus,
        tuple(user.strip() for user in users.split(",") if user.strip()),
    )  # fmt: skip
    found = next(each for each in daemon().reserve(request).reservations if each.name == name)
    say(reservation_line(found, look()))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List reservations, the next one first."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look, say
    from jobs.render_queues import reservation_table

    found = daemon().reservations()
    if as_json:
        json_data([asdict(each) for each in found.reservations])
    elif found.reservations:
        data(reservation_table(found, look()))
    else:
        say("no reservations")


@app.command()
def remove(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="Reservations that were added by command.", show_default=False,
                       autocompletion=complete_reservations),
    ],
) -> None:  # fmt: skip
    """Give reserved CPUs back."""
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import say

    client = daemon()
    for name in names:
        client.remove_reservation(name)
        say(f"removed reservation {name}")
