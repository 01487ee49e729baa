"""The line index against tomllib (same keys) and against a writer that knows its lines."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.specfile_lines import DEEPEST, Path, TooDeep, index_lines, line_of, read_key


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every key and element of a parsed document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    if isinstance(value, list):
        for position, inner in enumerate(value):
            yield from paths(inner, (*path, position))


# ── a writer of TOML that notes the line of each key ───────────────────────────────────────────────────────────────


@dataclass
class Written:
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def note(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self.line)


KEYS = st.text(st.sampled_from("ab-_1") | st.sampled_from(". =\"'#é[]{},\\\n"), min_size=1, max_size=4)
SCALARS = st.one_of(
    st.integers(-9, 99).map(str),
    st.sampled_from(["true", "1.5", "1979-05-27 07:32:00", "07:32:00", "inf", '""', "''"]),
    st.sampled_from(['"a # b"', '"q\\" = 1"', "'[x]'", '"\\\\"', "'\\'", '"{,}"']),
    st.sampled_from(
        ['"""\na = 1\n[b]\n"""', "'''\n''x\n'''", '"""a""b\\""""', '""""a"""""', "'''a'''''", '"""\\\n  a"""']
    ),
)
FILLER = st.sampled_from(["", "# a = 1\n", "\n", "  \t", "\n# [x]\n\n"])


def write_key(key: str, draw: Any) -> str:
    bare = key.isascii() and all(character.isalnum() or character in "-_" for character in key)
    if bare and draw(st.booleans()):
        return key
    literal = "'" not in key and "\n" not in key and draw(st.booleans())
    return f"'{key}'" if literal else json.dumps(key)


def write_value(written: Written, path: Path, draw: Any, depth: int = 0) -> None:
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"])) if depth < 3 else "scalar"
    if kind == "scalar":
        written.text += draw(SCALARS)
    elif kind == "array":
        written.text += "["
        for position in range(draw(st.integers(0, 3))):
            written.text += draw(FILLER)
            written.note((*path, position))
            write_value(written, (*path, position), draw, depth + 1)
            written.text += draw(FILLER) + ","
        written.text += draw(FILLER) + "]"
    else:
        written.text += "{"
        for number, key in enumerate(draw(st.lists(KEYS, max_size=3, unique=True))):
            written.text += ", " if number else " "
            written.note((*path, key))
            written.text += write_key(key, draw) + " = "
            write_value(written, (*path, key), draw, depth + 1)
        written.text += "}"


@st.composite
def documents(draw: Any) -> Written:
    written = Written()
    tables = draw(st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=4, unique_by=lambda item: item[0]))
    top = draw(st.lists(KEYS, max_size=3, unique=True))
    for key in top:
        if key not in {name for name, _ in tables}:
            pair(written, (key,), [key], draw)
    for name, elements in tables:
        for position in range(elements or 1):
            path: Path = (name, position) if elements else (name,)
            written.text += draw(FILLER)
            written.note(path)
            header = write_key(name, draw)
            written.text += f"[[ {header}]] # c\n" if elements else f"[{header} ]\n"
            for key in draw(st.lists(KEYS, max_size=3, unique=True)):
                pair(written, (*path, key), [key], draw)
            if draw(st.booleans()):
                written.note((*path, "sub-table"))
                written.text += f"[{header}.sub-table]\n"
                pair(written, (*path, "sub-table", "x", "y"), ["x", "y"], draw)
    return written


def pair(written: Written, path: Path, key: list[str], draw: Any) -> None:
    written.text += draw(FILLER)
    written.note(path)
    written.text += " . ".join(write_key(part, draw) for part in key) + " = "
    write_value(written, path, draw)
    written.text += draw(st.sampled_from(["\n", " # c\n", "\r\n"]))


@given(documents())
def test_each_key_has_the_line_where_it_was_written(written: Written) -> None:
    tomllib.loads(written.text)  # the writer writes TOML
    assert index_lines(written.text) == written.lines


@given(documents())
def test_the_keys_are_those_that_tomllib_finds(written: Written) -> None:
    assert set(index_lines(written.text)) == set(paths(tomllib.loads(written.text)))


@given(st.text(st.sampled_from("ab1.=[]{},\"'#\n\r\t \\é") | st.characters(), max_size=60))
@example('a = "\\')
@example("a = '''")
@example("[[")
def test_any_text_at_all_is_survived(text: str) -> None:
    for path, line in index_lines(text).items():
        assert path and 1 <= line <= text.count("\n") + 1


@given(st.text(st.sampled_from("ab1.=[]{},\"'#\n \\"), max_size=40))
def test_what_tomllib_accepts_is_indexed_whole(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(index_lines(text)) == set(paths(data))


# ── examples that once were hard ───────────────────────────────────────────────────────────────────────────────────


def test_a_spec() -> None:
    lines = index_lines(
        'name = "a"\n\n[resources]\ncpus = 2\nio = { read = "1M", write = "2M" }\n[[mounts]]\n[[mounts]]\nmode="x"\n'
    )
    assert lines == {
        ("name",): 1, ("resources",): 3, ("resources", "cpus"): 4,
        ("resources", "io"): 5, ("resources", "io", "read"): 5, ("resources", "io", "write"): 5,
        ("mounts",): 6, ("mounts", 0): 6, ("mounts", 1): 7, ("mounts", 1, "mode"): 8,
    }  # fmt: skip


def test_keys_inside_strings_are_no_keys() -> None:
    assert index_lines('a = """\nb = 1\n"""\nc = 2\n') == {("a",): 1, ("c",): 4}


def test_line_of_something_missing_is_the_line_of_its_table() -> None:
    lines = index_lines("\n[network]\n")
    assert (line_of(lines, ("network", "mode")), line_of(lines, ("mounts", 3, "mode")), line_of(lines, ())) == (2, 1, 1)


@pytest.mark.parametrize("text", ["x" + ".x" * DEEPEST, "x = " + "[" * (DEEPEST + 1), "x = " + "{a=" * (DEEPEST + 1)])
def test_too_deep(text: str) -> None:
    with pytest.raises(TooDeep) as caught:
        index_lines("\n" + text)
    assert caught.value.line == 2


def test_read_key() -> None:
    assert read_key('a."b.c" = 1 = 2') == (("a", "b.c"), " 1 = 2")
    for text in ("", "a", "= 1", "a. = 1", "[a] = 1"):
        with pytest.raises(ValueError, match="not key=value"):
            read_key(text)
