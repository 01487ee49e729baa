"""A launcher for the tests of one module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from containerlab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Shared: whoever kills the launcher starts it again."""
    lab = Lab()
    try:
        lab.start()
        yield lab
    finally:
        lab.close()


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """For tests that break it. Not started."""
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()
