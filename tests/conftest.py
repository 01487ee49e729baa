"""For all tests: `needs` (capabilities of the host), the leak check of kernel and e2e tests, asyncio as the backend."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import capabilities
import hypothesis
import leaks
import pytest

HERE = Path(__file__).parent
RUN_ID = uuid.uuid4().hex
PROMISED = capabilities.required()
# Whole-host pictures need a host where nothing else makes links and mounts, as CI and scripts/test have it.
# JOBS_TEST_LEAKS=0 or 1 says otherwise.
CHECK_LEAKS = os.environ.get("JOBS_TEST_LEAKS", "1" if PROMISED else "0") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): capabilities of the host, see tests/capabilities.py")
    os.environ[leaks.RUN_MARK] = RUN_ID
    hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
    hypothesis.settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def needs() -> Callable[..., None]:
    """`needs("cgroup1.freezer")` inside a test or fixture, where the name is known only then."""

    def check(*names: str) -> None:
        if reason := capabilities.skip_reason(names):
            pytest.skip(reason)

    return check


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    if reason := capabilities.skip_reason(names):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip for want of something that this host promises is a failure, whoever called pytest.skip."""
    report = yield
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return report
    if reason := capabilities.verdict(report.longrepr[2].removeprefix("Skipped: "), PROMISED):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    ran = sum(len(stats.get(outcome, ())) for outcome in ("passed", "failed", "xfailed", "xpassed"))
    terminalreporter.write_line(f"{ran} tests ran, {len(stats.get('skipped', ()))} skipped")


# ── the leak check ─────────────────────────────────────────────────────────────────────────────────────────────────


def _leak_check(run_id: str) -> Iterator[None]:
    if not CHECK_LEAKS:
        yield
        return
    before = leaks.take(run_id)
    yield
    if left := leaks.wait_clean(before, run_id):
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def _below(request: pytest.FixtureRequest, folder: str) -> bool:
    return (HERE / folder) in request.path.parents


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_by_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module may share an installation among its tests; what counts is what is there after the last one."""
    if _below(request, "kernel") or _below(request, "e2e") or _below(request, "attacks"):
        yield from _leak_check(RUN_ID)
    else:
        yield


@pytest.fixture(autouse=True)
def _nothing_left_by_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without processes: a test may restart what its module shares."""
    if _below(request, "kernel"):
        yield from _leak_check("")
    else:
        yield
