"""Sizes, durations, rates: any text is a value in range or a ValueError, and what we write we can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.units import (
    MOST_BYTES,
    MOST_SECONDS,
    parse_bit_rate,
    parse_byte_rate,
    parse_duration,
    parse_size,
    render_duration,
    render_size,
)


@given(st.integers(0, 1 << 40), st.sampled_from([("KiB", 10), ("MiB", 20), ("K", 10), ("GiB", 30), ("G", 30), ("", 0)]))
def test_sizes(number: int, unit: tuple[str, int]) -> None:
    name, shift = unit
    if number << shift > MOST_BYTES:
        with pytest.raises(ValueError, match="too large"):
            parse_size(f"{number}{name}")
    else:
        assert parse_size(f"{number}{name}") == number << shift
        assert parse_byte_rate(f"{number}{name}/s") == number << shift


@given(st.integers(0, 1 << 50))
def test_a_rendered_size_is_near(size: int) -> None:
    assert abs(parse_size(render_size(size)) - size) <= max(1, size * 0.05)


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    together = days * 86400 + hours * 3600 + minutes * 60 + seconds
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == together


@given(st.floats(60, MOST_SECONDS))
def test_a_rendered_duration_is_near(seconds: float) -> None:
    assert abs(parse_duration(render_duration(seconds)) - seconds) <= max(1, seconds * 0.05)


@given(st.one_of(st.text(st.characters(codec="utf-8"), max_size=10), st.from_regex(r"[0-9.]{1,20}[a-zA-Z/]{0,5}")))
def test_any_text_is_a_value_in_range_or_a_value_error(text: str) -> None:
    for parse, most in (
        (parse_size, MOST_BYTES),
        (parse_byte_rate, MOST_BYTES),
        (parse_duration, MOST_SECONDS),
        (parse_bit_rate, 10**13),
    ):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert 0 <= value <= most
        assert text.strip().isascii()
