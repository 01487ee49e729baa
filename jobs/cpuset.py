"""Lists of CPUs and of memory nodes as the kernel writes them ("0-3,8"). Pure.

Source of the format: cpuset(7), "FORMATS", list format.
"""

from __future__ import annotations

from collections.abc import Iterable


def parse(text: str) -> tuple[int, ...]:
    """`"0-2,5"` → `(0, 1, 2, 5)`. Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        part = part.strip()
        if not part:
            continue
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError(f"not a CPU list: {text!r}")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise ValueError(f"not a CPU list: {text!r} counts backwards")
        if high - low > 1 << 16:
            raise ValueError(f"not a CPU list: {text!r} is too long")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def render(numbers: Iterable[int]) -> str:
    """`(0, 1, 2, 5)` → `"0-2,5"`."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(set(numbers)), -1]:
        if run and number == run[-1] + 1:
            run.append(number)
            continue
        if run:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
        run = [number]
    return ",".join(parts)
