"""`jobs run` where no daemon answers: a daemon lives for that one command and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from installation import BIN, spec, wait_for


def start(folder: Path, toml: str, *flags: str) -> subprocess.Popen[str]:
    (folder / "spec.toml").write_text(toml)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JOBS_")}
    return subprocess.Popen(
        [BIN / "jobsctl", "run", *flags, "spec.toml"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**environment, "JOBS_RUN_DIR": str(folder / "no-daemon-here")}, cwd=folder, start_new_session=True,
    )  # fmt: skip


def left_behind() -> set[str]:
    found = {f"/var/tmp/{name}" for name in os.listdir("/var/tmp") if name.startswith("jobs-run-")}
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        found |= {str(path) for path in hierarchy.glob("jobs-run-*")}
    return found | {name for name in os.listdir("/sys/class/net") if name.startswith("jr")}


def test_output_status_and_nothing_left(tmp_path: Path) -> None:
    before = left_behind()
    running = start(tmp_path, spec("short", ["sh", "-c", "echo out; echo err >&2; exit 7"]))
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (7, "out\n"), err
    assert "err" in err.splitlines() and "job 1 (short) failed" in err and "jobsctl show" not in err
    assert left_behind() <= before


def test_overrides_reach_the_spec(tmp_path: Path) -> None:
    running = start(tmp_path, spec("short", ["sh", "-c", "echo $LEVEL"]), "--set", "env.LEVEL='nine'")
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (0, "nine\n"), err


def test_a_wrong_spec_is_told_as_always(tmp_path: Path) -> None:
    running = start(tmp_path, 'name = "x"\ncomand = ["true"]\n')
    _, err = running.communicate(timeout=120)
    assert running.returncode == 2 and "spec.toml:2: comand: unknown key" in err


def test_interrupt_stops_the_job_and_takes_everything_down(tmp_path: Path) -> None:
    before = left_behind()
    running = start(
        tmp_path, spec("long", ["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"])
    )
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does
    _, err = running.communicate(timeout=120)
    assert running.returncode == 5 and "stopping the job" in err, err
    wait_for(lambda: left_behind() <= before, 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_ended_takes_everything_down_too(tmp_path: Path, number: signal.Signals) -> None:
    """A closed terminal, timeout(1), a service manager: the command has become `jobsd run-embedded` by then."""
    before = left_behind()
    running = start(tmp_path, spec("long", ["sh", "-c", "echo ready; sleep 600"]))
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    running.send_signal(number)
    running.communicate(timeout=120)
    assert running.returncode == 128 + number
    wait_for(lambda: left_behind() <= before, 10)
