"""Runs suites in cells, two guests at a time, and keeps what each printed and reported in a folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vm import cache, guest, image
from vm.places import say
from vm.results import Result, line, read_result
from vm.suites import CELLS, Run

_SHOWN_LINES = 40  # of the output of a guest that failed


def run_all(runs: Sequence[Run], folder: Path, at_once: int = cache.AT_ONCE) -> list[Result]:
    """Results in the order of *runs*. *folder*/CELL/SUITE gets output.txt, junit-1.xml and what else was left."""
    with image.in_use(), ThreadPoolExecutor(at_once) as pool:
        # The image is there before the first guest's time runs.
        start = time.monotonic()
        futures = [pool.submit(_one, run, folder / run.cell / run.suite.name) for run in runs]
        try:
            results = [future.result() for future in futures]
        except (SystemExit, KeyboardInterrupt) as end:
            # A thread that waits for a slot cannot be called back. The guests die with us, the next runner sweeps up.
            os._exit(end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 130)
    say(f"{len(runs)} guests in {time.monotonic() - start:.0f} s; all they said is in {folder}")
    return results


def _one(run: Run, folder: Path) -> Result:
    """In a thread that lives as long as its guest: QEMU dies with it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    suite = run.suite
    order = guest.Order(CELLS[run.cell], suite.argv(), timeout_s=suite.timeout_s, boots=suite.boots, results=folder)
    with open(folder / "output.txt", "wb") as output:
        outcome = guest.run(order, output, output)
        output.write(outcome.why.encode())
    junit = None if suite.command else sorted(folder.glob("junit-*.xml"))
    result = read_result(suite.name, run.cell, outcome, junit)
    say(line(result))
    if not result.good:
        last = (folder / "output.txt").read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        say(f"the last lines of {run.name}:\n  " + "\n  ".join(last))
    return result
