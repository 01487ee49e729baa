from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """
eval "$(jobsctl shell-init bash)"      in ~/.bashrc; zsh: the same in ~/.zshrc
jobsctl shell-init fish | source       in ~/.config/fish/config.fish
eval "$(jobsctl shell-init sh)"        dash and other POSIX shells
"""
SHELLS = ("bash", "zsh", "fish", "sh")


def command(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh, fish or sh.", show_default=False)],
) -> None:
    """Print a shell function that makes `jobs` reach this program.

    `jobs` is a builtin of every shell: without it, `jobs submit x.toml` asks the shell, not us; `jobsctl submit x.toml`
    always works. With it, our commands come here, and `jobs`, `jobs -l`, `jobs %1` still list the shell's own jobs.
    """
    from jobs.cli.terminal import data

    data(script(shell).rstrip())


def script(shell: str) -> str:
    """config/shell/jobs.SHELL with our commands filled in. Raises UserError."""
    import os

    import config
    from jobs.cli.main import COMMANDS
    from jobs.errors import UserError

    if shell not in SHELLS:
        raise UserError(f"no such shell: {shell!r}", hint=f"one of {', '.join(SHELLS)}; dash is sh")
    path = os.path.join(os.path.dirname(config.__file__), "shell", f"jobs.{shell}")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return text.replace("@COMMANDS@", (" " if shell == "fish" else "|").join(COMMANDS)).replace("@JOBSCTL@", _jobsctl())


def _jobsctl() -> str:
    """By name where PATH has it; else the one beside us."""
    import os
    import shlex
    import shutil
    import sys

    if shutil.which("jobsctl"):
        return "jobsctl"
    return shlex.quote(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "jobsctl"))
