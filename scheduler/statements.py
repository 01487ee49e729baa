"""The SQL of scheduler/sql/, by file and by name (`-- name: append` starts a statement). Reads packaged files once."""

from __future__ import annotations

import re
from importlib.resources import files


def text(file: str) -> str:
    return (files("scheduler") / "sql" / file).read_text(encoding="utf-8")


def _named(file: str) -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)\n", text(file), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (sql.strip() for sql in parts[2::2]), strict=True))


WRITE = _named("write.sql")
READ = _named("read.sql")
