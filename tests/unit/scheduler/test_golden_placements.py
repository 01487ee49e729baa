"""Captured machines × a fixed list of requests: the answers that were reviewed (tests/data/placements/README.md)."""

from __future__ import annotations

from collections import Counter

import golden_placements as golden
import pytest


@pytest.mark.parametrize("machine", golden.MACHINES)
def test_placements_are_those_that_were_reviewed(machine: str) -> None:
    written = (golden.DATA / "placements" / f"{machine}.txt").read_text()
    assert golden.page(machine) == written, "if it is better now: run tests/golden_placements.py, and review"


def test_no_page_is_of_a_machine_that_is_gone() -> None:
    assert sorted(path.stem for path in (golden.DATA / "placements").glob("*.txt")) == golden.MACHINES


@pytest.mark.parametrize("machine", golden.MACHINES)
def test_sixteen_jobs_get_nothing_twice(machine: str) -> None:
    had: Counter[int] = Counter()
    parts: Counter[int] = Counter()
    placed = 0
    for number, job, placement, ledger in golden.sequence(machine):
        if placement is None:
            continue
        placed += 1
        capacity = ledger.capacity
        cpus = {*placement.cpus, *placement.idle}
        if placement.exclusive:
            had.update(dict.fromkeys(cpus, 1000))
        else:
            had.update(dict(ledger.holds[number].shared))
        if job.get("cores") == "whole":
            assert cpus == {thread for cpu in placement.cpus for thread in capacity.core_of[cpu]}
        if isinstance(job.get("numa"), tuple):
            assert set(placement.mems) <= set(job["numa"])
        parts.update(dict(placement.memory))
    assert placed
    assert max(had.values()) <= 1000
    assert all(size <= capacity.memory[node] for node, size in parts.items())
    for job_id in sorted(ledger.holds):
        ledger.release(job_id)
    assert ledger == type(ledger)(capacity), "every CPU and byte is free again"
