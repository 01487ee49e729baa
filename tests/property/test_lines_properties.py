"""Lines against a plain sorted list: heads, order, closing and moving."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.candidates import Candidates, Cursor
from scheduler.demand import Demand
from scheduler.lines import BucketKey, Lines, Shape

SHAPES = [Shape((Demand(cpus, 0.0, 0),), estimate_s) for cpus in (1, 2) for estimate_s in (60.0, 90.0)]
KEYS = [BucketKey(queue, "", user, shape) for queue in ("a", "b") for user in ("u", "v", "w") for shape in SHAPES]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(KEYS), st.integers(-5, 5)),
        st.tuples(st.just("remove"), st.integers(0, 40), st.none()),
        st.tuples(st.just("offset"), st.sampled_from(["u", "v", "w"]), st.integers(-5, 5)),
        st.tuples(st.just("open"), st.sampled_from(["u", "v", "w"]), st.booleans()),
    ),
    max_size=40,
)


@given(STEPS, st.sets(st.integers(1, 40)), st.sets(st.sampled_from(SHAPES)))
def test_candidates_come_in_the_order_of_a_sorted_list(steps: list[tuple], skip: set[int], shut: set[Shape]) -> None:  # type: ignore[type-arg]
    lines, waiting = Lines(), dict[int, tuple[BucketKey, int]]()
    offset, is_open = dict.fromkeys("uvw", 0), dict.fromkeys("uvw", True)

    def make(key: BucketKey) -> tuple[int, bool]:
        return offset[key.user], is_open[key.user]

    for number, (what, subject, value) in enumerate(steps, 1):
        match what:
            case "add":
                waiting[number] = subject, value
                lines.add(subject, (value, number), make)
            case "remove" if subject in waiting:
                lines.remove(subject, (waiting.pop(subject)[1], subject))
            case "offset":
                offset[subject] = value
                lines.update(subject, make)
            case "open":
                is_open[subject] = value
                lines.update(subject, make)
    rebuilt = Lines()
    for job, (key, rank) in waiting.items():
        rebuilt.add(key, (rank, job), make)
    assert rebuilt == lines and len(lines) == len(waiting)

    expected, closed, over = [], set(), set()
    for _, job, key in sorted((rank - offset[key.user], job, key) for job, (key, rank) in waiting.items()):  # type: ignore[type-var]
        if not is_open[key.user] or (key.queue, key.shape) in closed or key in over:
            continue
        expected.append(job)
        if key.shape in shut:
            closed.add((key.queue, key.shape))
        elif job in skip:
            over.add(key)
    found = []
    candidates = Candidates.of([], lines)
    while (cursor := candidates.next()) is not None:
        assert isinstance(cursor, Cursor) and cursor.current is not None
        found.append(cursor.current[1])
        if cursor.line.shape in shut:
            candidates.close_line(cursor)
        elif found[-1] in skip:
            candidates.skip(cursor)
        else:
            candidates.take(cursor)
    assert found == expected


@given(st.lists(st.tuples(st.sampled_from(KEYS[:6]), st.integers(-5, 5)), max_size=20), st.integers(0, 5))
def test_a_closed_line_goes_on_for_some_users_only(jobs: list[tuple[BucketKey, int]], after: int) -> None:
    lines = Lines()
    for job, (key, rank) in enumerate(jobs, 1):
        lines.add(BucketKey("a", "", key.user, SHAPES[0]), (rank, job), lambda key: (0, True))
    order = [job for _, job in sorted((rank, job) for job, (_, rank) in enumerate(jobs, 1))]
    user = {job: key.user for job, (key, _) in enumerate(jobs, 1)}
    found: list[int] = []
    candidates = Candidates.of([], lines)
    while (cursor := candidates.next()) is not None:
        assert isinstance(cursor, Cursor) and cursor.current is not None
        found.append(cursor.current[1])
        if len(found) == after + 1:
            candidates.close_line(cursor, {"v"})
        else:
            candidates.take(cursor)
    left_open = order[after + 1 :] if len(order) > after and user[order[after]] != "v" else None
    if left_open is not None:
        assert found == order[: after + 1] + [job for job in left_open if user[job] == "v"]
