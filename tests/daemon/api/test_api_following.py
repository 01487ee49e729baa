"""logs, wait and events: streams that grow, sparse files, jobs that end meanwhile, daemons that go."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_site import ALICE, BOB, OPERATOR, OPERATORS_GID, ApiSite
from test_api_jobs import refused, submit

from jobs import protocol
from jobs.cli.events import lines
from jobs.client import Client
from jobs.errors import Unavailable
from scheduler.api.logtail import CHUNK_BYTES, LogFile

BLOCK = 4096
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


def punch(path: str, size: int) -> None:
    """A hole at the start, as the monitor makes it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_WRONLY)
    try:
        mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        assert libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(size)) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found


def read(client: Client, job: int, **options: Any) -> tuple[int, bytes]:
    start, chunks = client.logs(job, "stdout", **options)
    return start, b"".join(chunks)


def test_logs_of_a_job_that_did_not_start_are_empty(site: ApiSite) -> None:
    alice = site.client(ALICE)
    assert read(alice, submit(alice)) == (0, b"")


def test_both_streams_from_any_offset(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    assert read(alice, job) == (0, b"")  # no file yet
    site.write_log(job, b"one\ntwo\n")
    site.write_log(job, b"oops\n", "stderr")
    assert read(alice, job) == (0, b"one\ntwo\n")
    assert read(alice, job, start=4) == (4, b"two\n")
    assert read(alice, job, start=8) == (8, b"")
    assert read(alice, job, start=800) == (800, b"")
    assert b"".join(alice.logs(job, "stderr")[1]) == b"oops\n"
    refused(lambda: alice.logs(job, "stdin"), "user-error")  # type: ignore[arg-type]


def test_dropped_output_is_skipped_and_offsets_stay(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    site.write_log(job, b"x" * BLOCK * 3 + b"end\n")
    punch(site.node.log_path(site.portal.call(site.store.record, job).execution, "stdout"), BLOCK * 2)
    assert read(alice, job) == (BLOCK * 2, b"x" * BLOCK + b"end\n")
    assert read(alice, job, tail=1) == (BLOCK * 2, b"x" * BLOCK + b"end\n")
    assert read(alice, job, start=BLOCK * 3) == (BLOCK * 3, b"end\n")


def test_follow_ends_with_the_job_and_misses_nothing(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    follower = site.client(ALICE)
    thread, found = in_background(lambda: read(follower, job, follow=True))  # before it even starts
    site.start(job)
    expected = b""
    for number in range(50):
        line = b"line %d\n" % number
        site.write_log(job, line)
        expected += line
    site.write_log(job, b"last words without newline")
    site.end(job)
    thread.join(timeout=20)
    assert found == [(0, expected + b"last words without newline")]


def test_a_long_log_arrives_whole(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    data = os.urandom(CHUNK_BYTES * 5 + 17)
    site.write_log(job, data)
    site.end(job)
    assert read(alice, job) == (0, data)
    assert read(alice, job, follow=True) == (0, data)


def test_a_log_that_is_not_a_plain_file_is_not_shown(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    record = site.start(job)
    path = Path(site.node.log_path(record.execution, "stdout"))
    secret = site.folder / "secret"
    secret.write_text("root only")
    path.symlink_to(secret)
    error = refused(lambda: read(alice, job), "bug")
    assert "root only" not in str(error) and str(path) not in str(error)
    path.unlink()
    os.mkfifo(path)
    refused(lambda: read(alice, job), "bug")


@pytest.mark.parametrize(
    ("content", "count", "expected"),
    [
        (b"", 3, b""),
        (b"a\nb\nc\n", 1, b"c\n"),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"\n\n\n", 2, b"\n\n"),
        (b"no newline", 1, b"no newline"),
        (b"x" * CHUNK_BYTES + b"\n" + b"y" * CHUNK_BYTES + b"\n", 1, b"y" * CHUNK_BYTES + b"\n"),
        (b"x\n" * CHUNK_BYTES, CHUNK_BYTES - 1, b"x\n" * (CHUNK_BYTES - 1)),
    ],
)
def test_last_lines(tmp_path: Path, content: bytes, count: int, expected: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    file = LogFile.open(str(tmp_path / "log"))
    assert file is not None
    start = file.last_lines(count)
    file.close()
    assert content[start:] == expected


def test_output_dropped_under_a_slow_reader_ends_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * BLOCK * 4)
    file = LogFile.open(str(path))
    assert file is not None
    punch(str(path), BLOCK * 2)
    assert file.read_kept(0) is None
    assert file.kept_from(0) == BLOCK * 2
    assert file.read_kept(BLOCK * 2) == b"x" * BLOCK * 2
    assert file.read_kept(BLOCK * 4) == b""
    file.close()


def test_wait_answers_when_the_job_ends(site: ApiSite) -> None:
    alice, waiting = site.client(ALICE), site.client(ALICE)
    job = submit(alice)
    thread, found = in_background(lambda: waiting.wait(job))
    site.start(job)
    site.end(job, 3)
    thread.join(timeout=20)
    assert (found[0].state, found[0].exit_status, protocol.exit_code(found[0])) == ("failed", 3, 3)
    assert alice.wait(job).state == "failed"  # at once


def test_many_who_wait_read_the_journal_once(site: ApiSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own connection; not one of them follows the journal by itself."""
    reads = []
    follow = site.store.events
    monkeypatch.setattr(site.store, "events", lambda *given, **named: reads.append(named) or follow(*given, **named))
    alice = site.client(ALICE)
    job = submit(alice)
    waiting = [site.client(ALICE) for _ in range(20)]
    threads = [in_background(lambda client=client: client.wait(job)) for client in waiting]  # type: ignore[misc]
    site.start(job)
    site.end(job, 3)
    for thread, found in threads:
        thread.join(timeout=20)
        assert found[0].state == "failed"
    assert reads == []


def test_wait_until_frozen_and_until_running(site: ApiSite) -> None:
    alice, waiting = site.client(ALICE), site.client(ALICE)
    job = submit(alice)
    site.start(job)
    alice.pause(job, protocol.Pause())
    thread, found = in_background(lambda: waiting.wait(job, "frozen"))
    site.freeze(job)
    thread.join(timeout=20)
    assert found[0].state == "frozen"
    alice.resume(job)
    thread, found = in_background(lambda: waiting.wait(job, "running"))
    from builders import a_placement

    from jobs import events as ev

    site.report(ev.ThawPlaced(job, site.execution(job), a_placement(5), 4.0))
    site.report(ev.Thawed(job, site.execution(job), 0.001, 5.0))
    thread.join(timeout=20)
    assert found[0].state == "running"


def test_wait_gives_up_after_its_time(site: ApiSite) -> None:
    alice = site.client(ALICE)
    job = submit(alice)
    assert alice.wait(job, timeout_s=0).state == "queued"
    refused(lambda: alice.wait(job, timeout_s=1e9), "user-error")


def test_events_of_ones_own_jobs_and_for_operators_of_all(site: ApiSite) -> None:
    alice, bob = site.client(ALICE), site.client(BOB)
    mine, other = submit(alice), submit(bob)
    site.start(mine)
    site.start(other)

    def seen(client: Client, **options: Any) -> list[tuple[int, str]]:
        found = [json.loads(line) for line in lines(client.events(**options))]
        return [(event["job"], event["kind"]) for event in found]

    life = ["submitted", "placed", "started"]
    assert seen(alice) == [(mine, kind) for kind in life]
    assert seen(bob, job=other) == [(other, kind) for kind in life]
    refused(lambda: seen(bob, job=mine), "no-such-job")
    assert sorted(seen(site.client(OPERATOR, OPERATORS_GID))) == sorted(
        (job, kind) for job in (mine, other) for kind in life
    )
    assert seen(alice, after=site.head()[0]) == []


def test_events_followed(site: ApiSite) -> None:
    alice, follower = site.client(ALICE), site.client(ALICE)
    stream = lines(follower.events(follow=True))
    job = submit(alice)
    assert json.loads(next(stream))["kind"] == "submitted"
    submit(site.client(BOB))
    site.start(job)
    assert [json.loads(next(stream))["kind"] for _ in range(2)] == ["placed", "started"]


def test_a_client_that_leaves_leaves_nothing_behind(site: ApiSite) -> None:
    """A followed log closes its file when the reader goes."""
    alice = site.client(ALICE)
    job = submit(alice)
    site.start(job)
    site.write_log(job, b"x")
    path = site.node.log_path(site.portal.call(site.store.record, job).execution, "stdout")

    def open_here() -> int:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        return links.count(path)

    follower = site.client(ALICE)
    _, chunks = follower.logs(job, "stdout", follow=True)
    assert next(chunks) == b"x" and open_here() == 1
    del chunks, follower
    import gc
    import time

    gc.collect()
    deadline = time.monotonic() + 20
    while open_here() and time.monotonic() < deadline:
        site.portal.call(site.store.head)
    assert open_here() == 0


def test_a_stop_cuts_what_is_followed_and_is_no_error(site: ApiSite, caplog: pytest.LogCaptureFixture) -> None:
    alice, waiting = site.client(ALICE), site.client(ALICE)
    job = submit(alice)
    site.start(job)
    stream = alice.events(follow=True)
    next(stream)
    thread, _ = in_background(lambda: refused(lambda: waiting.wait(job), "unavailable"))
    deadline = time.monotonic() + 20
    while site.connections().total() < 2 and time.monotonic() < deadline:
        site.head()
    site.stop_daemon()
    with pytest.raises(Unavailable):
        b"".join(stream)
    thread.join(timeout=20)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    site.start_daemon()
