"""Sets of whole numbers as runs: `((0, 4), (7, 7))` is 0 to 4 and 7. Sorted, disjoint, never touching. Pure.

So large sets that change at few places stay small: what an array has left, what of it went well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Runs = tuple[tuple[int, int], ...]  # (first, last), both inside
_BEYOND = 1 << 62


def runs_of(numbers: Iterable[int]) -> Runs:
    """Numbers in any order, each counted once."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def count(runs: Runs) -> int:
    return sum(last - first + 1 for first, last in runs)


def each(runs: Runs) -> Iterator[int]:
    for first, last in runs:
        yield from range(first, last + 1)


def has(runs: Runs, number: int) -> bool:
    at = bisect_right(runs, (number, _BEYOND)) - 1
    return at >= 0 and number <= runs[at][1]


def plus(runs: Runs, number: int) -> Runs:
    """Raises ValueError when it is there already."""
    if has(runs, number):
        raise ValueError(f"{number} is there already")
    at = bisect_right(runs, (number, _BEYOND))
    first = last = number
    before, after = runs[:at], runs[at:]
    if before and before[-1][1] == number - 1:
        first, before = before[-1][0], before[:-1]
    if after and after[0][0] == number + 1:
        last, after = after[0][1], after[1:]
    return (*before, (first, last), *after)


def minus(runs: Runs, number: int) -> Runs:
    """Raises ValueError when it is not there."""
    at = bisect_right(runs, (number, _BEYOND)) - 1
    if at < 0 or not runs[at][0] <= number <= runs[at][1]:
        raise ValueError(f"{number} is not there")
    first, last = runs[at]
    left = tuple(part for part in ((first, number - 1), (number + 1, last)) if part[0] <= part[1])
    return (*runs[:at], *left, *runs[at + 1 :])


def both(one: Runs, other: Runs) -> Runs:
    """What is in both; as long as the two together."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            found.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def either(one: Runs, other: Runs) -> Runs:
    found: list[tuple[int, int]] = []
    for first, last in sorted((*one, *other)):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def without(one: Runs, other: Runs) -> Runs:
    """What is in the one only."""
    found: list[tuple[int, int]] = []
    j = 0
    for first, last in one:
        while j < len(other) and other[j][1] < first:
            j += 1
        i = j
        while i < len(other) and other[i][0] <= last:
            if first < other[i][0]:
                found.append((first, other[i][0] - 1))
            first = max(first, other[i][1] + 1)
            i += 1
        if first <= last:
            found.append((first, last))
    return tuple(found)
