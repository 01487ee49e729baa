"""How a try ended, as a value. Pure; launcher side."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """`worked` is None when that could not be found out. `said`: what was seen, or why not."""

    worked: bool | None
    said: str = ""
