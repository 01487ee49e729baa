"""What is said and done when CPUs of jobs go away and come back."""

from __future__ import annotations

from scheduler.node.hotplug import Change, compare, lost

HOLDERS = {"7.0.1": (2, 3), "8.0.1": (4,), "9.0.1": (6,)}
NONE: frozenset[int] = frozenset()


def test_nothing_happened() -> None:
    assert compare(NONE, NONE, HOLDERS) == Change()
    assert compare(frozenset({4}), frozenset({4}), HOLDERS) == Change()


def test_a_job_that_has_others_goes_on_and_one_that_has_none_is_a_danger() -> None:
    change = compare(NONE, frozenset({3, 4}), HOLDERS)
    assert change.restore == ()
    assert change.warnings == (
        "CPUs went offline: 3-4; new jobs that need them will not start",
        "execution 7.0.1 has lost CPUs 3; it goes on with 2",
        "execution 8.0.1 has lost CPUs 4; it runs on the CPUs of others now: pause it",
    )


def test_cpusets_are_written_again_once_all_their_cpus_are_there() -> None:
    assert compare(frozenset({2, 3}), frozenset({3}), HOLDERS).restore == ()
    assert compare(frozenset({3, 4}), NONE, HOLDERS) == Change(("CPUs are back: 3-4",), ("7.0.1", "8.0.1"))


def test_what_an_operator_is_shown() -> None:
    assert lost(frozenset({5, 4}), HOLDERS) == [{"cpu": 4, "executions": ["8.0.1"]}, {"cpu": 5, "executions": []}]
