from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import JobId

EXAMPLES = """
jobs exec 17                           a shell
jobs exec 17 -- ps ax
tar c in/ | jobs exec 17 -- tar x
"""
OPTIONS = {"context_settings": {"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}}


def command(
    job: JobId,
    argv: Annotated[list[str] | None, typer.Argument(metavar="[PROGRAM ARG…]", help="A shell when left out.")] = None,
    tty: Annotated[bool | None, typer.Option("--tty/--no-tty", help="A terminal; as ours is when left out.")] = None,
) -> int:
    """Run a program in the namespaces of a running job.

    It has the job's root, network, limits and rights. The exit status is the program's.
    """
    import os
    import sys

    from jobs import protocol
    from jobs.cli.connect import daemon
    from jobs.cli.exec_session import session

    wants_tty = sys.stdin.isatty() and sys.stdout.isatty() if tty is None else tty
    env = (("TERM", os.environ.get("TERM", "dumb")),) if wants_tty else ()
    words = argv[1:] if argv and argv[0] == "--" else argv
    ticket = daemon().exec(job, protocol.Exec(tuple(words or ["/bin/sh"]), wants_tty, env))
    return session(ticket)
