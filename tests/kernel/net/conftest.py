"""The fixture `lab`: this folder's tests run on a host of their own, made of network namespaces (see netlab.py)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from netlab import Lab, a_host


@pytest.fixture
def lab(tmp_path: Path, needs: Callable[..., None]) -> Iterator[Lab]:
    needs("root", "netns", "bridge", "veth", "nft", "tool.nft")
    with a_host(str(tmp_path)) as made:
        yield made
