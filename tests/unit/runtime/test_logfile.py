"""A log keeps its end, never moves an offset, and gives way on a full disk."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

import pytest

from runtime.logfile import LogFile


def fed(log: LogFile, data: bytes, piece: int = 40_000) -> None:
    """Through a pipe, as the monitor does."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    for start in range(0, len(data), piece):
        os.write(write, data[start : start + piece])
        assert log.take(read)
    assert log.take(read)  # nothing there: not the end
    os.close(write)
    assert not log.take(read)
    os.close(read)


def test_what_fits_is_kept_whole(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 1 << 20)
    data = os.urandom(300_001)
    fed(log, data)
    assert (tmp_path / "log").read_bytes() == data
    assert (log.written_bytes, log.dropped_bytes) == (len(data), 0)
    os.close(log.fd)


@pytest.mark.parametrize("limit", [0, 4096, 100_000, 1 << 20])
def test_behind_the_limit_is_a_hole(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), limit)
    data = bytes(range(1, 256)) * 13_000  # no zero in it
    fed(log, data)
    os.close(log.fd)
    kept = path.read_bytes()
    assert len(kept) == len(data)
    assert limit == 0 or kept[-limit:] == data[-limit:]
    first = len(kept) - len(kept.lstrip(b"\0"))
    assert len(data) - first <= limit * 1.125 + 2 * 4096 + 40_000  # one step and one piece above
    assert path.stat().st_blocks * 512 <= limit * 1.125 + 3 * 4096 + 40_000


def test_where_no_byte_more_can_be_stored_it_drops_and_counts(tmp_path: Path) -> None:
    """By a limit of the file's size (EFBIG); ENOSPC of a real full filesystem: tests/kernel/launcher."""
    log = LogFile(str(tmp_path / "log"), 1 << 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        fed(log, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "log").read_bytes() == b"x" * log.written_bytes
    assert 0 < log.written_bytes <= 50_000
    assert log.written_bytes + log.dropped_bytes == 100_000
    os.close(log.fd)


def test_a_log_is_made_anew_and_for_the_daemon_only(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 1)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert fcntl.fcntl(log.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(log.fd)
    with pytest.raises(FileExistsError):
        LogFile(str(tmp_path / "log"), 1)
