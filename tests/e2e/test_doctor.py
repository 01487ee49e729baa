"""`jobs doctor` where its users call it: on the host, as anybody, in a job, in a container of another engine; and the
programs that refuse to start, with the same text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installation import BIN, ROOT, Installation

UNPRIVILEGED = ["setpriv", "--bounding-set=-sys_admin"]  # of util-linux, which is essential
FATAL = "FATAL    privileges, capabilities: root without CAP_SYS_ADMIN"


@pytest.fixture
def unstarted() -> Installation:
    """Settings of its own, and nothing that runs."""
    return Installation()


def run(site: Installation, *argv: str, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), *argv]
    return subprocess.run(
        command, capture_output=True, text=True, env=site.environment(), cwd="/", check=False, timeout=300
    )


def fatal_part(page: str) -> list[str]:
    """The lines of all fatal findings."""
    found, inside = [], False
    for line in page.splitlines():
        inside = line.startswith("FATAL") or (inside and line.startswith(" " * 9))
        found += [line] if inside else []
    return found


def test_without_a_daemon_as_root(unstarted: Installation) -> None:
    done = run(unstarted, str(BIN / "jobsctl"), "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\njobsd can run jobs here: " in done.stdout
    assert done.stderr == "" and not os.path.exists(unstarted.settings["state_dir"])
    whole = run(unstarted, str(BIN / "jobsctl"), "doctor", "--all").stdout
    assert "ok       namespaces, kinds: 8 of 8" in whole
    found = json.loads(run(unstarted, str(BIN / "jobsctl"), "doctor", "--json").stdout)
    assert found["facts"]["uid"] == 0
    assert {"area", "name", "state", "seen", "costs", "mends"} <= set(found["findings"][0])


def test_what_was_sent_is_read_as_it_was_seen_there(unstarted: Installation, tmp_path: Path) -> None:
    saved = ROOT / "tests" / "data" / "facts" / "v1-5.10.json"
    done = run(unstarted, str(BIN / "jobsctl"), "doctor", "--from", str(saved))
    assert done.returncode == 3 and "FATAL    kernel, version: Linux 5.10.0" in done.stdout
    (tmp_path / "other").write_text("{}")
    refused = run(unstarted, str(BIN / "jobsctl"), "doctor", "--from", str(tmp_path / "other"))
    assert refused.returncode == 2 and "not what doctor --json prints" in refused.stderr


def test_while_jobs_run_it_says_the_same(site: Installation) -> None:
    """Its tries are not in the way of a daemon, and a daemon's own things are not in the doctor's."""
    job = site.run_script("sleep 100")
    site.until(job, "running")
    done = site.cli("doctor")
    assert not [word for word in ("FATAL", "missing", "not told") if word in done.stdout], done.stdout
    assert site.show(job)["state"] == "running"
    site.cli("cancel", "--kill", str(job))


def test_daemon_and_launcher_refuse_with_the_doctor_s_own_text(unstarted: Installation) -> None:
    page = run(unstarted, str(BIN / "jobsctl"), "doctor", before=UNPRIVILEGED)
    assert page.returncode == 3 and FATAL in page.stdout
    for argv in (["jobsd"], ["jobsd", "launcher"]):
        refused = run(unstarted, str(BIN / argv[0]), *argv[1:], before=UNPRIVILEGED)
        assert refused.returncode == 3, refused.stderr
        told = fatal_part(refused.stderr)
        assert told and told == fatal_part(page.stdout)[: len(told)]
        assert "hint: the whole picture: jobsctl doctor" in refused.stderr
    assert not os.path.exists(unstarted.settings["state_dir"]) and not os.path.exists(unstarted.settings["run_dir"])


def test_a_run_without_a_daemon_refuses_too_and_leaves_nothing(unstarted: Installation, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text('name = "x"\ncommand = ["true"]\n')
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JOBS_")}
    before = set(os.listdir("/var/tmp"))
    done = subprocess.run(
        [*UNPRIVILEGED, str(BIN / "jobsctl"), "run", str(tmp_path / "spec.toml")], capture_output=True, text=True,
        env={**environment, "JOBS_RUN_DIR": str(tmp_path / "none")}, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 3 and FATAL in done.stderr, done.stderr
    assert {name for name in set(os.listdir("/var/tmp")) - before if name.startswith("jobs-run-")} == set()


def test_what_only_the_daemon_can_t_do_without(unstarted: Installation) -> None:
    unstarted.settings["init"] = "/no/such/program"
    page = run(unstarted, str(BIN / "jobsctl"), "doctor")
    refused = run(unstarted, str(BIN / "jobsd"))
    assert page.returncode == refused.returncode == 3
    assert "the setting init = '/no/such/program' is no program" in page.stdout
    assert fatal_part(refused.stderr) == fatal_part(page.stdout)
    assert not os.path.exists(unstarted.settings["state_dir"])


def test_in_a_job_of_our_own(site: Installation) -> None:
    """A container in a user namespace, behind our filter, with everything read-only that can be."""
    mounts = "".join(
        f'[[mounts]]\nsource = "{folder}"\ntarget = "{folder}"\n'
        for folder in (sys.base_prefix, str(ROOT))
        if folder.startswith(("/root/", "/home/", "/tmp/", "/var/tmp/"))  # no job sees what is there
    )
    job = site.run_script(f"{BIN / 'jobsd'} doctor; echo status $?", f"{mounts}[resources]\nmemory = '1GiB'\n")
    assert site.wait(job) == 0, site.logs()
    text = site.output(job)
    assert "jobsd can't run jobs here" in text and text.endswith("status 3\n"), text
    assert "FATAL    privileges, user namespace: root of a user namespace, not of the host" in text
    assert "FATAL    cgroups, groups of jobs: no group can be made" in text
    assert "Traceback" not in site.output(job, "--stderr")


@pytest.mark.needs("tool.runc", "overlay")
def test_in_an_unprivileged_container_of_another_engine(unstarted: Installation, tmp_path: Path) -> None:
    """runc's defaults: few capabilities, no seccomp, cgroups and /proc/sys read-only, some of /proc masked."""
    subprocess.run(["runc", "spec", "--bundle", str(tmp_path)], check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"].update(args=[str(BIN / "jobsd"), "doctor"], terminal=False, env=["PATH=/usr/sbin:/usr/bin"])
    config["root"] = {"path": str(tmp_path / "root"), "readonly": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("root", "upper"):
        (tmp_path / name).mkdir()
    overlay = f"lowerdir=/,upperdir={tmp_path}/upper/u,workdir={tmp_path}/upper/w"
    script = (
        f"mount -t tmpfs none {tmp_path}/upper; mkdir {tmp_path}/upper/u {tmp_path}/upper/w; "
        f"mount -t overlay none -o {overlay} {tmp_path}/root; "
        f"exec runc run --bundle {tmp_path} jobs-doctor-{os.getpid()}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "\njobsd can't run jobs here: " in done.stdout
    assert "FATAL    privileges, capabilities: root without CAP_SYS_ADMIN, CAP_NET_ADMIN" in done.stdout
    assert "FATAL    cgroups, groups of jobs: no group can be made" in done.stdout
    assert "FATAL    network, /proc/sys: /proc/sys is read-only" in done.stdout
    assert "not told without CAP_SYS_ADMIN" in done.stdout.replace("\n         ", " ")
