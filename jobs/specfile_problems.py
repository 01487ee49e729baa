"""From what is wrong with a value to a line of text: file, line, key, what was given, what is possible. Daemon only."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from jobs.errors import Problem
from jobs.specfile_lines import Path, line_of
from jobs.specfile_model import (
    Depends,
    Document,
    Image,
    Io,
    Mount,
    Network,
    Placement,
    Resources,
    Retry,
    Stop,
    Variant,
    VariantPlacement,
    VariantResources,
    Warn,
)  # fmt: skip
from jobs.specfile_values import Refused, show, type_name

LISTS = ("mounts", "variant")  # of tables
TABLES: dict[Path, type[BaseModel]] = {
    (): Document, ("stop",): Stop, ("image",): Image, ("resources",): Resources, ("resources", "io"): Io,
    ("placement",): Placement, ("network",): Network, ("mounts",): Mount, ("depends",): Depends, ("warn",): Warn,
    ("retry",): Retry, ("variant",): Variant, ("variant", "resources"): VariantResources,
    ("variant", "placement"): VariantPlacement,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """Something wrong at a key."""

    path: Path
    message: str
    hint: str = ""


@dataclass(slots=True)
class Origin:
    """Where each value came from: a line of the file, or a --set."""

    file: str
    lines: Mapping[Path, int]
    overridden: dict[Path, int] = field(default_factory=dict)  # path → which --set

    def problems(self, found: Iterable[Found]) -> tuple[Problem, ...]:
        """In file order, then in the order of the --set options."""
        placed = [(self._where(item.path), item) for item in found]
        placed.sort(key=lambda pair: pair[0])
        return tuple(
            Problem(
                "--set" if order else self.file, 0 if order else line, render_key(item.path), item.message, item.hint
            )
            for (order, line), item in placed
        )

    def _where(self, path: Path) -> tuple[int, int]:
        """(0, line) in the file, (n, 0) for the n-th --set."""
        around = [path[:length] for length in range(len(path), 0, -1)]
        for key in around:
            if key in self.overridden:
                return self.overridden[key], 0
        return 0, line_of(self.lines, path)


def render_key(path: Path) -> str:
    """("mounts", 1, "target") → `mounts[1].target`; parts that are not bare keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
            text += f".{bare}" if text else bare
    return text if len(text) <= 200 else f"{text[:199]}…"


Tables = Mapping[Path, type[BaseModel]]


def of_pydantic(error: ErrorDetails, data: Mapping[str, Any], tables: Tables = TABLES) -> Found:
    """One of pydantic's errors in our words. Our own checks raise Refused, which arrives as `value_error`."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    kind, given = error["type"], error["input"]
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, Refused):
            return Found((*path, *cause.below), cause.message, cause.hint)
    if kind == "extra_forbidden":
        return unknown_key(path, tables)
    if kind == "missing":
        return Found(path, f"is missing: {_field_description(path, tables)}")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        shown = "" if path[:1] == ("env",) else f"{show(given)} "  # values of env may be secrets
        return Found(path, f"{shown}is {type_name(given)}; needs a table", _table_hint(path))
    if kind in ("tuple_type", "list_type"):
        return Found(path, f"{show(given)} is {type_name(given)}; needs a list", _list_hint(path, given))
    return Found(path, f"{show(given)} is not possible: {error['msg'].lower()}")


def unknown_key(path: Path, tables: Tables = TABLES) -> Found:
    """Which keys there are, and which one may have been meant: a similar one here, or the same one elsewhere."""
    where = _table(path, tables)
    table = tables[where]
    here = sorted(field.alias or name for name, field in table.model_fields.items())
    last = str(path[-1])
    near = difflib.get_close_matches(last, here, n=1, cutoff=0.6)
    elsewhere = [
        render_key((*key, last)) for key, model in tables.items() if last in model.model_fields and key != where
    ]
    hint = f"did you mean {near[0]!r}?" if near else f"did you mean '{elsewhere[0]}'?" if elsewhere else ""
    return Found(path, f"unknown key; possible here: {', '.join(here)}", hint)


def _table(path: Path, tables: Tables) -> Path:
    """The second part may be a name that somebody chose: `queue.night`."""
    found = tuple(part for part in path[:-1] if isinstance(part, str))
    return found if found in tables else (found[0], "NAME", *found[2:])


def _field_description(path: Path, tables: Tables) -> str:
    names = {field.alias or name: field for name, field in tables[_table(path, tables)].model_fields.items()}
    description = names[str(path[-1])].description or ""
    return description[:1].lower() + description[1:].rstrip(".")


def _table_hint(path: Path) -> str:
    key: Sequence[Any] = [part for part in path if isinstance(part, str)]
    several = len(key) == 1 and key[0] in LISTS
    return f"write [[{key[0]}]] above each" if several else f"write [{render_key(tuple(key))}] above its keys"


def _list_hint(path: Path, given: object) -> str:
    if len(path) == 1 and path[0] in LISTS:
        return f"write [[{path[0]}]], with two brackets"
    return f"write: {path[-1]} = [{json.dumps(given)}]" if isinstance(given, str) else ""
