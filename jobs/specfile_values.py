"""Kinds of values of a spec: text, choice, whole number, size, duration, rate, path. TOML value → value, or Refused.

Every refusal says what was given and what is possible. Digits are ASCII digits: "٣" is not a number here.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jobs import units

MOST_ELEMENTS = 256  # of a list of devices, ports or mounts
LONGEST_STRING_BYTES = 128 * 1024 - 1  # MAX_ARG_STRLEN of execve(2), without the final NUL
_TYPES = {
    "bool": "a boolean", "int": "an integer", "float": "a number", "str": "a string", "list": "a list",
    "dict": "a table", "time": "a time of day", "date": "a date", "datetime": "a date and time",
}  # fmt: skip


class Refused(ValueError):
    """This value is not possible; `below` is the part of it that is at fault, as a path."""

    def __init__(self, message: str, *, hint: str = "", below: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.below = message, hint, below


def show(given: object) -> str:
    """A value as an error prints it: quoted, escaped, at most 60 characters."""
    text = repr(given) if isinstance(given, str) else str(given).lower() if isinstance(given, bool) else str(given)
    return text if len(text) <= 60 else f"{text[:57]}…"


def type_name(given: object) -> str:
    return _TYPES.get(type(given).__name__, f"a {type(given).__name__}")


def closest(given: str, possible: Iterable[str]) -> str:
    """`did you mean 'bridge'?`, or a note about characters that only look like ASCII, or nothing."""
    if strange := sorted({character for character in given if not character.isascii()}):
        return "not plain ASCII: " + ", ".join(f"{character!r} is U+{ord(character):04X}" for character in strange[:3])
    near = difflib.get_close_matches(given, list(possible), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def text(given: object, *, wanted: str = "a string", longest: int = LONGEST_STRING_BYTES) -> str:
    """A string the kernel can carry: no NUL, valid Unicode, not too long."""
    if not isinstance(given, str):
        quoted = f'quote it: "{show(given)}"' if isinstance(given, int | float) else ""
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}", hint=quoted)
    if "\0" in given:
        raise Refused("holds a NUL character; the kernel ends strings there")
    size = len(given.encode("utf-8", "surrogatepass"))
    if size > longest:
        raise Refused(f"{size} bytes are too long; at most {longest}")
    return given


def choice(*possible: str) -> Callable[[object], str]:
    """One word of a list."""

    def check(given: object) -> str:
        listed = ", ".join(possible)
        if not isinstance(given, str):
            raise Refused(f"{show(given)} is {type_name(given)}; possible: {listed}")
        if given not in possible:
            raise Refused(f"{show(given)} is not possible; possible: {listed}", hint=closest(given, possible))
        return given

    return check


def boolean(given: object) -> bool:
    if not isinstance(given, bool):
        raise Refused(f"{show(given)} is {type_name(given)}; possible: true, false")
    return given


def whole(low: int, high: int) -> Callable[[object], int]:
    """An integer from low to high."""

    def check(given: object) -> int:
        wanted = f"an integer from {low} to {high}"
        if isinstance(given, bool) or not isinstance(given, int):
            raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
        if not low <= given <= high:
            raise Refused(f"{show(given)} is out of range; needs {wanted}")
        return given

    return check


def _in_units(given: object, parse: Callable[[Any], Any], wanted: str) -> Any:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise Refused(f"{show(given)} is {type_name(given)}; needs {wanted}")
    try:
        return parse(given)
    except ValueError as error:
        reason = str(error).replace(repr(given), show(given))
        raise Refused(reason, hint=closest(str(given), ())) from None


def size(least: int, reason: str) -> Callable[[object], int]:
    """Bytes, at least so many."""

    def check(given: object) -> int:
        if isinstance(given, float):
            raise Refused(f'{show(given)} is a number; needs a size, for example "4GiB"')
        found: int = _in_units(given, units.parse_size, 'a size, for example "4GiB"')
        if found < least:
            raise Refused(f"{show(given)} is too small; needs at least {units.render_size(least)}: {reason}")
        return found

    return check


def duration(given: object) -> float:
    """Seconds. TOML reads an unquoted 02:00:00 as a time of day."""
    found: float = _in_units(given, units.parse_duration, 'a duration, for example "2h" or "90s"')
    return found


def byte_rate(given: object) -> int:
    """Bytes a second, at least one page: 0 would mean "no limit" to the kernel."""
    found: int = _in_units(given, units.parse_byte_rate, 'a rate, for example "100MiB/s"')
    if found < 4096:
        raise Refused(f'{show(given)} is too small; needs at least "4KiB/s", or no such key for no limit')
    return found


def bit_rate(given: object) -> int:
    found: int = _in_units(given, units.parse_bit_rate, 'a network rate, for example "100mbit"')
    return found


def element(position: int | str, check: Callable[[object], Any], item: object) -> Any:
    try:
        return check(item)
    except Refused as error:
        raise Refused(error.message, hint=error.hint, below=(position, *error.below)) from None


def plain_path(given: str) -> str:
    """Absolute and without "..": where the path leads must not depend on symbolic links above it."""
    if not given.startswith("/"):
        raise Refused(f"{show(given)} is not absolute; needs a path that begins with /")
    if ".." in given.split("/"):
        raise Refused(f"{show(given)} is not possible; a path here has no '..'")
    if any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in given.split("/")):
        raise Refused(f"{show(given)} is not possible; a file's name has at most 255 bytes")
    return "/" + posixpath.normpath(given).lstrip("/")


def unique(given: Sequence[object], what: str) -> None:
    """Raises Refused at the second of two equal elements, and for a list that is no list of a person's."""
    if len(given) > MOST_ELEMENTS:
        raise Refused(f"{len(given)} elements are too many; at most {MOST_ELEMENTS}")
    seen: set[object] = set()
    for position, item in enumerate(given):
        if item in seen:
            raise Refused(f"the same {what} twice: {show(item)}", below=(position,))
        seen.add(item)
