"""Who may import what and do what: ARCHITECTURE.md as tests. The layers are import-linter's (pyproject.toml).

A module is pure when its docstring says "Pure" (but not "Pure but for"); what that promises is checked here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("config", "jobs", "netbridge", "runtime", "scheduler")
LAUNCHER_SIDE_STARTS = ("runtime/launcher.py", "runtime/monitor.py", "runtime/container.py", "runtime/errand.py",
                        "runtime/hostprobe.py")  # fmt: skip
IMPURE = {
    "os",
    "time",
    "random",
    "secrets",
    "uuid",
    "socket",
    "asyncio",
    "anyio",
    "subprocess",
    "threading",
    "tempfile",
}
# Functions of their arguments alone, though they live beside the clock and the files.
HARMLESS = {"os.fsdecode", "os.fsencode", "os.fspath", "os.strerror", "time.strftime", "time.localtime", "time.gmtime"}
# Meant to be pure from the start; `jobs/errors` and `config/settings` read os.strerror and os.environ, and say so.
PURE_BY_DESIGN = (
    "jobs/ids.py", "jobs/units.py", "jobs/cpuset.py", "jobs/spec.py", "jobs/states.py", "jobs/events.py",
    "jobs/record.py", "jobs/placement.py", "jobs/host.py", "jobs/priority_class.py", "jobs/protocol.py",
    "scheduler/allocate.py", "scheduler/capacity.py", "scheduler/world.py", "scheduler/decide.py",
    "scheduler/priority.py", "scheduler/ports.py", "runtime/plan.py", "runtime/sequence.py",
    "netbridge/names.py", "netbridge/addresses.py", "netbridge/policy.py",
)  # fmt: skip


@cache
def modules() -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(), module)


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names, wherever in the module they are imported, but for typing only."""
    found: set[str] = set()
    for node in _running_code(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _running_code(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _running_code(child)


def is_pure(module: str) -> bool:
    return re.search(r"\bPure[.:;,]", ast.get_docstring(tree(module)) or "") is not None


def impure(module: str) -> set[str]:
    """The clocks, dice and systems it reaches for: `os.open`, `anyio`, …"""
    found = tops(module) & IMPURE
    for name in found & {"os", "time"}:
        used = {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
        from_it = {full for full in imports(module) if full.startswith(f"{name}.")}
        found = (found - {name}) | {full for full in used | from_it if full.startswith(f"{name}.")} - HARMLESS
    return found


@cache
def impure_below(module: str) -> frozenset[str]:
    return frozenset(impure(module)).union(*(impure_below(other) for other in own(module)))


def own(module: str) -> list[str]:
    """The modules of ours that it imports, as files."""
    files = (file for name in imports(module) for file in (name.replace(".", "/") + ".py",) if file in modules())
    return sorted(files)


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """(`os.fork`, node) of each call by a dotted name."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def tops(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)}


# ── pure modules ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", [module for module in modules() if is_pure(module)])
def test_pure_modules_reach_for_neither_clock_nor_chance_nor_system(module: str) -> None:
    """Nor do the modules of ours that they use."""
    assert impure_below(module) == frozenset()


@pytest.mark.parametrize("module", PURE_BY_DESIGN)
def test_modules_that_the_design_calls_pure_say_so(module: str) -> None:
    assert is_pure(module)


# ── the launcher side ──────────────────────────────────────────────────────────────────────────────────────────────


def launcher_side() -> list[str]:
    """Everything that launcher, monitor and container import, directly or not."""
    found: set[str] = set()
    waiting = [module for module in LAUNCHER_SIDE_STARTS if module in modules()]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += own(module)
    return sorted(found)


def test_the_launcher_side_exists() -> None:
    assert set(LAUNCHER_SIDE_STARTS) <= set(launcher_side())


@pytest.mark.parametrize("module", launcher_side())
def test_the_launcher_side_is_the_standard_library_and_itself(module: str) -> None:
    foreign = tops(module) - set(sys.stdlib_module_names) - {"runtime"}
    assert not foreign
    assert not tops(module) & {"asyncio", "logging", "subprocess", "multiprocessing", "threading"}


# ── who may do what ────────────────────────────────────────────────────────────────────────────────────────────────


def below(*places: str) -> Callable[[str], bool]:
    return lambda module: module.startswith(places)


ONLY_HERE_MAY_IMPORT = {
    "ctypes": below("runtime/syscalls.py"),
    "subprocess": below("scheduler/embedded.py"),
    "multiprocessing": below(),
    "pyroute2": below("netbridge/netlink.py"),
    "nftables": below("netbridge/nft.py"),
    "aiosqlite": below("scheduler/store.py", "scheduler/journal/"),
    "sqlite3": below("scheduler/store.py", "scheduler/journal/"),
    "typer": below("jobs/cli/"),
    "click": below("jobs/cli/"),
    "rich": below("jobs/cli/"),
    "pydantic": below("jobs/specfile", "jobs/policyfile", "scheduler/api/"),
    "fastapi": below("scheduler/api/"),
    "uvicorn": below("scheduler/api/"),
    "croniter": below("scheduler/slots.py"),
    "pyseccomp": below("runtime/seccomp.py"),
    "zstandard": below("runtime/images/"),
}


@pytest.mark.parametrize("library", ONLY_HERE_MAY_IMPORT)
def test_one_place_for_each_library(library: str) -> None:
    allowed = ONLY_HERE_MAY_IMPORT[library]
    assert [module for module in modules() if library in tops(module) and not allowed(module)] == []


def test_the_daemon_starts_no_process() -> None:
    """fork, exec and the like: the launcher side, and the CLI's exec of jobsd."""
    starting = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.popen", "os.exec", "os.spawn", "pty.fork",
                "syscalls.clone", "syscalls.fork", "asyncio.create_subprocess", "anyio.run_process",
                "anyio.open_process")  # fmt: skip
    found = {
        f"{module}: {name}"
        for module in modules()
        for name, _ in calls(module)
        if name.startswith(starting) and module not in launcher_side() and not module.startswith("jobs/cli/")
    }
    # Not the daemon: `jobsd launcher` becomes the launcher; `jobs run` has a small parent of its own daemon.
    assert found <= {"scheduler/embedded.py: os.execv"}
    assert [module for module in modules() if "scheduler/embedded.py" in own(module)] == ["scheduler/program.py"]


def test_the_daemon_does_not_try_its_host() -> None:
    """Trying means children: `jobsd doctor` and the launcher's start do that, each before it is anything else."""
    users = {module for module in modules() if "runtime/hostprobe.py" in own(module)}
    assert users == {"scheduler/doctor/trying.py"}
    assert [module for module in modules() if "scheduler/doctor/trying.py" in own(module)] == [
        "scheduler/doctor/command.py"
    ]
    asking = {module for module in modules() if "scheduler/doctor/command.py" in own(module)}
    assert asking == {"scheduler/embedded.py", "scheduler/program.py"}
    assert users.isdisjoint(reached_from("scheduler/daemon.py") | reached_from("scheduler/doctor/refusing.py"))


def reached_from(start: str) -> set[str]:
    """The modules that it imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += own(module)
    return found


def test_only_the_writer_appends_to_the_journal() -> None:
    """Through `store.commit`, which changes journal and read model in one transaction."""
    called = [(module, name) for module in modules() for name, _ in calls(module)]
    assert {module for module, name in called if name.endswith("journal.append")} == {"scheduler/store.py"}
    assert {module for module, name in called if name.endswith("store.commit")} == {"scheduler/writer.py"}


def test_the_node_knows_neither_store_nor_journal_nor_decisions() -> None:
    forbidden = ("scheduler.store", "scheduler.journal", "scheduler.decide", "scheduler.writer")
    node = [module for module in modules() if module.startswith("scheduler/node/")]
    assert node
    assert [f"{module}: {name}" for module in node for name in imports(module) if name.startswith(forbidden)] == []


# ── writing to kernel files ────────────────────────────────────────────────────────────────────────────────────────


def buffered_writes(module: str) -> list[str]:
    """open(…, "w") without buffering=0, and pathlib's write_text: the kernel's refusal comes in a destructor."""
    found = []
    for name, call in calls(module):
        mode = call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "mode"), None)
        writes = isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+")
        unbuffered = any(key.arg == "buffering" and ast.unparse(key.value) == "0" for key in call.keywords)
        if (name in ("open", "os.fdopen", "io.open") and writes and not unbuffered) or name.endswith(
            (".write_text", ".write_bytes")
        ):
            found.append(f"{module}:{call.lineno}: {ast.unparse(call)[:80]}")
    return found


@pytest.mark.parametrize(
    "module",
    [module for module in modules() if module.startswith(("runtime/", "netbridge/")) and "/images/" not in module],
)
def test_kernel_files_are_written_unbuffered(module: str) -> None:
    assert buffered_writes(module) == []


def test_the_lint_sees_a_buffered_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text(
        "def f(p):\n    open(p, 'w').write('1')\n    open(p, 'wb', buffering=0)\n    open(p)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert len(buffered_writes("bad.py")) == 1


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_modules_are_named_after_the_domain() -> None:
    nothing_said = {"utils", "util", "helpers", "manager", "base", "core", "common", "misc"}
    assert [module for module in modules() if Path(module).stem in nothing_said] == []


def test_every_module_says_what_it_is_for() -> None:
    """A command of the CLI says it in the docstring of its function, which is its help too."""
    silent = [module for module in modules() if not ast.get_docstring(tree(module))]
    assert [module for module in silent if not module.startswith("jobs/cli/")] == []


def test_modules_are_short() -> None:
    """CONTRIBUTING.md: 50 to 300 lines; at 500 something wants to be two."""
    long = {module: (ROOT / module).read_text().count("\n") for module in modules()}
    assert {module: lines for module, lines in long.items() if lines > 500 and module != "runtime/syscalls.py"} == {}
