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
