"""Retries, checkpoints, begin, deadline and warning of real jobs."""

from __future__ import annotations

import json
from typing import Any

from installation import Installation

SMALL = '[network]\nmode = "none"\n[resources]\nmemory = "64MiB"\n'


def story(site: Installation, job: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.cli("events", "--job", str(job)).stdout.splitlines()]


def kinds(site: Installation, job: int) -> list[str]:
    return [event["kind"] for event in story(site, job)]


def test_a_job_that_fails_twice_and_then_succeeds(site: Installation) -> None:
    script = 'echo "attempt $JOBS_ATTEMPT after $JOBS_RETRIES retries, $JOBS_EXECUTION"; test $JOBS_ATTEMPT = 3'
    job = site.run_script(script, f'retry = {{ most = 3, backoff = "1s" }}\n{SMALL}')
    followed = site.cli("logs", "-f", str(job))
    assert site.wait(job) == 0
    lines = [f"attempt {n} after {n - 1} retries, {job}.0.{n}\n" for n in (1, 2, 3)]
    assert followed.stdout == "".join(lines)
    assert site.output(job) == lines[2] and site.output(job, "--attempt", "1") == lines[0]
    shown = site.show(job)
    assert (shown["state"], shown["attempt"], shown["retries"]) == ("completed", 3, 2)
    attempt = ["placed", "started", "exited", "cleaned_up"]
    assert kinds(site, job)[: 1 + 2 * 4 + 3] == ["submitted", *attempt, *attempt, *attempt[:3]]
    events = story(site, job)
    ends = [event["at"] for event in events if event["kind"] == "exited"]
    starts = [event["at"] for event in events if event["kind"] == "placed"]
    assert starts[1] - ends[0] >= 0.75 and starts[2] - ends[1] >= 1.5  # 1 s, then 2 s, less a quarter at most


def test_retries_come_to_an_end(site: Installation) -> None:
    job = site.run_script("exit 7", f'retry = {{ most = 1, backoff = "0s" }}\n{SMALL}')
    assert site.wait(job) == 7
    shown = site.show(job)
    assert (shown["state"], shown["reason"]) == ("failed", "not tried again: no retry is left of 1")


def test_out_of_memory_gets_more(site: Installation) -> None:
    code = "import os; held = bytearray(90 << 20); print(os.environ['JOBS_MEMORY_BYTES'])"
    retry = '[retry]\nmost = 3\non = ["oom"]\nbackoff = "0s"\nmemory_factor = 2\nmemory_most = "256MiB"\n'
    job = site.submit(f'name = "grow"\ncommand = ["python3", "-c", {json.dumps(code)}]\n{SMALL}{retry}')
    assert site.wait(job) == 0, site.show(job)
    shown = site.show(job)
    assert (shown["attempt"], shown["memory_limit_bytes"]) == (2, 128 << 20)
    assert site.output(job) == f"{128 << 20}\n"


def test_a_checkpoint_is_started_again_at_once(site: Installation, tmp_path_factory: Any) -> None:
    script = "echo $JOBS_CHECKPOINTS; test $JOBS_CHECKPOINTS = 3 || exit 85"
    job = site.run_script(script, f"checkpoint_exit_code = 85\n{SMALL}")
    assert site.wait(job) == 0
    shown = site.show(job)
    assert (shown["attempt"], shown["checkpoints"], shown["retries"]) == (4, 3, 0)
    assert site.output(job) == "3\n"


def test_a_warning_comes_before_the_limit(site: Installation) -> None:
    script = "trap 'echo warned; exit 0' USR1; while :; do sleep 0.1; done"
    limits = 'time_limit = "60s"\nwarn = { signal = "USR1", before = "58s" }\n'
    job = site.run_script(script, limits + SMALL)
    assert site.wait(job) == 0, site.show(job)
    assert site.output(job) == "warned\n"
    assert kinds(site, job).count("warned") == 1 and site.show(job)["warned"]


def test_a_job_begins_when_it_is_to(site: Installation) -> None:
    job = site.run_script("true", f'begin = "+3s"\n{SMALL}')
    waiting = site.show(job)
    assert waiting["state"] == "queued" and waiting["waits_for"][0].startswith("not before "), waiting
    assert site.wait(job) == 0
    submitted, placed = story(site, job)[:2]
    assert placed["at"] - submitted["at"] >= 3.0


def test_a_deadline_ends_what_runs_and_what_can_no_longer_end(site: Installation) -> None:
    runs = site.run_script("sleep 600", f'deadline = "+2s"\n{SMALL}')
    held = site.run_script("true", f'deadline = "+1m"\ntime_limit = "2m"\n{SMALL}')
    site.wait(runs)
    shown = site.show(runs)
    assert (shown["state"], shown["reason"]) == ("timed_out", "its deadline has passed")
    assert site.wait(held) == 3
    assert site.show(held)["reason"] == "it could no longer run 2m and end before its deadline"
