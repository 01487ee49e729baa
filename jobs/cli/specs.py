"""Reads spec files as the user named them. What is in them is the daemon's business."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jobs.errors import UserError
from jobs.protocol import MOST_SPEC_BYTES, SpecText


def read_specs(files: Sequence[str], sets: Sequence[str]) -> list[SpecText]:
    """`-` is stdin. Raises UserError."""
    return [_read(file, sets) for file in files]


def _read(file: str, sets: Sequence[str]) -> SpecText:
    here = os.getcwd()
    try:
        if file == "-":
            name, folder, raw = "<stdin>", here, sys.stdin.buffer.read(MOST_SPEC_BYTES + 1)
        else:
            name, folder = file, os.path.dirname(os.path.abspath(file))
            with open(file, "rb") as opened:
                raw = opened.read(MOST_SPEC_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {file!r}: {error.strerror}", hint=_hint(file)) from error
    if len(raw) > MOST_SPEC_BYTES:
        raise UserError(f"{name} is larger than 1 MiB", hint="a spec is a small TOML file; is this the right one?")
    try:
        return SpecText(raw.decode(), name, folder, here, tuple(sets))
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text (byte {error.start})", hint="a spec is a TOML file") from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _hint(file: str) -> str:
    if os.path.isdir(file):
        return "give the TOML files in it"
    return "" if file.endswith(".toml") else "a spec is a TOML file; read one from stdin with: jobs submit -"
