"""Dataclasses as JSON text, fast: `asdict` copies every leaf, which is most of the time a submission takes. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

_names: dict[type, tuple[str, ...]] = {}  # a memo: `fields` is slow


def plain(value: Any) -> dict[str, Any]:
    """One level of a dataclass; the values inside are as they were. Raises TypeError on anything else."""
    names = _names.get(type(value))
    if names is None:
        names = _names[type(value)] = tuple(field.name for field in fields(value))
    return {name: getattr(value, name) for name in names}


def encode(value: Any) -> str:
    """Compact JSON; dataclasses at any depth. NaN and infinity, which JSON has not, raise ValueError."""
    return json.dumps(value, default=plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
