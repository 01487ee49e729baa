"""The chain: what is covered by a hash, and how a flaw is named."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest

from jobs.errors import Bug
from scheduler.journal.entry import GENESIS, Entry, broken_link, decode, encode, encode_event
from tests.builders import submitted


def a_chain(count: int) -> list[tuple[Entry, bytes]]:
    found: list[tuple[Entry, bytes]] = []
    previous = GENESIS
    for seq in range(1, count + 1):
        entry = Entry(seq, 1, 1000.5 + seq, previous, encode([encode_event(submitted(seq))]))
        found.append((entry, entry.hash))
        previous = entry.hash
    return found


def test_the_hash_is_what_the_documentation_says() -> None:
    entry = Entry(7, 2, 3.25, b"p" * 32, b"{}")
    by_hand = b"p" * 32 + (7).to_bytes(8, "big") + (2).to_bytes(8, "big") + struct.pack(">d", 3.25) + b"{}"
    assert entry.hash == hashlib.sha256(by_hand).digest()


@pytest.mark.parametrize(
    "change", [{"seq": 8}, {"epoch": 3}, {"at": 3.5}, {"prev_hash": b"q" * 32}, {"payload": b"{ }"}]
)
def test_every_field_is_covered(change: dict[str, object]) -> None:
    entry = Entry(7, 2, 3.25, b"p" * 32, b"{}")
    assert replace(entry, **change).hash != entry.hash  # type: ignore[arg-type]


def test_a_whole_chain_has_no_flaw() -> None:
    chain = a_chain(5)
    assert broken_link(chain, GENESIS, 0) == ""
    assert broken_link(chain[2:], None, 2) == "", "from the middle, believing the first"


def test_flaws_are_named() -> None:
    chain = a_chain(5)
    assert broken_link(chain[:2] + chain[3:], GENESIS, 0) == "entry 3 is missing; entry 4 follows"
    assert broken_link(chain[1:], GENESIS, 0) == "entry 1 is missing; entry 2 follows"
    entry, stored = chain[2]
    forged = replace(entry, payload=b"{}")
    assert broken_link([*chain[:2], (forged, stored)], GENESIS, 0) == "entry 3 does not match its hash"
    rehashed = [*chain[:2], (forged, forged.hash), *chain[3:]]
    assert broken_link(rehashed, GENESIS, 0) == "entry 4 does not follow entry 3: its prev_hash differs"


def test_a_payload_of_a_later_format_is_refused() -> None:
    with pytest.raises(Bug, match="format 2"):
        decode(b'{"v":2,"events":[]}')
