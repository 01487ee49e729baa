"""A known workload through the production `decide` gives the known figures of FCFS and of EASY backfill.

`lublin_256.swf` (Lublin, Feitelson: The workload on parallel supercomputers, 2003) lies beside the checkout, in
../shared/workloads, or where JOBS_WORKLOADS says; a checkout without it skips. The figures are of its README.
"""

from __future__ import annotations

from statistics import mean

import capabilities
import pytest

from jobs.policy import Policy
from tests.builders import a_capacity
from tests.fakes.replay import read_swf, replay, utilisation

CPUS = 256


@pytest.mark.needs("workload.lublin_256")
@pytest.mark.parametrize(
    ("backfill", "slowdown", "wait_s", "busy"), [("off", 66_502, 2_388_444, 0.655), ("easy", 590, 97_156, 0.936)]
)
def test_figures_of_a_known_workload(backfill: str, slowdown: float, wait_s: float, busy: float) -> None:
    jobs = read_swf((capabilities.workloads() / "lublin_256.swf").read_text())
    policy = Policy(share_points=0.0, backfill=backfill)  # type: ignore[arg-type]
    ran = replay(jobs, a_capacity(cpus_per_node=CPUS, max_jobs=CPUS), policy)
    assert len(ran) == len(jobs) == 10_000
    assert mean(each.slowdown() for each in ran) == pytest.approx(slowdown, rel=0.02)
    assert mean(each.wait_s for each in ran) == pytest.approx(wait_s, rel=0.02)
    assert utilisation(ran, CPUS) == pytest.approx(busy, rel=0.02)
