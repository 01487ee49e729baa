"""Dataclasses as JSON text, fast: `asdict` copies every leaf, which is most of the time a submission takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from operator import attrgetter
from typing import Any

_getters: dict[type, tuple[tuple[str, ...], Callable[[Any], Any]]] = {}  # memos: `fields` is slow
_usual: dict[type, tuple[tuple[str, Any, str], ...]] = {}


def plain(value: Any) -> dict[str, Any]:
    """One level of a dataclass; the values inside are as they were. Raises TypeError on anything else."""
    found = _getters.get(type(value))
    if found is None:
        names = tuple(field.name for field in fields(value))
        found = _getters[type(value)] = names, attrgetter(*names) if len(names) > 1 else partial(_each, names)
    names, get = found
    return dict(zip(names, get(value), strict=True))


def _each(names: tuple[str, ...], value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, name) for name in names)


_ENCODER = json.JSONEncoder(default=plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode(value: Any) -> str:
    """Compact JSON; dataclasses at any depth. NaN and infinity, which JSON has not, raise ValueError."""
    return _ENCODER.encode(value)


def encode_usual(value: Any) -> str:
    """As `encode` of a dataclass, faster where parts of it that are dataclasses have their default: those come last."""
    usual = _usual.get(type(value))
    if usual is None:
        usual = _usual[type(value)] = tuple(
            (name, default, f'"{name}":{encode(default)}') for name, default in defaults(type(value)).items()
            if is_dataclass(default)
        )  # fmt: skip
    rest, texts = plain(value), []
    for name, default, text in usual:
        if rest[name] is default or rest[name] == default:
            del rest[name]
            texts.append(text)
    return "".join((encode(rest)[:-1], "," if rest and texts else "", ",".join(texts), "}"))


def defaults(kind: type) -> dict[str, Any]:
    """Of the fields of a dataclass that have one."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        if field.default is not MISSING:
            found[field.name] = field.default
        elif field.default_factory is not MISSING:
            found[field.name] = field.default_factory()
    return found
