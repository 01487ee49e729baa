from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """
jobs completion bash > /etc/bash_completion.d/jobsctl
jobs completion zsh > "${fpath[1]}/_jobsctl"
"""


def command(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print the completion alone; `shell-init` has it too."""
    from jobs.cli.shell_init import script
    from jobs.cli.terminal import data
    from jobs.errors import UserError

    if shell not in ("bash", "zsh", "fish"):
        raise UserError(f"no completion for {shell!r}", hint="one of bash, zsh, fish")
    head = "#compdef jobsctl\n" if shell == "zsh" else ""
    data(head + completion_of(script(shell)).rstrip())


def completion_of(text: str) -> str:
    """The part of a shell-init script after the function `jobs`: from the completing function on."""
    return (
        text[text.index("_jobsctl_complete") :]
        if "function __jobsctl" not in text
        else text[text.index("function __") :]
    )
