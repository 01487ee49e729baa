"""What a job is told about itself, and that the reference lists exactly that."""

from __future__ import annotations

import re
from pathlib import Path

from jobs import events as ev
from jobs.spec import Retry
from scheduler.node.environment import environment_of
from tests.builders import GIB, History

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "environment.md"
OF_THE_PLAN = {"JOBS_ID", "JOBS_EXECUTION"}


def test_a_second_attempt_knows_that_it_is_one() -> None:
    retry = Retry(most=3, memory_factor=2.0, memory_most_bytes=4 * GIB)
    life = History(name="fit", cpus=1.5, memory=GIB, retry=retry).placed(0, 1).started()
    life.then(ev.Exited(1, "1.0.1", 137, "oom", 60.0, ev.Usage(), 0.0)).placed(0, 1)
    assert dict(environment_of(life.record)) == {
        "JOBS_NAME": "fit", "JOBS_QUEUE": "default", "JOBS_ATTEMPT": "2", "JOBS_RETRIES": "1", "JOBS_CHECKPOINTS": "0",
        "JOBS_CPUS": "1.5", "JOBS_MEMORY_BYTES": str(2 * GIB),
    }  # fmt: skip


def test_the_reference_lists_each_variable() -> None:
    told = {name for name, _ in environment_of(History().placed(0).record)} | OF_THE_PLAN
    assert set(re.findall(r"^\| `(JOBS_\w+)` \|", REFERENCE.read_text(), re.MULTILINE)) == told
