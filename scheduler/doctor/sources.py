"""Files and folders of a host as they are, or as nothing: what is missing, masked or forbidden is no error here."""

from __future__ import annotations

import os


def read(path: str) -> str:
    """Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def text(path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""


def names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def nearest(path: str) -> str:
    """The path, or what is there of it."""
    while path not in ("", "/") and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path or "/"
