"""The kernel's list format: what is rendered is parsed back, and nothing else is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cpuset import parse, render


@given(st.sets(st.integers(0, 4096), max_size=40))
def test_round_trip(numbers: set[int]) -> None:
    assert parse(render(numbers)) == tuple(sorted(numbers))


@given(st.sets(st.integers(0, 200), max_size=40))
def test_rendered_lists_are_the_shortest(numbers: set[int]) -> None:
    parts = [part for part in render(numbers).split(",") if part]
    runs = sum(number - 1 not in numbers for number in numbers)
    assert len(parts) == runs


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(render(found)) == found
    assert all(character in "0123456789-, \t\n\r\v\f" or character.isspace() for character in text)


@pytest.mark.parametrize("text", ["3-1", "-1", "1-", "a", "1,,b", "٣", "0x1", "1 2", "0-99999999"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a CPU list"):
        parse(text)
