from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True,
    help="Look at queues; operators drain, open and configure them.",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  jobs queue list\n  jobs queue drain night\n  jobs queue reload",
)  # fmt: skip
EXAMPLES = ""


def complete_queues(incomplete: str) -> list[str]:
    """Nothing where no daemon answers."""
    from jobs.cli.connect import daemon
    from jobs.errors import JobsError

    try:
        return [queue.name for queue in daemon().queues().queues if queue.name.startswith(incomplete)]
    except (JobsError, ValueError):
        return []


Name = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Name of the queue.", autocompletion=complete_queues, show_default=False)
]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List queues: whether their jobs start now, what is in them, and their limits."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look
    from jobs.render_queues import queue_table

    found = daemon().queues()
    if as_json:
        json_data([asdict(queue) for queue in found.queues])
    else:
        data(queue_table(found, look()))


@app.command()
def drain(name: Name) -> None:
    """Let a queue take jobs but start none; for operators. Running jobs go on."""
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import program, say

    queue = next(each for each in daemon().set_queue(name, "drain").queues if each.name == name)
    say(f"queue {name} is drained: {queue.running} running, {queue.waiting} waiting; "
        f"start its jobs again with: {program()} queue open {name}")  # fmt: skip


@app.command("open")
def open_(name: Name) -> None:
    """Let the jobs of a drained queue start again; for operators."""
    from jobs.cli.connect import daemon
    from jobs.cli.terminal import say

    queue = next(each for each in daemon().set_queue(name, "open").queues if each.name == name)
    say(f"queue {name} is open: {queue.running} running, {queue.waiting} waiting")


@app.command()
def reload(as_json: AsJson = False) -> None:
    """Read the policy file again; for operators. A file with a mistake changes nothing."""
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import json_data, say

    found = daemon().reload_policy()
    if as_json:
        json_data(asdict(found))
    else:
        news = "in force" if found.changed else "as it was"
        say(f"the policy is {news}; queues: {', '.join(found.queues)}")
