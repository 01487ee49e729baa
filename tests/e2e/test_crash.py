"""SIGKILL at the worst moment: a program runs exactly once or is reported lost, and no status or output is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from installation import ROOT, Installation, wait_for
from patience import PATIENCE_S

FINAL_OK = ("completed", "failed", "lost")


def points(folder: str) -> list[str]:
    """Every fault point in the product's source, so that a new one is tested without being listed here."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        found |= set(re.findall(r"faultpoint\.reach\(\"([a-z_:.-]+)\"\)", path.read_text()))
    return sorted(found)


def appending(marks: Path) -> str:
    """A job whose program appends one line to a file of the host each time it runs."""
    return (
        "name = \"once\"\nscript = '''#!/bin/sh\necho ran >> /marks/ran\necho said\n'''\n"
        f'[[mounts]]\nsource = {json.dumps(str(marks))}\ntarget = "/marks"\nmode = "rw"\n'
        '[resources]\ncpus = 0.1\nmemory = "64MiB"\n'
    )


def runs(marks: Path) -> int:
    path = marks / "ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_there_are_points_on_both_sides() -> None:
    assert len(points("scheduler")) >= 5
    assert len(points("runtime")) >= 4


@pytest.mark.parametrize("who", ["jobsd", "launcher", "both"])
@pytest.mark.parametrize("point", points("scheduler") + points("runtime"))
def test_killed_at_every_step_of_a_start(point: str, who: str) -> None:
    site = Installation(slots="1", uppers="1")
    marks, kill = site.folder / "marks", site.folder / "kill"
    marks.mkdir()
    fault = {"JOBS_FAULT": point, "JOBS_FAULT_KILL": str(kill)}
    try:
        site.start_launcher(fault)
        site.start_daemon(fault)
        site.wait_ready()
        assert site.launcher is not None and site.daemon is not None
        victims = {"jobsd": [site.daemon], "launcher": [site.launcher], "both": [site.daemon, site.launcher]}[who]
        kill.write_text(" ".join(str(victim.pid) for victim in victims))
        # The daemon may die before it answers; the request id makes the repeated submission the same job.
        site.cli("submit", "-", input=appending(marks), check=False, timeout=30)
        wait_for(lambda: not kill.exists(), 30, site.logs)
        for victim in victims:
            victim.wait(timeout=30)
        if site.launcher in victims:
            site.start_launcher()
        if site.daemon in victims:
            site.start_daemon()
        site.wait_ready()
        jobs = site.jobs()
        assert len(jobs) <= 1
        if not jobs:  # killed before the commit: nobody was told an id, so nothing may have run
            assert runs(marks) == 0
            return
        job = jobs[0]["job"]
        wait_for(lambda: site.show(job)["final"] and site.show(job)["cleaned"], 40, site.logs)
        record = site.show(job)
        assert record["state"] in FINAL_OK, record
        if record["state"] == "completed":
            assert runs(marks) == 1, record
            assert site.output(job) == "said\n"
        else:
            assert runs(marks) <= 1, record
            assert record["reason"], record
    finally:
        site.__exit__()


def test_daemon_killed_while_20_run_and_5_end_meanwhile() -> None:
    with Installation() as site:
        gate = site.folder / "gate"
        gate.mkdir()
        mount = f'[[mounts]]\nsource = "{gate}"\ntarget = "/gate"\n[resources]\ncpus = 0.02\nmemory = "32MiB"\n'
        waiting = "while [ ! -e /gate/{gate} ]; do sleep 0.05; done; echo out-{n}; exit {n}"
        late = [site.run_script(waiting.format(gate="late", n=n), mount) for n in range(20)]
        early = [site.run_script(waiting.format(gate="early", n=n), mount) for n in range(20, 25)]
        for job in late + early:
            site.until(job, "running", deadline_s=60)

        site.kill_daemon()
        (gate / "early").touch()
        spool = Path(site.settings["state_dir"]) / "spool"
        wait_for(lambda: all(b"out-" in (spool / f"{job}.0.1" / "stdout").read_bytes() for job in early), 30)
        site.start_daemon()
        site.wait_ready()
        (gate / "late").touch()

        for number, job in enumerate(late + early):
            assert site.wait(job) == number, site.show(job)
            assert site.output(job) == f"out-{number}\n"


