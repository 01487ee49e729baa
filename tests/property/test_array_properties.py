"""Arrays against plain sets: runs are sets, indexes and positions are one another's inverse, no task is lost."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobs import runs
from jobs.array import Array, Progress, index_text, parse_array, progress_from_json
from jobs.plain import encode

NUMBERS = st.sets(st.integers(0, 40), max_size=25)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    ranges, least = [], 0
    for _ in range(draw(st.integers(1, 4))):
        first = least + draw(st.integers(0, 5))
        step, steps = draw(st.integers(1, 4)), draw(st.integers(0, 6))
        last = first + step * steps
        ranges.append((first, last, step if last > first else 1))
        least = last + 1
    return Array(tuple(ranges), draw(st.integers(0, 5)))


@given(NUMBERS, NUMBERS, st.integers(0, 40))
def test_runs_are_sets(one: set[int], other: set[int], number: int) -> None:
    made = runs.runs_of(one)
    assert set(runs.each(made)) == one and runs.count(made) == len(one)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(made)), "sorted, and never touching"
    assert runs.has(made, number) == (number in one)
    assert runs.both(made, runs.runs_of(other)) == runs.runs_of(one & other)
    assert runs.either(made, runs.runs_of(other)) == runs.runs_of(one | other)
    assert runs.without(made, runs.runs_of(other)) == runs.runs_of(one - other)
    if number in one:
        assert runs.minus(made, number) == runs.runs_of(one - {number})
    else:
        assert runs.plus(made, number) == runs.runs_of(one | {number})


@given(arrays())
def test_positions_and_indexes_are_inverse(array: Array) -> None:
    indexes = [index for first, last, step in array.ranges for index in range(first, last + 1, step)]
    assert array.size == len(indexes)
    assert [array.index(position) for position in range(array.size)] == indexes
    assert {index: array.position(index) for index in range(max(indexes) + 3)} == {
        index: indexes.index(index) if index in indexes else None for index in range(max(indexes) + 3)
    }


@given(arrays())
def test_an_array_is_read_as_it_is_written(array: Array) -> None:
    assert parse_array(str(array)) == array
    assert index_text(array, ((0, array.size - 1),), most=9) == str(Array(array.ranges))


@given(
    arrays(), st.lists(st.tuples(st.sampled_from(["begin", "good", "bad", "drop"]), st.integers(0, 30)), max_size=60)
)
def test_each_task_is_in_one_place(array: Array, moves: list[tuple[str, int]]) -> None:
    progress = Progress.of(array)
    where = dict.fromkeys(range(array.size), "pending")
    for move, position in moves:
        legal = {"begin": "pending", "drop": "pending", "good": "live", "bad": "live"}[move]
        try:
            match move:
                case "begin":
                    after = progress.begin(position)
                case "drop":
                    after = progress.drop(((position, position),))
                case _:
                    after = progress.end(position, good=move == "good", status=0)
        except ValueError:
            assert where.get(position) != legal
            continue
        assert where[position] == legal
        where[position] = {"begin": "live", "drop": "bad"}.get(move, move)
        progress = after
    for name, found in (("pending", progress.pending), ("good", progress.good), ("bad", progress.bad)):
        assert found == runs.runs_of(position for position, place in where.items() if place == name)
    assert progress.live == sum(place == "live" for place in where.values())
    assert progress.ended == (set(where.values()) <= {"good", "bad"})
    assert progress_from_json(json.loads(encode(progress))) == progress
