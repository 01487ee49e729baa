"""What a job waits for, with names resolved to ids: part of its submission. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.runs import Runs

KINDS = ("after", "afterok", "afternotok", "afterany", "aftercorr")  # of [depends] that name jobs
MOST_NEEDS = 2000  # of one job


class Outcome(StrEnum):
    """As far as others that wait can care."""

    OPEN = "open"  # has not begun
    BEGUN = "begun"
    GOOD = "good"  # completed
    BAD = "bad"  # ended otherwise


@dataclass(frozen=True, slots=True)
class Need:
    """`kind` is a key of [depends], or "singleton". The rest is how it was with the job when this was submitted:
    `settled`, its `state` in words, and of an array the positions of the tasks that had completed."""

    kind: str
    job: int
    name: str = ""  # of that job, for people
    settled: Outcome = Outcome.OPEN
    state: str = ""
    good: Runs = ()


def need_from_json(data: dict[str, Any]) -> Need:
    good = tuple((first, last) for first, last in data.get("good", ()))
    return Need(**{**data, "settled": Outcome(data["settled"]), "good": good})
