"""What the store remembers of an image, and its canonical JSON. Pure.

The jail's report is checked here as strictly as any other input: whoever broke the jail's program speaks through it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.errors import BadImage

VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
RESERVED = frozenset({"host"})  # what `[image] source` understands besides names


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`layers` are diff ids, top first. `user` and `cmd` are data: nothing of ours obeys them."""

    name: str
    kind: str  # rootfs | docker | oci
    layers: tuple[str, ...]
    size_bytes: int  # uncompressed, shared layers included
    files: int
    imported_at: float
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    notes: tuple[str, ...] = ()  # what was left out at the import


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One layer of a report: `made` is False when the store had it and it was only read."""

    diff_id: str
    made: bool
    opaque: tuple[str, ...]


def check_name(name: str) -> str:
    """Raises BadImage."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise BadImage(
            f"{name[:140]!r} cannot be the name of an image",
            hint="letters, digits and '._-', at most 128, the first a letter or digit, and not 'host'",
        )
    return name


def to_bytes(info: ImageInfo) -> bytes:
    """Sorted keys, no blanks: one image has one text."""
    return json.dumps({"version": VERSION, **asdict(info)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def from_bytes(data: bytes) -> ImageInfo:
    """Inverse of `to_bytes`. Raises ValueError on what this or an earlier version did not write."""
    found = json.loads(data)
    if not isinstance(found, dict) or found.pop("version", None) != VERSION:
        raise ValueError("not an image file of a known version")
    try:
        return ImageInfo(
            **{
                **found,
                "layers": _digests(found["layers"]),
                "env": tuple((str(key), str(value)) for key, value in found["env"]),
                **{key: tuple(map(str, found[key])) for key in ("entrypoint", "cmd", "notes")},
            }
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an image file: {error}") from None


def _digests(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(x, str) and DIGEST.fullmatch(x) for x in values):
        raise ValueError("a layer that is no digest")
    return tuple(values)


def read_report(data: bytes, archive: str) -> dict[str, Any]:
    """The jail's report. Raises BadImage with its refusal, ValueError when it is no report."""
    report = json.loads(data)
    if not isinstance(report, dict):
        raise ValueError("no object")
    if "refused" in report:
        words = [archive, str(report.get("member", "")), str(report["refused"])]
        raise BadImage(": ".join(_printable(word) for word in words if word), hint=str(report.get("hint", ""))[:500])
    return report


def unpacked(report: Mapping[str, Any]) -> tuple[Unpacked, ...]:
    """Bottom first. Raises ValueError, KeyError or TypeError."""
    found = []
    for layer in report["layers"]:
        (diff_id,) = _digests([layer["diff_id"]])
        opaque = tuple(str(path) for path in layer["opaque"])
        found.append(Unpacked(diff_id, layer["made"] is True, opaque))
    if not found:
        raise ValueError("no layer")
    return tuple(found)


def info_of(name: str, report: Mapping[str, Any], now: float) -> ImageInfo:
    """Raises ValueError, KeyError or TypeError on a report that is none."""
    config = report["config"]
    bottom_up = [layer.diff_id for layer in unpacked(report)]
    return ImageInfo(
        name=name,
        kind=str(report["kind"]),
        layers=stack(bottom_up),
        size_bytes=int(report["bytes"]),
        files=int(report["files"]),
        imported_at=now,
        env=tuple((str(key), str(value)) for key, value in config["env"]),
        entrypoint=tuple(str(item) for item in config["entrypoint"]),
        cmd=tuple(str(item) for item in config["cmd"]),
        workdir=str(config["workdir"]),
        user=str(config["user"]),
        notes=_notes(report),
    )


def stack(bottom_up: list[str]) -> tuple[str, ...]:
    """Top first, each layer once, where it lies highest: overlay refuses a folder twice (ELOOP).

    A lower copy changes nothing: all that it adds or hides, the higher one adds or hides again.
    """
    return tuple(dict.fromkeys(reversed(bottom_up)))


_LEFT_OUT = {
    "device": "device nodes are left out: a job gets its own /dev",
    "fifo": "fifos are left out",
    "set-id": "set-user-id and set-group-id bits are cleared: no job could use them",
    "attribute": "extended attributes other than user.* are left out",
}


def _notes(report: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for kind, text in _LEFT_OUT.items():
        count = int(report["left_out"].get(kind, 0))
        if count:
            names = ", ".join(_printable(str(name)) for name in report["names"].get(kind, [])[:3])
            found.append(f"{text} ({count}: {names}{', …' if count > 3 else ''})")
    return tuple(found)


def _printable(text: str) -> str:
    """Names come from the archive: no control characters, no lone surrogates, no endless lines."""
    shown = text if text.isprintable() else repr(text.encode(errors="surrogateescape"))
    return shown if len(shown) <= 300 else shown[:300] + "…"
