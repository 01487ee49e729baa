"""Where each key of a TOML text stands: path → line. tomllib tells no lines, so errors about values could not either.

A tolerant scanner, linear in the text: it never judges (tomllib does), it stops where it no longer understands.
It runs first and refuses keys and arrays nested so deeply that tomllib would take quadratic time or recurse too far.
Source of the grammar: TOML 1.0.0, toml.abnf.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

Path = tuple[str | int, ...]
DEEPEST = 32  # levels of nesting, parts of a key; a spec needs five

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# How each kind of string goes on: an escape is stepped over, anything else ends it. No repetition in a pattern, so
# nothing backtracks; possessive quantifiers are wrong in Python 3.11.2 (cpython issue 106052).
_STRING_MARKS = {
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'''": re.compile("'''"),
    '"': re.compile(r'\\.|["\n]'),
    "'": re.compile(r"['\n]"),
}
_SCALAR = re.compile(r"[^,\]}#\n]+")


class TooDeep(ValueError):
    """Nested deeper than DEEPEST; `line` says where."""

    def __init__(self, line: int) -> None:
        super().__init__(f"nested deeper than {DEEPEST} levels")
        self.line = line


class _Lost(Exception):
    """Not TOML from here on."""


def index_lines(text: str) -> dict[Path, int]:
    """`{("resources", "cpus"): 7, ("mounts", 0): 9, …}`, 1-based; array elements have their index as a part.

    Raises TooDeep. For a text that is not TOML, the keys before the first mistake.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except _Lost:
        pass
    return scanner.lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the key, or of the nearest table around it; 1 for the document."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def read_key(text: str) -> tuple[Path, str]:
    """`a."b.c" = rest` → (("a", "b.c"), "rest"). Raises ValueError when no `key =` stands there."""
    scanner = _Scanner(text)
    try:
        key = scanner.key()
        scanner.take("=")
    except _Lost:
        raise ValueError(f"not key=value: {text!r}") from None
    return key, text[scanner.at :]


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # array of tables: index of its last element
        self._counted_to, self._line = 0, 1

    # ── the grammar ────────────────────────────────────────────────────────────────────────────────────────────────

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) and self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._array_header()
            elif self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table, depth=1)

    def key(self) -> tuple[str, ...]:
        parts = [self._key_part()]
        while self._skip(_SPACE) and self.text.startswith(".", self.at):
            self.at += 1
            parts.append(self._key_part())
            if len(parts) > DEEPEST:
                raise TooDeep(self._line_here())
        return tuple(parts)

    def take(self, mark: str) -> None:
        self._skip(_SPACE)
        if not self.text.startswith(mark, self.at):
            raise _Lost
        self.at += len(mark)

    def _header(self) -> Path:
        line = self._line_here()
        self.take("[")
        path = self._resolve(self.key())
        self.take("]")
        self._note(path, line)
        return path

    def _array_header(self) -> Path:
        line = self._line_here()
        self.take("[[")
        *outer, last = self.key()
        self.take("]]")
        array = (*self._resolve(tuple(outer)), last)
        self._tables[array] = self._tables.get(array, -1) + 1
        path = (*array, self._tables[array])
        self._note(path, line)
        return path

    def _resolve(self, key: tuple[str, ...]) -> Path:
        """A header's key means the last element of each array of tables on its way."""
        path: Path = ()
        for part in key:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _pair(self, table: Path, depth: int) -> None:
        self._skip(_SPACE)
        line = self._line_here()
        path = (*table, *self.key())
        self.take("=")
        self._note(path, line)
        self._value(path, depth)

    def _value(self, path: Path, depth: int) -> None:
        if depth > DEEPEST:
            raise TooDeep(self._line_here())
        self._skip(_SPACE)
        if self.text.startswith("[", self.at):
            self._array(path, depth)
        elif self.text.startswith("{", self.at):
            self._inline_table(path, depth)
        elif self.text.startswith(('"', "'"), self.at):
            self._string()
        else:
            self._match(_SCALAR)

    def _array(self, path: Path, depth: int) -> None:
        self.at += 1
        for position in range(len(self.text)):
            self._skip(_BLANK)
            if self.text.startswith("]", self.at):
                break
            element = (*path, position)
            self._note(element, self._line_here())
            self._value(element, depth + 1)
            self._skip(_BLANK)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self.take("]")

    def _inline_table(self, path: Path, depth: int) -> None:
        self.at += 1
        self._skip(_SPACE)
        while not self.text.startswith("}", self.at):
            self._pair(path, depth + 1)
            self._skip(_SPACE)
            if not self.text.startswith(",", self.at):
                break
            self.at += 1
        self.take("}")

    # ── pieces ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _key_part(self) -> str:
        self._skip(_SPACE)
        if self.text.startswith(('"', "'"), self.at):
            raw = self._string()
            if "\n" in raw or raw[:3] in ('"""', "'''"):
                raise _Lost
            return _unquote(raw)
        return self._match(_BARE)

    def _string(self) -> str:
        start = self.at
        quotes = next(quotes for quotes in _STRING_MARKS if self.text.startswith(quotes, start))
        self.at += len(quotes)
        while (mark := _STRING_MARKS[quotes].search(self.text, self.at)) and mark[0].startswith("\\"):
            self.at = mark.end()
        if not mark or mark[0] == "\n":
            raise _Lost
        self.at = mark.end()
        for _ in range(2 if len(quotes) == 3 else 0):  # a long string may end in one or two quotes of its own
            self.at += self.text.startswith(quotes[0], self.at)
        return self.text[start : self.at]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise _Lost
        self.at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        self._match(pattern)
        return True

    def _note(self, path: Path, line: int) -> None:
        """The first mention counts, also for the tables that a dotted key makes on its way."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                break
            self.lines[path[:length]] = line

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line


def _unquote(raw: str) -> str:
    if raw[0] == "'" or "\\" not in raw:
        return raw[1:-1]
    try:
        value = tomllib.loads(f"key = {raw}")["key"]
    except tomllib.TOMLDecodeError:
        raise _Lost from None
    return str(value)
