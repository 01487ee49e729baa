"""The documents say what the code says: the reference is made from it, links lead somewhere, commands exist."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from jobs.cli import main as cli
from jobs.errors import JobsError
from jobs.record import State

ROOT = Path(__file__).parent.parent
NEEDED = (
    "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/tutorial.md",
    "scheduler/README.md", "runtime/README.md", "netbridge/README.md", "examples/README.md",
)  # fmt: skip


@cache
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def tracked() -> tuple[Path, ...]:
    """Every text file of the project: what git knows, or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return tuple(path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192])


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


@pytest.mark.parametrize("name", NEEDED)
def test_document_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.startswith("# ") and len(text) > 300


@pytest.mark.parametrize("path", sorted(reference().documents()))
def test_the_reference_is_current(path: str) -> None:
    assert (ROOT / path).read_text() == reference().documents()[path], "run scripts/reference"


def test_every_error_code_state_and_command_is_in_the_reference() -> None:
    """The reference is made from the same lists; this fails when the maker forgets one."""
    folder = ROOT / "docs" / "reference"
    states, errors, commands = ((folder / name).read_text() for name in ("states.md", "errors.md", "commands.md"))
    assert [state for state in State if f"| `{state}`" not in states] == []
    assert [error.code for error in _below(JobsError) if f"| `{error.code}` |" not in errors] == []
    assert [name for name in cli.COMMANDS if f"### jobs {name}" not in commands] == []


def _below(error: type[JobsError]) -> Iterator[type[JobsError]]:
    yield error
    for each in error.__subclasses__():
        if each.__module__ == JobsError.__module__:
            yield from _below(each)


def test_every_setting_has_a_comment() -> None:
    assert [name for name, _, comment in reference().setting_rows() if not comment] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_documents_exist(page: Path) -> None:
    """In code only: "jobs" is also a word."""
    code = re.findall(r"^ *```(?:sh|console|bash)\n(.*?)```", page.read_text(), re.MULTILINE | re.DOTALL)
    code += re.findall(r"`((?:sudo )?jobs(?:ctl)? [^`]+)`", page.read_text())
    for line in "\n".join(code).splitlines():
        for used in re.findall(r"(?:^|[$;&|(] ?|sudo )jobs(?:ctl)? ([a-z][a-z-]*)", line.strip()):
            assert used in cli.COMMANDS, f"{page.name}: {line.strip()}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_in_documents_exist(page: Path) -> None:
    for used in re.findall(r"(?<![\w./~])((?:scripts|benchmarks|examples|config|tests)/[\w./-]*\w)", page.read_text()):
        assert (ROOT / used).exists(), f"{page.name}: {used}"


# Where this checkout lies, an interpreter in somebody's home, and what package clients are told by other means.
FOREIGN = re.compile(re.escape(f"{ROOT}/") + r"|/\.pyenv/|\.org/simple|--(?:extra-)?index-url")


def test_nothing_names_this_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []


def test_documents_that_the_code_names_exist() -> None:
    code = [
        path
        for path in tracked()
        if path.suffix in (".py", ".sql", ".toml", ".service") or path.parent.name == "scripts"
    ]
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in code
        if path != Path(__file__)
        for name in re.findall(r"(?<![\w/.~-])((?:[\w-]+/)+[\w-]+\.md|[A-Z]{3,}\.md)\b", path.read_text())
        if not ((ROOT / name).exists() or (path.parent / name).exists())
    ]
    assert found == []
