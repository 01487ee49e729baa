"""Where the rig and the work tree are, and how the rig speaks."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"


def say(text: str) -> None:
    print(f"test-vm: {text}", file=sys.stderr, flush=True)
