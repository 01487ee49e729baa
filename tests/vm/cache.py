"""The folder of images and running guests, shared by everybody on this host; locks in it die with their holders."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AT_ONCE = 2  # guests on one host: each keeps a core and about 2 GiB busy
_POLL_S = 0.2


def folder() -> Path:
    """`$JOBS_VM_CACHE`, made if it is missing."""
    place = Path(os.environ.get("JOBS_VM_CACHE") or "/var/cache/jobs-vm")
    place.mkdir(parents=True, exist_ok=True, mode=0o755)
    return place


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Waits for the lock of this name."""
    with _opened(name) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


@contextmanager
def slot() -> Iterator[int]:
    """Waits until fewer than AT_ONCE guests run, in the order of asking."""
    with locked("queue"):
        number, fd = _first_free()
    try:
        yield number
    finally:
        os.close(fd)


def _first_free() -> tuple[int, int]:
    while True:
        for number in range(AT_ONCE):
            fd = os.open(folder() / f"slot-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if _try_lock(fd):
                return number, fd
            os.close(fd)
        time.sleep(_POLL_S)  # flock cannot wait for the first of several


@contextmanager
def run_folder() -> Iterator[Path]:
    """An own folder for one guest. What killed runners left is removed on the way."""
    runs = folder() / "runs"
    runs.mkdir(exist_ok=True)
    with locked("runs"):
        remove_unused("runs/*")
        place = Path(tempfile.mkdtemp(prefix="run-", dir=runs))
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(fd)


def remove_unused(pattern: str) -> None:
    """Folders that nobody holds a lock on: of killed runners, of interrupted builds, of older recipes."""
    for place in folder().glob(pattern):
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _try_lock(fd):
                shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(name: str) -> Iterator[int]:
    fd = os.open(folder() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)
