"""The CLI stays fast: the real program, in a process of its own, loads none of the heavy libraries. And what it says
again of upper layers, because it may not import them, is the same there."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pydantic", "fastapi", "asyncio", "rich", "anyio", "h11", "httptools", "uvicorn", "aiosqlite", "pyroute2"}
ROOT = Path(__file__).resolve().parents[3]
# Runs the installed entry point and tells at exit what was imported.
PROBE = """
import atexit, json, sys
tops = lambda: sorted({name.partition(".")[0] for name in sys.modules})
atexit.register(lambda: print(json.dumps(tops()), file=sys.__stderr__))
sys.argv = ["jobs", *sys.argv[1:]]
from jobs.cli.main import main
main()
"""
ANSWERS = {
    "list": '{"jobs": []}',
    "submit": '{"jobs": [1], "names": ["x"]}',
}


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> object:
    """Answers one request on a real socket."""
    import socket
    import threading

    path = tmp_path / "jobsd.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            received = peer.recv(1 << 20)
            body = ANSWERS["submit" if received.startswith(b"POST") else "list"].encode()
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            peer.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path
    server.close()


def loaded(*arguments: str, socket: object = "/nonexistent") -> tuple[int, set[str]]:
    environment = {**os.environ, "JOBS_SOCKET": str(socket), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], input='name = "x"', capture_output=True, text=True, check=False,
        env=environment, timeout=60,
    )  # fmt: skip
    return done.returncode, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("submit", "-")], ids=" ".join)
def test_an_answered_command_loads_nothing_heavy(daemon: object, arguments: tuple[str, ...]) -> None:
    status, modules = loaded(*arguments, socket=daemon)
    assert status == 0 and "jobs" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "arguments", [("--help",), ("submit", "--help"), ("list",), ("shell-init", "bash")], ids=" ".join
)
def test_help_and_a_missing_daemon_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    status, modules = loaded(*arguments)
    assert status == (4 if arguments == ("list",) else 0)
    assert not modules & HEAVY


def test_the_probe_sees_what_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.replace("from jobs", "import asyncio, rich\nfrom jobs"), "--help"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert {"asyncio", "rich"} <= set(json.loads(done.stderr.splitlines()[-1]))


def test_exec_speaks_as_the_launcher_does() -> None:
    from jobs.cli import exec_session
    from runtime import channel, messages

    said = ast.dump(ast.parse(Path(exec_session.__file__).read_text()))
    for message in (messages.Ticket, messages.Started, messages.Exited, messages.StepError):
        assert f"value='{message.__name__}'" in said
    assert json.loads(messages.encode(messages.Ticket("t"))) == ["Ticket", "t"]
    assert messages.Started._fields == ("tty",)
    assert messages.Exited._fields == ("status",)
    assert messages.StepError._fields == ("step", "errno", "path")
    assert exec_session.MOST_BYTES == channel.MOST_BYTES
