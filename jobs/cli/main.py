"""The program `jobs`, also installed as `jobsctl`: finds the command, runs it, turns errors into text and exit codes.

A command is a module with `command` (its signature is the command line) or `app` (a group), and `EXAMPLES`. Only the
one that was asked for is imported; all of them for `--help`. Exit codes: jobs/errors.py.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click
import typer
from typer.core import TyperGroup
from typer.main import get_command

from jobs.cli.terminal import program, say
from jobs.errors import EXIT_USER, JobsError

# Shown in this order under these titles.
SECTIONS: dict[str, dict[str, str]] = {
    "Submit": {"submit": "submit", "run": "run", "check": "check"},
    "Look": {"list": "listing", "show": "show", "logs": "logs", "wait": "wait", "events": "events",
             "inspect": "inspecting"},
    "Ask": {"why": "why", "whatif": "whatif", "blame": "blame"},
    "Steer": {
        "cancel": "cancel", "pause": "pause", "resume": "resume", "hold": "hold", "release": "release",
        "priority": "priority", "exec": "execute",
    },
    "Queues": {"queue": "queue", "share": "share", "reserve": "reserve"},
    "Images": {"image": "image"},
    "Host": {"doctor": "doctor", "topology": "topology"},
    "Shell": {"shell-init": "shell_init", "completion": "completion"},
}  # fmt: skip
COMMANDS = {name: module for section in SECTIONS.values() for name, module in section.items()}
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(TyperGroup):
    """Imports a command when it is asked for."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        self.commands = dict.fromkeys(COMMANDS, click.Command(None))  # names for click's "did you mean"
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, _short(self.get_command(ctx, name))) for name in names])


def _short(command: click.Command | None) -> str:
    return command.get_short_help_str(80) if command else ""


def load(name: str) -> click.Command:
    module: Any = importlib.import_module(f"jobs.cli.{COMMANDS[name]}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_CONTEXT)
        app.command(name, epilog=_examples(module.EXAMPLES), **getattr(module, "OPTIONS", {}))(module.command)
    found = get_command(app)
    found.name = name
    return found


def _examples(text: str) -> str:
    """\\b keeps click from filling the lines anew."""
    lines = text.strip().replace("jobs ", f"{program()} ").splitlines()
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


root = typer.Typer(
    suggest_commands=False,  # click's own are enough
    cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings=_CONTEXT, no_args_is_help=True,
    epilog="\b\nStart here:\n  jobs submit examples/hello.toml\n  jobs list\n  jobs logs -f 1\n"
           "Each command has its own --help with examples.",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"jobs {version('jobsctl')}")
        raise typer.Exit


@root.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it and exit."),
) -> None:
    """Batch jobs in containers: submit, watch, freeze, change, resume."""


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code; what there is to say is printed."""
    try:
        if "_JOBSCTL_COMPLETE" in os.environ:  # asked by config/shell/jobs.*; click's own protocol, typer's needs rich
            from click.shell_completion import shell_complete

            return shell_complete(
                get_command(root), {}, "jobsctl", "_JOBSCTL_COMPLETE", os.environ["_JOBSCTL_COMPLETE"]
            )
        status = get_command(root).main(arguments, prog_name=program(), standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except JobsError as error:
        return _explain(error)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:  # `jobs list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ValueError as error:  # a value that the protocol or a setting does not allow
        if type(error) is ValueError or type(error).__name__ == "BadSetting":
            say(f"error: {error}")
            return EXIT_USER
        raise
    return status if isinstance(status, int) else 0


def _explain(error: JobsError) -> int:
    from jobs.render import printable, with_program

    for line in error.message.splitlines():  # names of files and of archive members may be in it
        say(printable(line) if line.startswith(" ") else f"error: {printable(line)}")
    for line in with_program(error.hint, program()).splitlines():
        say(f"  hint: {printable(line)}")
    return error.exit_code


if __name__ == "__main__":
    main()
