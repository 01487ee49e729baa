"""Who delayed a job, as said between daemon and CLI. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.protocol import decode


@dataclass
class BlamePart:
    """A part of a job's wait. `cause`: a dimension, as in Lack, or "starting", "round", "daemon", "never", "unknown".

    `job`: who had what it waited for; 0: nobody by name, `text` says more. `name`, `owner`: "" where they are not the
    asker's to know."""

    cause: str
    seconds: float
    job: int = 0
    text: str = ""
    name: str = ""
    owner: str = ""


@dataclass
class Blame:
    """Who delayed a job: all the time that it lived and did not run, until its end or `until`; `parts` sum to
    `waited_s`, the longest first."""

    job: int
    state: str
    until: float
    waited_s: float
    name: str = ""
    parts: tuple[BlamePart, ...] = ()
    notes: tuple[str, ...] = ()


def decode_blame(data: dict[str, Any]) -> Blame:
    blame = decode(Blame, data)
    blame.parts = tuple(decode(BlamePart, item) for item in data["parts"])
    return blame