def test_status_after_cgroup_kill_and_after_oom() -> None:
    with Installation() as site:
        job = site.run_script("sleep 600")
        site.until(job, "running")
        site.cli("cancel", "--kill", str(job))
        assert site.until(job, "cancelled")["exit_status"] == 137
        greedy = site.submit(
            'name = "greedy"\ncommand = ["python3", "-c", "x = bytearray(300 << 20); print(len(x))"]\n'
            '[resources]\nmemory = "64MiB"\ncpus = 0.5\n'
        )
        site.wait(greedy)
        record = site.show(greedy)
        assert record["state"] == "out_of_memory", record
        assert record["usage"]["oom_kills"] >= 1
        assert record["exit_status"] == 137


def test_a_job_dies_as_a_whole_when_a_child_is_out_of_memory() -> None:
    """On every kind of cgroups: where the kernel kills the child only, the daemon ends the rest."""
    with Installation() as site:
        job = site.submit(
            'name = "parent"\ncommand = ["sh", "-c", "python3 -c \'x = bytearray(300 << 20)\'; sleep 600"]\n'
            '[resources]\nmemory = "64MiB"\ncpus = 0.5\n'
        )
        site.wait(job)
        record = site.show(job)
        assert (record["state"], record["exit_status"]) == ("out_of_memory", 137), record


def test_monitor_killed_is_reported_lost_by_name() -> None:
    with Installation() as site:
        job = site.run_script("sleep 600")
        site.until(job, "running")
        marker = json.loads((Path(site.settings["state_dir"]) / "spool" / f"{job}.0.1" / "started").read_text())
        os.kill(int(marker["monitor_pid"]), 9)
        record = site.until(job, "lost")
        assert "exit record" in record["reason"]
        wait_for(lambda: site.show(job)["cleaned"], 20, site.logs)
        alive = subprocess.run(["pgrep", "-f", "sleep 600"], capture_output=True, check=False).stdout
        assert not alive


def test_launcher_killed_while_jobs_run() -> None:
    with Installation() as site:
        job = site.run_script("until [ -e /tmp/go ]; do sleep 0.1; done; echo survived; exit 3")
        site.until(job, "running")
        site.kill_launcher()
        site.start_launcher()
        # the new launcher never saw it start
        inside = site.cli("exec", "--no-tty", str(job), "--", "sh", "-c", "hostname; touch /tmp/go")
        assert inside.stdout == f"job-{job}\n"
        assert site.wait(job) == 3
        assert site.output(job) == "survived\n"
        assert site.wait(site.run_script("exit 4")) == 4  # and new ones start


@pytest.mark.needs("cgroup2")
def test_groups_that_somebody_removed_while_no_daemon_ran() -> None:
    """In the unified hierarchy only, as systemd does when the unit above ends; in the others they are still there."""
    with Installation() as site:
        job = site.run_script("sleep 600")
        execution = site.until(job, "running")["execution"]
        site.kill_daemon()
        group = _unified() / site.settings["cgroup_root"] / execution
        (group / "cgroup.kill").write_bytes(b"1")
        wait_for(lambda: "populated 0" in (group / "cgroup.events").read_text(), PATIENCE_S, site.logs)
        for folder in (group / "run", group / "mon", group):
            folder.rmdir()
        site.start_daemon()
        site.wait_ready()
        wait_for(lambda: bool(site.show(job)["cleaned"]), PATIENCE_S, site.logs)
        record = site.show(job)
        assert (record["state"], record["leftovers"]) == ("lost", []), record
        assert site.wait(site.run_script("exit 3")) == 3


def _unified() -> Path:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return Path(next(line.split()[4] for line in lines if " - cgroup2 " in line))
