"""What a start leaves in its spool folder: the marker `started` and the record `exit`. Standard library only.

Both have a fixed size. The record is preallocated, so that a full disk cannot lose a status, and carries a checksum, so
that a torn write reads as none. Marker without record and without processes means: what became of it is not known.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from typing import NamedTuple

RECORD_BYTES = 4096
MARKER_BYTES = 512
_PATH_CHARACTERS = 280  # of the failed step's path; escaped to ASCII (12 bytes at most) it fits RECORD_BYTES
FAILED_START_STATUS = 125  # as env(1), timeout(1) and container runtimes answer when they themselves failed


class ExitRecord(NamedTuple):
    """How pid 1 ended, or at which step the start failed (`step` is "" otherwise)."""

    status: int  # exit code 0–255, or 128 + signal
    signalled: bool  # pid 1 itself was killed; the reaper reports its child's signal as exit code 128 + signal
    ended_at: float  # wall clock
    boot_id: str
    stdout_bytes: int = 0  # written to the log file, what was punched out included
    stderr_bytes: int = 0
    dropped_bytes: int = 0  # never written: the disk was full
    step: str = ""
    errno: int = 0
    path: str = ""


class Marker(NamedTuple):
    """Written before the clone with O_EXCL: this execution has been started once and will not be started again."""

    monitor_pid: int = 0
    monitor_start_ticks: int = 0  # field 22 of /proc/PID/stat: with boot_id it makes the pid unmistakable
    boot_id: str = ""
    init_pid: int = 0
    running: bool = False  # execve of the reaper succeeded
    stopped: bool = False  # the host ends all processes: how the job ends from here on is not its own doing


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip().decode()


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat. Raises OSError when there is no such process."""
    return int(_stat(pid)[19])


def parent(pid: int) -> int:
    """Field 4 of /proc/PID/stat. Raises OSError when there is no such process."""
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[bytes]:
    """The fields from the third on: the name before them may hold blanks and brackets."""
    return _read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()


def _read(path: str) -> bytes:
    """Of small files of proc: one read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _padded(values: dict[str, object], size: int) -> bytes:
    return json.dumps(values).encode().ljust(size - 1) + b"\n"


# The record


def preallocate(path: str) -> int:
    """Makes the record's file with its blocks on disk, unreadable as a record. Returns the descriptor for `write`."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.write(fd, bytes(RECORD_BYTES))
    return fd


def write(fd: int, record: ExitRecord) -> None:
    """Returns when the record is on disk."""
    body = _padded(record._replace(path=record.path[:_PATH_CHARACTERS])._asdict(), RECORD_BYTES - 9)
    os.pwrite(fd, b"%08x " % zlib.crc32(body) + body, 0)
    os.fdatasync(fd)


def parse(data: bytes) -> ExitRecord | None:
    """None when the bytes are no complete record: not written yet, or torn."""
    if len(data) != RECORD_BYTES or data[:9] != b"%08x " % zlib.crc32(data[9:]):
        return None
    return ExitRecord(**json.loads(data[9:]))


def read(path: str) -> ExitRecord | None:
    """None when there is no record, for whatever reason."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(RECORD_BYTES + 1))
    except FileNotFoundError:
        return None


# The marker


def create_marker(path: str) -> int:
    """Raises FileExistsError when the execution has been started before. Returns the descriptor for `write_marker`."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def write_marker(fd: int, marker: Marker) -> None:
    """In place, one write of a fixed size: a reader sees the old or the new one."""
    os.pwrite(fd, _padded(marker._asdict(), MARKER_BYTES), 0)


def read_marker(path: str) -> Marker | None:
    """None when the execution was never started. An empty Marker when the launcher died right after making it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MARKER_BYTES)
    except FileNotFoundError:
        return None
    return Marker(**json.loads(data)) if len(data) == MARKER_BYTES else Marker()


def open_monitor(marker: Marker) -> int | None:
    """A pidfd of the monitor; None when it is gone, the pid belongs to another process, or the host was rebooted."""
    if marker.boot_id != boot_id():
        return None
    return _open_if(marker.monitor_pid, lambda: start_ticks(marker.monitor_pid) == marker.monitor_start_ticks)


def open_init(marker: Marker) -> int | None:
    """A pidfd of the job's pid 1; None when it does not run. It is the monitor's child, and nobody else's."""
    monitor = open_monitor(marker) if marker.running else None
    if monitor is None:
        return None
    try:
        return _open_if(marker.init_pid, lambda: parent(marker.init_pid) == marker.monitor_pid)
    finally:
        os.close(monitor)


def _open_if(pid: int, is_it: Callable[[], bool]) -> int | None:
    if pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # Looked at after the pidfd is held: from here on the number cannot change its owner unnoticed.
        same = is_it()
    except OSError:
        same = False
    if not same:
        os.close(pidfd)
        return None
    return pidfd
