"""The journal read from its first entry on, for questions about the past: blocking, for a thread of its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from jobs.events import Event
from scheduler.journal.database import failure
from scheduler.journal.entry import decode
from scheduler.statements import READ

CHUNK = 100  # entries read at a time
BREATH_S = 0.0005  # after each chunk: the interpreter is shared with the scheduler


class History:
    """Of a database file, on a connection of its own that can only read. One thread at a time. Raises HostError."""

    def __init__(self, path: str) -> None:
        self._path = path
        uri = f"file:{quote(path)}?mode=ro"
        self._reading = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self._rows(READ["head"], {})  # opens the files

    def close(self) -> None:
        self._reading.close()

    def size(self, until: float) -> int:
        """Bytes of the entries up to that time."""
        return int(self._rows(READ["size"], {"until": until})[0][0])

    def span(self, job: int) -> int:
        """How many entries there are from the first that mentions a job to its last, or to the end while it lives."""
        ((first, last),) = self._rows(READ["span"], {"job": job})
        return int(last) - int(first) + 1

    def entries(self, until: float) -> Iterator[tuple[float, list[Event]]]:
        """(time, events) of each entry up to that time."""
        after = 0
        while rows := self._rows(READ["entries"], {"after": after, "most": CHUNK}):
            for seq, _, at, _, _, payload in rows:
                if at > until:
                    return
                yield at, decode(payload)
                after = seq
            time.sleep(BREATH_S)

    def _rows(self, sql: str, values: dict[str, Any]) -> list[Any]:
        try:
            return self._reading.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise failure(self._path, error) from error
