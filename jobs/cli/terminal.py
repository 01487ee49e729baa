"""The terminal: data on stdout, everything else on stderr; colour, width, and lines that are drawn over.

No library: a live line is a carriage return and "erase to the end" (ECMA-48 CR and EL), as every terminal knows them.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.render import Look

_ERASE = "\x1b[K"
_UP = "\x1b[{}A"


def program() -> str:
    """What the user types to reach us: the shell function says so, else the name we were started by."""
    name = os.environ.get("JOBS_PROGRAM") or os.path.basename(sys.argv[0])
    return name if name in ("jobs", "jobsctl") else "jobsctl"


def look(stream: IO[str] | None = None) -> Look:
    from jobs.render import Look  # not on the path of --help

    stream = stream or sys.stdout
    colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((100, 24)).columns if stream.isatty() or "COLUMNS" in os.environ else 200
    return Look(width=width, colour=colour, now=time.time(), program=program())


def data(text: str) -> None:
    """To stdout."""
    print(text)


def json_data(value: Any) -> None:
    """To stdout: indented on a terminal, one line elsewhere."""
    import json

    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def write_file(path: str, text: str) -> None:
    """A file that the user named; - is stdout. Raises HostError."""
    from jobs.errors import HostError

    if path == "-":
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", hint="choose another folder, or - for stdout") from (
            error
        )


def say(text: str) -> None:
    """To stderr: what happened and what next."""
    print(text, file=sys.stderr, flush=True)


class Live:
    """Lines at the bottom of the terminal that are replaced; elsewhere plain lines, when they say something new."""

    def __init__(self, every_s: float = 5.0) -> None:
        self.on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0
        self._every_s = every_s
        self._said: dict[str, tuple[str, float]] = {}

    def draw(self, lines: Sequence[tuple[str, str, str]]) -> None:
        """Each line: (what it is about, its state, its text). Off a terminal it is printed when the state changes,
        and every few seconds.
        """
        if self.on_terminal:
            self._draw([text for _, _, text in lines])
            return
        for about, state, text in lines:
            before, at = self._said.get(about, ("", 0.0))
            if state != before or time.monotonic() - at >= self._every_s:
                self._said[about] = (state, time.monotonic())
                say(text)

    def clear(self) -> None:
        """Before anything else is written."""
        if self._drawn:
            up = _UP.format(self._drawn - 1) if self._drawn > 1 else ""
            sys.stderr.write("\r" + up + "\x1b[J")
            sys.stderr.flush()
            self._drawn = 0

    def _draw(self, lines: Sequence[str]) -> None:
        size = shutil.get_terminal_size((100, 24))
        lines = [_visible(line, size.columns - 1) for line in lines[-max(1, size.lines - 1) :]]
        up = _UP.format(self._drawn - 1) if self._drawn > 1 else ""
        sys.stderr.write("\r" + up + "\x1b[J" + "\n".join(line + _ERASE for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)


def _visible(text: str, width: int) -> str:
    """Cut to `width` columns; colour sequences take none."""
    shown, out, inside = 0, [], False
    for char in text:
        if char == "\x1b":
            inside = True
        if not inside:
            shown += 1
            if shown > width:
                break
        out.append(char)
        if inside and char == "m":
            inside = False
    return "".join(out) + ("\x1b[0m" if "\x1b" in text else "")
