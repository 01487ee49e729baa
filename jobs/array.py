"""The indexes of an array of tasks, as `array = "0-999:2,2000%50"` writes them, and what became of its tasks. Pure.

Tasks are counted by *position*, 0 to size - 1 in the order of their indexes: positions have no gaps, so sets of them
are few runs. Users see indexes only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from jobs.runs import Runs, both, count, either, has, minus, plus, without

MOST_TASKS = 1_000_000
LARGEST_INDEX = 999_999_999
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")


@dataclass(frozen=True, slots=True)
class Array:
    """`ranges`: (first, last, step), ascending, none into another. `at_once`: most tasks that live together; 0: all."""

    ranges: tuple[tuple[int, int, int], ...]
    at_once: int = 0

    @property
    def size(self) -> int:
        return sum((last - first) // step + 1 for first, last, step in self.ranges)

    def index(self, position: int) -> int:
        """Of the task at a position. Raises IndexError."""
        for first, last, step in self.ranges:
            size = (last - first) // step + 1
            if position < size:
                return first + position * step
            position -= size
        raise IndexError(position)

    def position(self, index: int) -> int | None:
        """None when no task has this index."""
        at = bisect_right(self.ranges, (index, LARGEST_INDEX + 1, 0)) - 1
        if at < 0:
            return None
        first, last, step = self.ranges[at]
        if index > last or (index - first) % step:
            return None
        before = list(accumulate(((end - start) // by + 1 for start, end, by in self.ranges[:at]), initial=0))
        return before[-1] + (index - first) // step

    def __str__(self) -> str:
        texts = [_text(*given) for given in self.ranges]
        return ",".join(texts) + (f"%{self.at_once}" if self.at_once else "")


def _text(first: int, last: int, step: int) -> str:
    if first == last:
        return str(first)
    return f"{first}-{last}" + (f":{step}" if step > 1 else "")


def parse_array(text: str) -> Array:
    """`0-999%50` → Array. Raises ValueError that says what is wrong and what is possible."""
    listed, percent, most = text.partition("%")
    ranges = sorted(_range(part) for part in listed.split(","))
    for one, other in pairwise(ranges):
        if other[0] <= one[1]:
            raise ValueError(f"{_text(*one)} and {_text(*other)} overlap; each index once")
    if percent and not (re.fullmatch("[0-9]{1,9}", most) and int(most)):
        raise ValueError(f"'%{most}' is not possible; needs % and how many tasks run at once, for example %50")
    found = Array(tuple(ranges), int(most) if percent else 0)
    if found.size > MOST_TASKS:
        raise ValueError(f"{found.size} tasks are too many; at most {MOST_TASKS}")
    return found


def _range(part: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(part.strip(" ")) if part.isascii() else None
    if not match:
        raise ValueError(f"{part!r} is not a range of indexes; needs 7, 0-99 or 0-99:10")
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if last < first or not step:
        raise ValueError(f"{part!r} is not a range of indexes; it ends before it begins, or has a step of 0")
    last -= (last - first) % step
    return first, last, step if last > first else 1


def index_text(array: Array, positions: Runs, most: int = 8) -> str:
    """Positions as indexes, `0-4,7`; at most so many runs, then an ellipsis."""
    texts: list[str] = []
    for first, last in positions:
        if len(texts) == most:
            return ",".join([*texts, "…"])
        texts += [_text(*part) for part in _parts(array, first, last)]
    return ",".join(texts[:most]) + (",…" if len(texts) > most else "")


def _parts(array: Array, first: int, last: int) -> list[tuple[int, int, int]]:
    """The ranges of indexes that a run of positions is."""
    found, start = [], 0
    for low, high, step in array.ranges:
        size = (high - low) // step + 1
        one, other = max(first, start), min(last, start + size - 1)
        if one <= other:
            found.append((low + (one - start) * step, low + (other - start) * step, step))
        start += size
    return found


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of an array's tasks, by position. Those in none of the three live: begun and not ended."""

    size: int
    pending: Runs
    good: Runs = ()  # completed
    bad: Runs = ()  # ended otherwise, or never began
    status: int = 0  # highest exit status so far

    @classmethod
    def of(cls, array: Array) -> Progress:
        return cls(array.size, ((0, array.size - 1),))

    @property
    def live(self) -> int:
        return self.size - count(self.pending) - count(self.good) - count(self.bad)

    @property
    def ended(self) -> bool:
        return not self.pending and not self.live

    def begin(self, position: int) -> Progress:
        """Raises ValueError unless it is pending."""
        return replace(self, pending=minus(self.pending, position))

    def end(self, position: int, *, good: bool, status: int) -> Progress:
        """Raises ValueError unless it lives."""
        if not 0 <= position < self.size or any(has(runs, position) for runs in (self.pending, self.good, self.bad)):
            raise ValueError(f"the task at {position} does not live")
        status = max(self.status, status)
        if good:
            return replace(self, good=plus(self.good, position), status=status)
        return replace(self, bad=plus(self.bad, position), status=status)

    def drop(self, positions: Runs) -> Progress:
        """Pending tasks that will never begin. Raises ValueError unless all of them are pending."""
        if both(self.pending, positions) != positions:
            raise ValueError("not all of these tasks are pending")
        return replace(self, pending=without(self.pending, positions), bad=either(self.bad, positions))


def progress_from_json(data: dict[str, Any]) -> Progress:
    """Inverse of a dataclass as JSON."""
    runs = {name: tuple((first, last) for first, last in data[name]) for name in ("pending", "good", "bad")}
    return Progress(**{**data, **runs})
