"""Whatever happens to a job: retries stay within what its owner allowed, pauses within their bounds, lives end."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.record import Record, State
from jobs.retry import pause_s
from jobs.spec import Moment, Retry
from tests.builders import GIB, MIB, History

POLICIES = st.builds(
    Retry,
    most=st.integers(0, 6),
    on=st.lists(st.sampled_from(["exit", "signal", "oom", "start", 75, "SEGV"]), unique=True).map(tuple),
    backoff_s=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    backoff_most_s=st.floats(0, 1e6),
    memory_factor=st.floats(1, 100),
    memory_most_bytes=st.integers(256 * MIB, 64 * GIB),
    crash_limit=st.integers(0, 4),
    crash_within_s=st.floats(0, 60),
)
ENDS = st.tuples(
    st.sampled_from([0, 1, 75, 85, 137, 139, 255]),
    st.sampled_from(["", "", "oom", "time_limit", "cancelled", "deadline"]),
    st.floats(0, 100),
)


def lived(policy: Retry, ends: list[tuple[int, str, float]], **spec: object) -> list[Record]:
    """The record after each attempt, until the end of the job or of the list."""
    life, found = History(retry=policy, **spec), []
    for number, (status, cause, ran_s) in enumerate(ends):
        life.placed(0)
        execution, at = str(life.record.execution), 1000.0 * number
        if status == 255:
            life.then(ev.StartFailed(1, execution, "image", 2, "", "no image", at))
        else:
            life.started().then(ev.Exited(1, execution, status, cause, ran_s, ev.Usage(), at))
        found.append(life.record)
        if life.record.state.final:
            break
        life.cleaned()
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(POLICIES, st.lists(ENDS, min_size=1, max_size=12), st.sampled_from([0, 85]))
def test_no_more_is_tried_than_was_allowed(policy: Retry, ends: list[tuple[int, str, float]], code: int) -> None:
    records = lived(policy, ends, checkpoint_exit_code=code)
    for before, record in zip([None, *records], records, strict=False):
        assert record.retries <= policy.most
        assert record.attempt - 1 <= record.retries + record.checkpoints <= record.attempt
        assert record.state.final or record.state is State.QUEUED
        assert not policy.crash_limit or record.crashes <= policy.crash_limit
        asked = record.wanted.resources.memory_bytes
        assert asked <= max(policy.memory_most_bytes, record.spec.resources.memory_bytes)
        assert before is None or asked >= before.wanted.resources.memory_bytes
    assert len(records) <= policy.most + 1 + records[-1].checkpoints
    assert records[-1].state is not State.COMPLETED or records[-1].exit_status == 0


@given(POLICIES, st.integers(1, 10_000), st.integers(1, 1 << 40))
def test_pauses_are_bounded_and_known_beforehand(policy: Retry, number: int, job: int) -> None:
    assert 0 <= pause_s(policy, number, job) <= policy.backoff_most_s
    assert pause_s(policy, number, job) == pause_s(policy, number, job)


@given(POLICIES, st.lists(ENDS, min_size=1, max_size=12), st.floats(1, 20_000))
def test_a_retry_begins_while_it_can_end_before_the_deadline(
    policy: Retry, ends: list[tuple[int, str, float]], deadline: float
) -> None:
    for record in lived(policy, ends, deadline=Moment(at=deadline), time_limit_s=50.0):
        if record.retries and not record.state.final:
            assert record.not_before <= record.latest_start_at
