"""Jobs as text: what a person sees in each state, at each width, and that text from users can't steer the terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import render, render_page
from jobs.protocol import Job
from jobs.render import Look

WIDE = Look(width=200, now=1000.0)
USED = {
    "cpu_s": 12.5, "cpu_user_s": 10.0, "cpu_system_s": 2.5, "memory_bytes": 5 << 20, "memory_peak_bytes": 6 << 20,
    "io_read_bytes": 1024, "io_write_bytes": 0, "stdout_bytes": 100, "stderr_bytes": 28,
}  # fmt: skip
SPEC: dict[str, Any] = {
    "command": ["xz", "-T0", "big file.tar"], "image": {"source": "host"}, "network": {"mode": "bridge"},
    "mounts": [{"source": "/srv", "target": "/data", "mode": "ro"}], "time_limit_s": 7200.0,
    "submitted_from": "/home/a",
}  # fmt: skip


def a_job(job: int = 17, name: str = "encode", state: str = "queued", **changed: Any) -> Job:
    values: dict[str, Any] = {
        "job": job, "name": name, "state": state, "owner": "alice", "uid": 1000, "urgency": 50, "cpu_weight": 100,
        "io_weight": 100, "network_class": "normal", "cpus_wanted": 2.0, "memory_limit_bytes": 4 << 30,
        "submitted_at": 900.0,
    }  # fmt: skip
    return Job(**{**values, **changed})


def running(**changed: Any) -> Job:
    placed = {
        "state": "running", "attempt": 1, "started_at": 940.0, "cpus": (0, 1), "mems": (0,), "exclusive": True,
        "node_id": "one", "usage": USED, "ran_s": 60.0,
    }  # fmt: skip
    return a_job(**{**placed, **changed})


def ended(state: str, status: int | None, **changed: Any) -> Job:
    given: dict[str, Any] = {"state": state, "final": True, "exit_status": status, "ended_at": 960.0, "cpus": ()}
    return running(**{**given, **changed})


@pytest.mark.parametrize(
    ("job", "phase", "remark"),
    [
        (a_job(), "queued", ""),
        (a_job(waits_for=("cpus: 2 wanted, 0 free", "more")), "queued", "cpus: 2 wanted, 0 free"),
        (a_job(attempt=2, reason="retry 2 of 3, after exit status 1", waits_for=("not before 12:00", "more")), "queued",
         "retry 2 of 3, after exit status 1; not before 12:00"),
        (a_job(state="held", holds=("owner",)), "held", ""),
        (a_job(state="held", holds=("operator", "owner")), "held", "by an operator"),
        (running(state="starting"), "starting", ""),
        (running(), "running", ""),
        (running(holds=("owner",)), "pausing", ""),
        (running(reason="not frozen within 5 s"), "running", "not frozen within 5 s"),
        (running(cancelling="TERM", reason="cancelled by owner"), "stopping", "cancelled by owner"),
        (running(state="frozen", holds=("operator",)), "frozen", "by an operator"),
        (running(state="frozen"), "resuming", ""),
        (running(preempted_by=12), "freezing", "by the scheduler for job 12"),
        (running(state="frozen", preempted_by=12), "frozen", "by the scheduler for job 12"),
        (running(state="frozen", preempted_by=12, holds=("operator",)), "frozen", "by an operator"),
        (ended("completed", 0), "completed", ""),
        (ended("failed", 3), "failed", "exit status 3"),
        (ended("failed", 139), "failed", "signal SEGV"),
        (ended("failed", 200), "failed", "exit status 200"),
        (ended("failed", None, reason="failed at step 'overlay'"), "failed", "failed at step 'overlay'"),
        (ended("cancelled", 143, reason="cancelled by owner"), "cancelled", "cancelled by owner; signal TERM"),
        (ended("out_of_memory", 137), "out of memory", "signal KILL"),
        (ended("timed_out", 143, reason="the time limit is over"), "timed out", "the time limit is over; signal TERM"),
        (ended("lost", None, reason="no exit record"), "lost", "no exit record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_state_in_words(job: Job, phase: str, remark: str) -> None:
    assert (render.phase(job), render.remark(job)) == (phase, remark)


def test_progress_tells_state_elapsed_cpu_memory_and_output() -> None:
    assert render.progress(running(), WIDE) == "job 17 encode  running  1m  cpu 12.5s  mem 5.0MiB  out 128B"
    waiting = a_job(waits_for=("memory: 4 wanted",))
    assert render.progress(waiting, WIDE) == "job 17 encode  queued  memory: 4 wanted"


def test_outcome_says_what_next_only_when_it_went_wrong() -> None:
    assert render.outcome(ended("completed", 0), WIDE) == ("job 17 (encode) completed: ran 1m, cpu 12.5s, peak 6.0MiB")
    assert render.outcome(ended("failed", 3), WIDE).endswith("exit status 3\n  see more with: jobs show 17")
    never = a_job(state="cancelled", final=True, reason="cancelled by owner")
    assert render.outcome(never, WIDE) == "job 17 (encode) cancelled: cancelled by owner"


def test_a_page_has_every_fact_and_no_empty_row() -> None:
    page = render_page.page(running(spec=SPEC, address="10.0.0.2", freezes=2, holds=()), WIDE)
    for fact in (
        "job 17  encode", "state", "running", "alice", "1m, frozen 2 times", "2 CPUs, 4.0GiB memory",
        "one, CPUs 0-1 (exclusive), memory nodes 0", "10.0.0.2", "cpu 12.5s (user 10.0s, system 2.5s)",
        "100B stdout, 28B stderr", "xz -T0 'big file.tar'", "/srv at /data (ro)", "2h", "/home/a",
        "next: jobs logs -f 17",
    ):  # fmt: skip
        assert fact in page, page
    assert all(len(line.split("  ")) > 1 and line.strip() for line in page.splitlines()[1:])
    assert "address" not in render_page.page(a_job(spec=SPEC), WIDE)


def test_a_page_tells_what_carries_the_class_what_it_waited_for_and_what_the_host_cannot_do() -> None:
    usage = {**USED, "cpu_wait_s": 1.5, "memory_wait_s": 0.0, "io_wait_s": 90.0}
    notes = ("io.weight is \x1bignored",)
    page = render_page.page(running(usage=usage, carriers=("bpf", "net_prio"), notes=notes), WIDE)
    assert "network normal (by bpf, net_prio)" in page
    assert re.search(r"pressure +1\.5s waiting for cpu, 1m30s waiting for io$", page, re.MULTILINE), page
    assert re.search(r"note +io\.weight is .*ignored$", page, re.MULTILINE) and "\x1b" not in page
    bare = render_page.page(running(), WIDE)
    assert "pressure" not in bare and "note" not in bare and "(by" not in bare


@pytest.mark.parametrize(
    ("state", "command"), [("held", "release"), ("frozen", "resume"), ("queued", "wait"), ("running", "logs -f")]
)
def test_a_page_ends_with_the_next_step(state: str, command: str) -> None:
    look = Look(width=100, program="jobsctl")
    assert render_page.page(a_job(state=state, attempt=1, usage=USED), look).endswith(f"next: jobsctl {command} 17")


MANY = [
    a_job(1, "a-rather-long-name-for-a-job-that-encodes"), running(job=2, name="x"), ended("failed", 3, job=30),
    running(job=400, state="frozen", holds=("operator",), owner="bob"),
]  # fmt: skip


def test_table() -> None:
    lines = render.table(MANY, WIDE).splitlines()
    assert lines[0].split() == [
        "JOB", "NAME", "USER", "STATE", "CPUS", "ELAPSED", "CPU", "MEMORY", "PEAK", "OUTPUT", "URGENCY",
    ]  # fmt: skip
    assert re.match(r"  2  x +alice  running +0-1 +1m  12.5s  5.0MiB  6.0MiB    128B       50$", lines[2])
    assert lines[3].endswith("exit status 3") and lines[4].endswith("by an operator")
    assert "USER" not in render.table(MANY[:3], WIDE)
    assert render.table([], WIDE) == ""


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 132])
def test_table_fits_the_terminal_and_keeps_id_name_and_state(width: int) -> None:
    lines = render.table(MANY, Look(width=width, now=1000.0)).splitlines()
    assert all(len(line) <= max(width, 28) for line in lines), lines
    assert "JOB" in lines[0] and "NAME" in lines[0] and "STATE" in lines[0]
    assert "a-rath" in lines[1] and "frozen" in lines[4]


def test_colour_changes_no_column() -> None:
    coloured = render.table(MANY, Look(width=100, colour=True, now=1000.0))
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render.table(MANY, Look(width=100, now=1000.0))


@settings(deadline=None)
@given(st.text(), st.sampled_from(["queued", "failed", "running", "lost"]), st.integers(10, 200))
def test_users_text_cannot_steer_the_terminal(text: str, state: str, width: int) -> None:
    job = running(name=text, reason=text, owner=text, state=state, final=state in ("failed", "lost"), waits_for=(text,),
                  spec={**SPEC, "command": [text], "submitted_from": text})  # fmt: skip
    look = Look(width=width)
    for shown in (
        render.table([job], look),
        render_page.page(job, look),
        render.progress(job, look),
        render.outcome(job, look),
    ):
        assert all(char.isprintable() or char == "\n" for char in shown)
        assert shown.count("\n") < 40


def test_commands_in_messages_are_those_that_work_here() -> None:
    assert render.with_program("see your jobs with: jobs list", "jobsctl") == "see your jobs with: jobsctl list"
    assert render.with_program("jobs resume 3", "jobsctl") == "jobsctl resume 3"
    assert render.with_program("your jobs are many", "jobsctl") == "your jobs are many"
    assert render.with_program("jobs resume 3", "jobs") == "jobs resume 3"


def test_plain_table() -> None:
    assert render.plain_table(["NAME", "SIZE"], [["debian", "1B"], ["x\x1b", "200B"]]) == (
        "NAME    SIZE\ndebian  1B\nx?      200B"
    )


def test_spec_line() -> None:
    spec = {"name": "x", "resources": {"cpus": 0.5, "memory_bytes": 1 << 30}, **SPEC}
    assert render_page.spec_line("a.toml", spec) == "a.toml: ok: x: 0.5 CPUs, 1.0GiB memory, image host, network bridge"
    spec |= {"array": {"ranges": [[0, 9, 1], [20, 20, 1]], "at_once": 2}}
    spec |= {"depends": {"afterok": ["b", 3], "after": [], "singleton": True}}
    assert render_page.spec_line("a.toml", spec).endswith(", 11 tasks, 2 at once, afterok b, 3; singleton")


def test_a_page_tells_of_retries_and_of_times_to_come() -> None:
    warned = {**SPEC, "warn": {"signal": "USR1", "before_s": 60.0}}
    page = render_page.page(running(spec=warned, attempt=4, retries=2, checkpoints=1, deadline_at=1090.0), WIDE)
    assert "1m, attempt 4, 2 retries, 1 checkpoint" in page
    assert re.search(r"deadline +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in 1m30s\)", page)
    assert re.search(r"warning +USR1, 1m before the end$", page, re.MULTILINE)
    assert "1m before the end; sent" in render_page.page(running(spec=warned, warned=True), WIDE)
    assert "begins" not in page
    waiting = render_page.page(a_job(spec=SPEC, not_before=1005.0), WIDE)
    assert re.search(r"begins .*\(in 5\.0s\)", waiting)
    assert "warning" not in waiting


def test_a_page_says_what_the_place_in_the_order_is_made_of() -> None:
    page = render_page.page(a_job(spec=SPEC, points={"urgency": 50, "queue": -10, "share": 2.5, "age": 0.75}), WIDE)
    assert re.search(r"order +43\.2 points: urgency 50, queue -10, share \+2\.5, age \+0\.8$", page, re.MULTILINE)


def test_host_page() -> None:
    host = {"kernel": "6.18", "controllers": {"cpu": "v1"}, "executions": [], "nodes": [{"id": 0, "cpus": [0, 1, 2]}]}
    assert render_page.host_page(host) == "kernel       6.18\ncontrollers  cpu v1\nnodes        id 0, cpus 0-2"
