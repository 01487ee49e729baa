"""The cache folder: slots for guests, run folders of killed runners, QEMU's end with its runner."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm import cache

TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBS_VM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_third_guest_waits_for_a_slot() -> None:
    came = threading.Event()

    def third() -> None:
        with cache.slot():
            came.set()

    with cache.slot() as first:
        with cache.slot() as second:
            assert {first, second} == {0, 1}
            waiting = threading.Thread(target=third)
            waiting.start()
            assert not came.wait(0.5)  # the point is that it does not come
        assert came.wait(30)
    waiting.join()


def test_run_folders_go_with_the_run_and_after_a_killed_one(place: Path) -> None:
    left = place / "runs" / "run-left"
    left.mkdir(parents=True)
    with cache.run_folder() as own:
        assert own.is_dir()
        assert not left.exists()
        with cache.run_folder() as other:
            assert own.is_dir()
        assert not other.exists()
    assert not own.exists()


def test_an_interrupted_build_and_an_unused_image_go(place: Path) -> None:
    for name in ("build-1", "image-old", "image-used"):
        (place / name).mkdir(parents=True)
    fd = os.open(place / "image-used", os.O_RDONLY)
    with cache.locked("build"):
        fcntl.flock(fd, fcntl.LOCK_SH)
        cache.remove_unused("build-*")
        cache.remove_unused("image-*")
    os.close(fd)
    assert [path.name for path in place.iterdir() if path.is_dir()] == ["image-used"]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that runs a guest whose QEMU is `sleep`, and the pid of that."""
    code = (
        "import pathlib, sys; from vm import guest; guest._wait_for("
        "['setpriv', '--pdeathsig', 'KILL', 'bash', '-c', 'echo $$ >&' + sys.argv[1] + '; exec sleep 600'],"
        " pathlib.Path(sys.argv[2]), 600.0, (int(sys.argv[1]),))"
    )
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(write_fd), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        pass_fds=[write_fd],
        text=True,
    )
    os.close(write_fd)
    pid = int(os.read(read_fd, 100))
    os.close(read_fd)
    yield process, pid
    process.kill()
    process.wait()


def test_a_killed_runner_leaves_no_guest(runner: tuple[subprocess.Popen[str], int]) -> None:
    process, pid = runner
    guest = os.pidfd_open(pid)
    process.send_signal(signal.SIGKILL)
    assert select.select([guest], [], [], 30)[0]
    os.close(guest)
