from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

sys.path.insert(0, str(Path(__file__).parent))
from api_site import ApiSite


@pytest.fixture
def site() -> Iterator[ApiSite]:
    with running() as site:
        yield site


@pytest.fixture(scope="module")
def shared_site() -> Iterator[ApiSite]:
    """For tables of requests that are refused and change nothing."""
    with running() as site:
        yield site


@contextmanager
def running() -> Iterator[ApiSite]:
    with tempfile.TemporaryDirectory(prefix="jobs-api-") as folder, start_blocking_portal() as portal:
        Path(folder).chmod(0o711)  # other users reach the socket
        site = ApiSite(Path(folder), portal)
        site.start_daemon()
        yield site
        site.stop_daemon()
