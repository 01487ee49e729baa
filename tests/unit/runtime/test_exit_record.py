"""Marker and exit record: what is read back, what counts as none, and that nothing fits that would tear them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime import exitrecord
from runtime.exitrecord import ExitRecord, Marker

RECORDS = st.builds(
    ExitRecord,
    st.integers(0, 255),
    st.booleans(),
    st.floats(0, 2e9),
    st.just("boot"),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.sampled_from(["", "mount-overlay"]),
    st.integers(0, 4095),
    st.text(max_size=5000),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@given(RECORDS)
@example(ExitRecord(125, False, 1.5, "b" * 36, 1 << 60, 1 << 60, 1 << 60, "mount-overlay", 28, "\U0001f600" * 5000))
def test_a_record_is_read_back(folder: Path, record: ExitRecord) -> None:
    path = folder / "exit"
    path.unlink(missing_ok=True)
    fd = exitrecord.preallocate(str(path))
    assert exitrecord.read(str(path)) is None  # preallocated, not written
    exitrecord.write(fd, record)
    os.close(fd)
    found = exitrecord.read(str(path))
    assert found is not None
    assert found._replace(path="") == record._replace(path="")
    assert record.path.startswith(found.path)
    assert path.stat().st_size == exitrecord.RECORD_BYTES


@given(RECORDS, st.integers(0, exitrecord.RECORD_BYTES - 1), st.binary(min_size=1, max_size=50))
def test_a_torn_record_reads_as_none(record: ExitRecord, at: int, garbage: bytes) -> None:
    fd = os.memfd_create("record")
    exitrecord.write(fd, record)
    whole = os.pread(fd, 8192, 0)
    os.close(fd)
    assert exitrecord.parse(whole) is not None
    torn = whole[:at] + garbage + whole[at + len(garbage) :]
    if torn != whole:
        assert exitrecord.parse(torn) is None
    assert exitrecord.parse(whole[:at]) is None


def test_no_record_at_all(tmp_path: Path) -> None:
    assert exitrecord.read(str(tmp_path / "exit")) is None
    assert exitrecord.read_marker(str(tmp_path / "started")) is None


def test_a_marker_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "started")
    fd = exitrecord.create_marker(path)
    assert exitrecord.read_marker(path) == Marker()  # the launcher died right after making it
    for marker in (Marker(5, 6, "boot"), Marker(5, 6, "boot", 7, True)):
        exitrecord.write_marker(fd, marker)
        assert exitrecord.read_marker(path) == marker
    os.close(fd)
    with pytest.raises(FileExistsError):
        exitrecord.create_marker(path)


def test_a_process_name_with_brackets_does_not_confuse_the_start_time(tmp_path: Path) -> None:
    name = Path("/proc/self/comm")
    before = name.read_text()
    ticks = exitrecord.start_ticks(os.getpid())
    try:
        name.write_text("a) R 1 (b")
        assert exitrecord.start_ticks(os.getpid()) == ticks
    finally:
        name.write_text(before)
