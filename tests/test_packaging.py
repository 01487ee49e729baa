"""What is installed is what is here: a wheel holds every module and data file; the lock covers what is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PACKAGES = ("config", "jobs", "netbridge", "runtime", "scheduler")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel, built from a copy without the network."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", str(out), str(copy)], check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_the_wheel_holds_every_module(wheel: set[str]) -> None:
    here = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert here <= wheel


def test_the_wheel_holds_the_files_that_ship(wheel: set[str]) -> None:
    data = [path for package in ("config", "scheduler/sql") for path in (ROOT / package).rglob("*")]
    ships = {
        str(path.relative_to(ROOT)) for path in data if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    assert {"config/defaults.toml", "config/systemd/jobsd.service"} <= ships <= wheel


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == set(PACKAGES)


@pytest.mark.parametrize("name", sorted(PROJECT["project"]["scripts"]))
def test_commands_are_installed(name: str) -> None:
    done = subprocess.run([Path(sys.executable).parent / name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout + done.stderr or "jobsd" in done.stdout + done.stderr


def test_every_requirement_is_locked_with_hashes() -> None:
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+) \\$", LOCK, re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["build"]]
    names = {re.split(r"[<>=!~ \[]", item)[0].lower() for item in asked}
    assert names <= set(locked)
    assert locked["typer"] == "0.24.2"
    for block in re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block


def test_the_lock_names_no_registry() -> None:
    assert not re.search(r"://|index-url|find-links|trusted-host", LOCK)


@pytest.mark.needs("tool.systemd-analyze")
def test_units_are_valid(tmp_path: Path) -> None:
    for unit in (ROOT / "config" / "systemd").glob("*.service"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/jobs/", f"{ROOT}/"))
    units = sorted(str(path) for path in tmp_path.glob("*.service"))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "jobs" in line]
    assert (done.returncode, ours) == (0, [])
