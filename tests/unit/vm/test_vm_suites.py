"""The table of suites: every part of the tests that needs a kernel runs in some guest; selection by words."""

from __future__ import annotations

from pathlib import Path

import pytest
from vm.suites import CELLS, GRID, SUITES, UnknownName, listing, select

TESTS = Path(__file__).parents[2]


def test_every_path_of_a_suite_exists() -> None:
    paths = [path for suite in SUITES for path in suite.tests if not path.startswith("-")]
    assert [path for path in paths if not (TESTS.parent / path).exists()] == []


def test_the_whole_kernel_suite_runs_on_pure_v2() -> None:
    """A folder of tests/kernel that a suite leaves out is named by another one."""
    run = [path for suite in SUITES if "v2x1" in suite.cells for path in suite.tests]
    left_out = [path.removeprefix("--ignore=") for path in run if path.startswith("--ignore=")]
    assert "tests/kernel" in run
    assert [path for path in left_out if path not in run] == []


def test_control_groups_are_tested_in_every_cell_of_the_grid() -> None:
    assert {run.cell for run in select(["cgroups"])} >= set(GRID)


def test_every_cell_is_used() -> None:
    assert set(CELLS) == {run.cell for run in select([])}


def test_words_select_cells_and_suites() -> None:
    assert [run.name for run in select(["v2x4", "cgroups"])] == ["v2x4 cgroups"]
    assert {run.cell for run in select(["v1x1"])} == {"v1x1"}
    assert {run.suite.name for run in select(["net"])} == {"net"}


def test_the_short_set_is_part_of_the_whole() -> None:
    whole = {run.name for run in select([])}
    short = {run.name for run in select([], short=True)}
    assert short
    assert short < whole


@pytest.mark.parametrize("words", [["v9x1"], ["odd", "attacks"]], ids=" ".join)
def test_what_selects_nothing_is_an_error(words: list[str]) -> None:
    with pytest.raises(UnknownName):
        select(words)


def test_the_listing_names_all() -> None:
    text = listing()
    assert [name for name in [*CELLS, *(suite.name for suite in SUITES)] if name not in text] == []
