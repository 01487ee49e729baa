"""What the guests reported: JUnit files into counts, counts into the table. Pure but for reading the files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vm.guest import Outcome
from vm.machine import promises
from vm.suites import CELLS, SUITES


@dataclass(frozen=True)
class Result:
    """Of one suite in one cell. *trouble*: why the guest itself counts as failed, or nothing."""

    suite: str
    cell: str
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()  # the reason of each
    seconds: float = 0.0
    cpu_s: float = 0.0  # of the emulation
    trouble: str = ""

    @property
    def run(self) -> int:
        """Tests that ran: skipped ones did not."""
        return self.passed + len(self.failed)

    @property
    def good(self) -> bool:
        return not self.failed and not self.trouble


def read_result(suite: str, cell: str, outcome: Outcome, junit: Sequence[Path] | None) -> Result:
    """*junit*: one file for each boot, or None for a suite that is one command.

    A test counts once: as failed if it ever failed, as skipped if it never ran. A suite that ran no test is in trouble.
    """
    status, trouble = outcome.status, outcome.why.partition("\n")[0]
    result = partial(Result, suite, cell, seconds=outcome.seconds, cpu_s=outcome.cpu_s)
    if junit is None:
        trouble = trouble or (f"ended with status {status}" if status else "")
        return result(passed=0 if trouble else 1, trouble=trouble)
    try:
        cases = [case for file in junit for case in ElementTree.parse(file).iter("testcase")]
    except (OSError, ElementTree.ParseError) as error:
        return result(trouble=trouble or f"no JUnit file: {error}")
    failed = dict.fromkeys(_name(case) for case in cases if _ended(case, "failure", "error"))
    passed = {_name(case) for case in cases if not _ended(case, "failure", "error", "skipped")} - failed.keys()
    skips = {_name(case): skip.get("message") or "" for case in cases for skip in case.findall("skipped")}
    skipped = tuple(reason for name, reason in skips.items() if name not in passed and name not in failed)
    if not trouble and status and not failed:
        trouble = f"pytest ended with status {status}"
    if not trouble and not passed and not failed:
        trouble = "no test ran"
    return result(passed=len(passed), failed=tuple(failed), skipped=skipped, trouble=trouble)


def _ended(case: ElementTree.Element, *ways: str) -> bool:
    return any(case.find(way) is not None for way in ways)


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


# ── for people ─────────────────────────────────────────────────────────────────────────────────────────────────────


def line(result: Result) -> str:
    """One run in one line: `v2x4 cgroups  51 passed, 9 skipped in 143 s`."""
    parts = [f"{result.passed} passed"]
    parts += [f"{len(result.skipped)} skipped"] if result.skipped else []
    parts += [f"{len(result.failed)} FAILED"] if result.failed else []
    text = f"{result.cell} {result.suite}: {', '.join(parts)} in {result.seconds:.0f} s ({result.cpu_s:.0f} s of CPU)"
    return f"{text}: {result.trouble}" if result.trouble else text


def table(results: Sequence[Result]) -> str:
    """Suite × cell; then each reason for a skip, each failure, and the sum."""
    cells = [cell for cell in CELLS if any(result.cell == cell for result in results)]
    suites = [suite.name for suite in SUITES if any(result.suite == suite.name for result in results)]
    at = {(result.suite, result.cell): result for result in results}
    rows = [["passed/skipped/failed", *cells]]
    for suite in suites:
        found = [at.get((suite, cell)) for cell in cells]
        rows.append([suite, *(_counts(result) for result in found)])
        rows.append(["", *(f"{result.seconds:.0f} s" if result else "" for result in found)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *_skips(results), *_failures(results), _sum(results)])


def _counts(result: Result | None) -> str:
    if result is None:
        return "-"
    return f"{result.passed}/{len(result.skipped)}/{len(result.failed)}" + ("!" if result.trouble else "")


def _skips(results: Sequence[Result]) -> list[str]:
    """Each reason once, with how often and where."""
    counted = Counter(reason for result in results for reason in result.skipped)
    lines = ["", "skipped:"] if counted else []
    for reason, times in sorted(counted.items()):
        cells = dict.fromkeys(result.cell for result in results if reason in result.skipped)
        lines.append(f"  {times:>3} × {reason}  [{' '.join(cells)}]")
    return lines


def _failures(results: Sequence[Result]) -> list[str]:
    lines = [f"  {result.cell} {name}" for result in results for name in result.failed]
    lines += [f"  {result.cell} {result.suite}: {result.trouble}" for result in results if result.trouble]
    return ["", "failed:", *lines] if lines else []


def _sum(results: Sequence[Result]) -> str:
    run = sum(result.run for result in results)
    passed, failed = sum(result.passed for result in results), sum(len(result.failed) for result in results)
    skipped = sum(len(result.skipped) for result in results)
    trouble = sum(bool(result.trouble) for result in results)
    text = f"\n{run} tests ran in {len(results)} guests: {passed} passed, {failed} failed; {skipped} skipped"
    text += f"; {sum(result.cpu_s for result in results):.0f} s of CPU"
    return f"{text}; {trouble} guests in trouble" if trouble else text


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The results, and of each cell its hardware and what its guests promise (and tests/vm/test_promises.py checks)."""
    cells = {name: CELLS[name] for name in dict.fromkeys(result.cell for result in results)}
    return {
        "cells": {name: {**asdict(cell), "promises": promises(cell)} for name, cell in cells.items()},
        "results": [{**asdict(result), "run": result.run, "good": result.good} for result in results],
    }
