"""The services as scripts/install leaves them: units, groups, commands, lines in the journal."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest
import services
from services import GROUP, jobsctl, run

pytestmark = pytest.mark.needs("systemd", "boot.1")


def test_all_are_up_and_come_again_at_boot() -> None:
    assert services.active() == dict.fromkeys(services.UNITS, "active")
    assert {run("systemctl", "is-enabled", unit).strip() for unit in services.UNITS} == {"enabled"}
    assert run("systemctl", "is-system-running", check=False).strip() == "running"


def test_the_units_are_without_fault() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *(f"/etc/systemd/system/{unit}.service" for unit in services.UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_installing_again_changes_nothing_and_ends_nothing() -> None:
    before = {unit: services.main_pid(unit) for unit in ("jobs-cgroup", "jobs-launcher")}
    run(str(services.ROOT / "scripts/install"), timeout=900)
    services.until_all_active()
    assert {unit: services.main_pid(unit) for unit in before} == before


def test_the_holder_sits_in_a_leaf_and_controllers_reach_the_jobs() -> None:
    assert (GROUP / "cgroup.procs").read_text() == ""
    assert (GROUP / "holder/cgroup.procs").read_text().split() == [str(services.main_pid("jobs-cgroup"))]
    enabled = set((GROUP / "cgroup.subtree_control").read_text().split())
    assert enabled >= {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}


def test_a_job_runs_below_the_holder() -> None:
    job = services.start_counting("below")
    execution = services.show(job)["execution"]
    pids = services.processes_of(job)
    assert pids
    assert {Path(f"/proc/{pid}/cgroup").read_text().strip().split("\n")[-1] for pid in pids} == {
        f"0::/system.slice/jobs-cgroup.service/{execution}/run"
    }
    group = GROUP / execution
    assert (group / "cgroup.procs").read_text() == ""
    assert (group / "mon/cgroup.procs").read_text() != ""
    assert (group / "run/memory.max").read_text().strip() == str(64 << 20)
    services.finish_counting(job, "below")


def test_jobs_of_an_ordinary_user_with_the_commands_of_a_login_shell() -> None:
    run("useradd", "--create-home", "--shell", "/bin/bash", "alice")
    home = Path(pwd.getpwnam("alice").pw_dir)
    (home / "mine.toml").write_text(
        'name = "mine"\ncommand = ["sh", "-c", "id -u; touch result"]\nsubmit_dir = "rw"\n'
        '[resources]\ncpus = 0.2\nmemory = "64MiB"\n'
    )
    said = run("su", "--login", "alice", "--command", "jobs submit --follow mine.toml")
    assert said.splitlines()[-1] == str(pwd.getpwnam("alice").pw_uid)
    assert (home / "result").stat().st_uid == pwd.getpwnam("alice").pw_uid
    assert json.loads(jobsctl("list", "--everyone", "--json", "--newest", "1"))[0]["owner"] == "alice"
    listed = run("su", "--login", "alice", "--command", "sleep 60 & jobs -l")
    assert "Running" in listed  # the builtin is still there


def test_lines_in_the_journal_have_levels_and_fields() -> None:
    found = services.entries("jobsd")
    serving = [each for each in found if str(each["MESSAGE"]).startswith("serving on /run/jobs/jobsd.sock")]
    assert serving
    assert serving[0]["PRIORITY"] == "6"
    assert serving[0]["SYSLOG_IDENTIFIER"] == "jobsd"
    assert [each["MESSAGE"] for each in found if int(each["PRIORITY"]) <= 3] == []
    assert not any("Traceback" in str(each["MESSAGE"]) for each in found)


def test_what_systemctl_status_says() -> None:
    assert "no jobs" in of_status() or "completed" in of_status() or "running" in of_status(), of_status()


def of_status() -> str:
    return services.of("jobsd", "StatusText")


def test_the_sandbox_of_the_daemon_holds() -> None:
    status = Path(f"/proc/{services.main_pid('jobsd')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    # it shares the host's mounts: hierarchies that it mounts are the launcher's too
    assert os.readlink(f"/proc/{services.main_pid('jobsd')}/ns/mnt") == os.readlink("/proc/1/ns/mnt")
    score = run("systemd-analyze", "security", "jobsd", "--no-pager", check=False).splitlines()[-1]
    print(score)
    assert "Overall exposure level" in score


@pytest.mark.parametrize("text, code", [("bridge = 7", 2), ("no_such = 1", 2)], ids=["value", "key"])
def test_a_wrong_setting_stops_the_start_and_says_so(text: str, code: int) -> None:
    path = Path("/etc/jobs/jobs.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    try:
        run("systemctl", "restart", "jobsd", check=False)
        services.until(lambda: services.of("jobsd", "ActiveState") == "failed", services.active)
        assert services.of("jobsd", "ExecMainStatus") == str(code)
        last = [each for each in services.entries("jobsd") if str(each["MESSAGE"]).startswith("jobsd: ")][-1]
        assert text.split()[0] in last["MESSAGE"]
        assert last["PRIORITY"] == "3"
    finally:
        path.unlink()
        run("systemctl", "reset-failed", "jobsd", check=False)
        run("systemctl", "start", "jobsd")
    services.until_all_active()
