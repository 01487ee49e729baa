"""Messages survive the way; anything else is refused; the tables of order allow what is drawn in them and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import messages as m
from runtime import sequence
from runtime.channel import Channel
from runtime.sequence import OutOfOrder, Sequence

KINDS = tuple(m._CLASSES.values())
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(),
    "str": st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=9), max_size=4).map(tuple),
    "dict[str, Any]": st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=9), st.integers()),
}


def built(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, *(_VALUES[m._name_of(kind.__annotations__[field])] for field in kind._fields))


ANY_MESSAGE = st.one_of([built(kind) for kind in KINDS])


@given(ANY_MESSAGE)
def test_a_message_survives_the_way(message: Any) -> None:
    found = m.decode(m.encode(message))
    assert found == message
    assert type(found) is type(message)


@given(st.binary(max_size=60))
def test_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        m.decode(data)
    except m.Malformed:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b'["Hello"]',
        b'["Hello", "x"]',
        b'["Hello", true]',
        b'["Hello", 1, 2]',
        b'["Welcome", "x"]',
        b'["__init__", 1]',
        b"[" * 100_000,
        b'[["Hello"], 1]',
        b'["Helper", 1.0]',
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(m.Malformed):
        m.decode(data)


def test_descriptors_travel_beside(tmp_path: Any) -> None:
    import os

    one, other = Channel.pair()
    fd = os.open(tmp_path, os.O_PATH)
    one.send(m.Done({}), [fd, fd])
    message, fds = other.receive()
    assert message == m.Done({})
    assert [os.readlink(f"/proc/self/fd/{number}") for number in fds] == [str(tmp_path)] * 2
    assert not any(os.get_inheritable(number) for number in fds)
    one.close()
    assert other.receive() == (None, [])
    other.close()
    for number in (fd, *fds):
        os.close(number)


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("table", [sequence.LAUNCH, sequence.CONTAINER, sequence.SLOT, sequence.ERRAND])
def test_tables_are_closed_and_reachable(table: sequence.Table) -> None:
    targets = {state for row in table.values() for state in row.values()}
    assert targets <= set(table)
    assert targets | {"cloned"} == set(table)


@given(
    st.lists(st.sampled_from([m.Ready(1), m.Proceed(), m.GiveUp(), m.Running(), m.StepError("x", 1, "")]), max_size=6)
)
def test_running_is_only_reached_through_ready_and_proceed(said: list[Any]) -> None:
    conversation = Sequence(sequence.LAUNCH)
    followed = []
    for message in said:
        state = conversation.state
        try:
            conversation.follow(message)
            followed.append(type(message))
        except OutOfOrder:
            assert conversation.state == state  # an illegal message changes nothing
    if conversation.state == "running":
        assert followed == [m.Ready, m.Proceed, m.Running]


def test_nothing_goes_twice() -> None:
    conversation = Sequence(sequence.LAUNCH)
    conversation.follow(m.Ready(1))
    conversation.follow(m.Proceed())
    with pytest.raises(OutOfOrder):
        conversation.follow(m.Proceed())
