"""What the journal stores is what comes back, for every event and every record; nothing unknown is swallowed."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs import record as record_
from jobs import spec as spec_
from jobs.plain import encode, encode_usual
from jobs.record import Record
from jobs.states import TABLE, Illegal, advance
from scheduler.journal.entry import decode, encode_event, encode_submitted, split
from scheduler.journal.entry import encode as payload_of
from tests.strategies import EVENTS, events_of

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.lists(EVENTS, max_size=5))
def test_events_survive_the_journal(events: list[ev.Event]) -> None:
    assert decode(payload_of([encode_event(event) for event in events])) == events


@QUICK
@given(EVENTS)
def test_the_fast_encoding_is_dump(event: ev.Event) -> None:
    assert json.loads(encode_event(event)) == json.loads(json.dumps(ev.dump(event)))
    assert ev.load(json.loads(json.dumps(ev.dump(event)))) == event


@QUICK
@given(events_of(ev.Submitted))
def test_what_is_usual_is_encoded_too(event: ev.Submitted) -> None:
    spec = encode_usual(event.spec)
    assert json.loads(spec) == json.loads(encode(event.spec))
    assert json.loads(encode_submitted(event, spec)) == json.loads(encode_event(event))


@QUICK
@given(EVENTS)
def test_a_key_of_a_later_version_is_an_error(event: ev.Event) -> None:
    dumped = ev.dump(event)
    with pytest.raises(TypeError):
        ev.load({**dumped, "later": 1})
    with pytest.raises(KeyError):
        ev.load({**dumped, "kind": "later"})


@st.composite
def records(draw: st.DrawFn) -> Record:
    """What a walk through the table leads to."""
    record = advance(None, draw(events_of(ev.Submitted)))
    for _ in range(draw(st.integers(0, 8))):
        kinds = sorted(TABLE[record.state], key=lambda cls: cls.kind)
        event = draw(events_of(draw(st.sampled_from(kinds))))
        attempt = record.attempt + isinstance(event, ev.Placed)
        dumped = ev.dump(event) | {"job": record.job}
        if "execution" in dumped:
            dumped["execution"] = f"{record.job}.0.{attempt}"
        try:
            record = advance(record, ev.load(json.loads(json.dumps(dumped))))
        except Illegal:
            continue
    return record


@QUICK
@given(records())
def test_records_survive_the_read_model(record: Record) -> None:
    stored, spec = encode(record_.to_json(record)), encode(record.spec)
    assert record_.from_json(json.loads(stored), spec_.from_json(json.loads(spec))) == record


@QUICK
@given(records(), EVENTS)
def test_advance_refuses_or_counts_and_never_changes_its_argument(record: Record, event: ev.Event) -> None:
    before = encode(record_.to_json(record))
    event = ev.load(json.loads(json.dumps(ev.dump(event) | {"job": record.job})))
    try:
        after = advance(record, event)
    except Illegal:
        after = None
    assert encode(record_.to_json(record)) == before
    assert after is None or (after.version == record.version + 1 and after.job == record.job)
    if type(event) not in TABLE[record.state]:
        assert after is None


@QUICK
@given(records())
def test_placement_is_set_exactly_while_cpus_are_owned(record: Record) -> None:
    if record.placement is not None:
        assert record.state.on_node
    if record.state.on_node:
        assert record.home is not None
        assert record.placement is not None or record.state == "frozen"
    else:
        assert record.home is None


@given(st.lists(st.text(min_size=1, max_size=90_000), max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_split_keeps_order_and_size(texts: list[str]) -> None:
    groups = split(texts)
    assert [text for group in groups for text in group] == texts
    assert all(group for group in groups)
    for group in groups:
        assert len(payload_of(group)) <= 256 << 10 or len(group) == 1
