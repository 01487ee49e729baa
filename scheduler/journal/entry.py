"""One entry of the journal and the chain of hashes through all of them. Pure.

An entry is one batch of events; its hash covers the stored bytes, never a re-encoding of them (JSON does not round-trip
numbers). The chain shows that nothing was changed or taken out in the middle; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jobs.errors import Bug, JobsError
from jobs.events import Event, Submitted, load
from jobs.plain import encode as encode_json
from jobs.plain import plain

GENESIS = bytes(32)
MOST_BYTES = 256 << 10  # of a payload, so that an entry can be one message of a message bus (1 MiB is usual)
_FORMAT = 1


class Unknown(JobsError):
    """The append may or may not have happened, and the journal can't be read to find out. Stop and start again."""

    code = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    seq: int  # 1, 2, 3 … without gaps
    epoch: int  # of the daemon that wrote it
    at: float  # wall time
    prev_hash: bytes
    payload: bytes

    @property
    def hash(self) -> bytes:
        head = self.prev_hash + struct.pack(">QQd", self.seq, self.epoch, self.at)
        return hashlib.sha256(head + self.payload).digest()


class Journal(Protocol):
    """What an append-only log must offer; SQLite here, a message bus on several machines."""

    async def append(self, expected: int, at: float, payload: bytes) -> Entry:
        """`expected` is the last sequence number the caller knows. Raises Conflict when another one appended."""


def encode(events: Sequence[str]) -> bytes:
    """A payload of events that are JSON texts already."""
    return f'{{"v":{_FORMAT},"events":[{",".join(events)}]}}'.encode()


def encode_event(event: Event) -> str:
    """The JSON text of `jobs.events.dump`, without its copies."""
    return encode_json({"kind": event.kind, **plain(event)})


def encode_submitted(event: Submitted, spec: str) -> str:
    """As `encode_event`, with the spec encoded already."""
    data = plain(event)
    del data["spec"]
    return f'{encode_json({"kind": event.kind, **data})[:-1]},"spec":{spec}}}'


def decode(payload: bytes) -> list[Event]:
    """Raises Bug on a payload of a later format."""
    data = json.loads(payload)
    if data["v"] != _FORMAT:
        raise Bug(f"journal payload of format {data['v']}, this version reads {_FORMAT}")
    return [load(item) for item in data["events"]]


def split(texts: Iterable[str]) -> list[list[str]]:
    """Event texts in groups that fit an entry each. A text that is too large alone is the caller's error."""
    groups: list[list[str]] = []
    size = MOST_BYTES
    for text in texts:
        length = len(text.encode()) + 1
        if size + length > MOST_BYTES:
            groups.append([])
            size = 64  # the frame around the events
        groups[-1].append(text)
        size += length
    return groups


def broken_link(entries: Iterable[tuple[Entry, bytes]], prev_hash: bytes | None, prev_seq: int) -> str:
    """The first flaw of a run of (entry, stored hash), or "". `prev_hash` None: believe the first entry's."""
    for entry, stored in entries:
        if entry.seq != prev_seq + 1:
            return f"entry {prev_seq + 1} is missing; entry {entry.seq} follows"
        if prev_hash is not None and entry.prev_hash != prev_hash:
            return f"entry {entry.seq} does not follow entry {prev_seq}: its prev_hash differs"
        if entry.hash != stored:
            return f"entry {entry.seq} does not match its hash"
        prev_hash, prev_seq = stored, entry.seq
    return ""
