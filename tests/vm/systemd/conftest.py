from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import services


@pytest.fixture(scope="session", autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Installed once, in the first boot of a machine that has systemd."""
    if Path("/run/systemd/system").is_dir() and services.boot_number() == 1:
        services.run(str(services.ROOT / "scripts/install"), timeout=900)
        services.until_all_active()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a reboot comes last, when nothing else of this boot is left to do."""
    items.sort(key=lambda item: "reboot" in item.name and "after" not in item.name)
