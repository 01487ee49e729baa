from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from installation import Installation


@pytest.fixture(scope="module")
def site() -> Iterator[Installation]:
    """One installation for the tests of a module that do not kill it."""
    with Installation() as running:
        yield running


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("v2", marks=pytest.mark.needs("cgroup2")),
        pytest.param("v1", marks=pytest.mark.needs("cgroup1.freezer", "cgroup1.cpuset")),
    ],
)
def freezing_site(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """One for each freezer that the host has."""
    with Installation(freezer=request.param) as site:
        yield site
