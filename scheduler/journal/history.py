"""The journal read from its first entry on, for questions about the past: blocking, for a thread of its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from jobs.events import Event
from scheduler.journal.database import failure
from scheduler.journal.entry import decode
from scheduler.statements import READ

CHUNK = 100  # entries read at a time
BREATH_S = 0.0005  # after each chunk: the interpreter is shared with the scheduler


class History:
    """Of a database file; each call opens it anew, read only. Raises HostError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def size(self, until: float) -> int:
        """Bytes of the entries up to that time."""
        with self._open() as reading:
            return int(reading.execute(READ["size"], {"until": until}).fetchone()[0])

    def span(self, job: int) -> int:
        """How many entries there are from the first that mentions a job to its last, or to the end while it lives."""
        with self._open() as reading:
            first, last = reading.execute(READ["span"], {"job": job}).fetchone()
        return int(last) - int(first) + 1

    def entries(self, until: float) -> Iterator[tuple[float, list[Event]]]:
        """(time, events) of each entry up to that time."""
        after = 0
        with self._open() as reading:
            while rows := reading.execute(READ["entries"], {"after": after, "most": CHUNK}).fetchall():
                for seq, _, at, _, _, payload in rows:
                    if at > until:
                        return
                    yield at, decode(payload)
                    after = seq
                time.sleep(BREATH_S)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"file:{quote(self._path)}?mode=ro", uri=True, isolation_level=None)) as it:
                yield it
        except sqlite3.Error as error:
            raise failure(self._path, error) from error
