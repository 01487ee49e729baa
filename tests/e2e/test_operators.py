"""What operators do to an installation at three in the morning, and what must not come of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from installation import BIN, Installation, wait_for

STRANGER = 54321


def marking(folder: Path) -> str:
    return f'[[mounts]]\nsource = "{folder}"\ntarget = "/marks"\nmode = "rw"\n[resources]\ncpus = 0.2\n'


def test_jobs_wait_for_a_launcher_that_is_away() -> None:
    site = Installation()
    try:
        site.start_daemon()
        site.wait_ready()
        job = site.run_script("echo here")
        site.until(job, "starting")
        site.start_launcher()
        assert site.wait(job) == 0, site.logs()
        assert site.show(job)["attempt"] == 1
    finally:
        site.__exit__()


def test_a_job_that_was_cancelled_while_it_started_does_not_run(site: Installation) -> None:
    assert site.launcher is not None
    marks = site.folder / "cancelled"
    marks.mkdir()
    site.launcher.send_signal(signal.SIGSTOP)
    try:
        job = site.run_script("touch /marks/ran", marking(marks))
        site.until(job, "starting")
        site.cli("cancel", str(job))
    finally:
        site.launcher.send_signal(signal.SIGCONT)
    site.until(job, "cancelled")
    assert not (marks / "ran").exists()


def test_a_lost_journal_gives_no_old_id_to_a_new_job() -> None:
    with Installation() as site:
        first = site.run_script("echo secret of the first")
        assert site.wait(first) == 0
        wait_for(lambda: site.show(first)["cleaned"], 20)
        site.kill_daemon()
        for path in Path(site.settings["state_dir"]).glob("journal.db*"):
            path.unlink()
        site.start_daemon()
        site.wait_ready()
        second = site.run_script("echo second")
        assert second > first
        assert site.wait(second) == 0, site.show(second)
        assert site.output(second) == "second\n"


def test_one_daemon_and_one_launcher_at_a_time(site: Installation) -> None:
    elsewhere = {**site.environment(), "JOBS_RUN_DIR": str(site.folder / "run2")}
    second = subprocess.run(
        [str(BIN / "jobsd")], env=elsewhere, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 3
    assert "another jobsd uses" in second.stderr
    launcher = subprocess.run(
        [str(BIN / "jobsd"), "launcher"],
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert launcher.returncode != 0
    assert "another launcher answers" in launcher.stderr
    assert site.wait(site.run_script("exit 0")) == 0


def test_a_strangers_image_folder_is_as_closed_as_its_mode(site: Installation) -> None:
    closed = site.folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "secret").write_text("s")
    toml = 'name = "t"\nrun_as = "root"\ncommand = ["/bin/true"]\n[image]\nsource = "dir:{}"\n'
    for folder in (closed, Path("/sys"), Path("/proc/self/fd/2"), Path(site.settings["run_dir"])):
        job = site.submit(toml.format(folder), user=STRANGER, cwd="/")
        assert site.wait(job) == 3, folder
        assert "at step 'image'" in site.show(job)["reason"], site.show(job)["reason"]


def test_no_mount_source_leads_through_our_own_descriptors(site: Installation) -> None:
    job = site.run_script("ls /m", '[[mounts]]\nsource = "/proc/self/fd/2"\ntarget = "/m"\n', user=STRANGER, cwd="/")
    assert site.wait(job) == 3
    assert "at step 'mount'" in site.show(job)["reason"]


def test_devices_are_named_by_their_own_names(site: Installation) -> None:
    link = Path(f"/dev/shm/jobs-test-{os.getpid()}")
    link.symlink_to("/dev/null")
    try:
        job = site.run_script("true", f'[resources]\ndevices = ["{link}"]\n')
        assert site.wait(job) == 3
        assert "at step 'device'" in site.show(job)["reason"]
    finally:
        link.unlink()


def test_a_text_made_to_keep_the_daemon_busy_is_refused_soon(site: Installation) -> None:
    many = ", ".join(f'"/dev/t{number}"' for number in range(60_000))
    done = site.cli(
        "check", "-", input=f'name = "a"\ncommand = ["true"]\n[resources]\ndevices = [{many}]\n', check=False
    )
    assert done.returncode == 2
    assert "too many" in done.stderr


def test_exec_is_not_shut_by_a_strangers_silent_connections(site: Installation) -> None:
    hold = (
        "import os, socket, sys, time\nos.setresuid(54321, 54321, 54321)\nheld = []\n"
        "for _ in range(70):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"    s.connect({site.settings['run_dir'] + '/exec.sock'!r})\n    held.append(s)\nprint('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    job = site.run_script("sleep 600")
    site.until(job, "running")
    guests = subprocess.Popen(["python3", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert guests.stdout is not None
        assert guests.stdout.readline() == b"held\n"
        assert site.cli("exec", "--no-tty", str(job), "--", "true").returncode == 0
    finally:
        guests.kill()
        guests.wait()
        site.cli("cancel", "--kill", str(job))
        site.until(job, "cancelled")
