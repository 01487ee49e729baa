"""`jobs inspect` on jobs that hang, running and frozen, on both freezers: it says why, and the job does not notice."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from installation import ROOT, Installation, wait_for

from jobs.inspection import Snapshot, from_json

LOCKED = """
import fcntl, os, time
for number in range(2):
    if os.fork() == 0:
        file = open("/tmp/lock", "w")
        time.sleep(0.2 * number)
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(1000)
os.wait()
"""
SELFISH = """import threading
def inner(lock):
    lock.acquire()
lock = threading.Lock()
lock.acquire()
inner(lock)
"""
SLOW_PEER = """
import os, socket, time
listener = socket.create_server(("127.0.0.1", 7000))
if os.fork() == 0:
    listener.close()
    client = socket.create_connection(("127.0.0.1", 7000))
    client.recv(1)
    os._exit(0)
peer, _ = listener.accept()
time.sleep(1000)
"""


def seen(site: Installation, job: int) -> Snapshot:
    return from_json(Snapshot, json.loads(site.cli("inspect", "--json", str(job)).stdout))


def hang(site: Installation, job: int, word: str) -> str:
    """The page once it says `word`, and the same of the frozen job; the words of the frozen one."""
    site.until(job, "running")
    wait_for(lambda: word in site.cli("inspect", str(job)).stdout, 60, lambda: site.cli("inspect", str(job)).stdout)
    site.cli("pause", "--wait", str(job))
    return site.cli("inspect", str(job)).stdout


def python(name: str, program: str) -> str:
    return f'name = "{name}"\ncommand = ["python3", "-c", {json.dumps(program)}]\nnetwork = {{ mode = "none" }}\n'


@pytest.mark.needs("tool.gcc")
def test_a_deadlock_is_told_and_nothing_moves_between_two_looks(freezing_site: Installation, tmp_path: Path) -> None:
    site = freezing_site
    done = site.cli("submit", "--json", str(ROOT / "examples/hang/deadlock.toml"))
    job = int(json.loads(done.stdout)[0]["job"])
    page = hang(site, job, "DEADLOCK")
    assert f"frozen (freezer {site.settings['freezer']})" in page
    one, other = re.findall(r"thread (\d+) waits for a mutex that thread (\d+) holds", page)[:2]
    assert one == tuple(reversed(other))
    before, after = str(tmp_path / "before.json"), str(tmp_path / "after.json")
    site.cli("inspect", str(job), "--save", before)
    time.sleep(0.2)
    site.cli("inspect", str(job), "--save", after)
    moved = site.cli("inspect", "--diff", before, after).stdout
    assert len(moved.splitlines()) == 2, moved
    assert "threads did not run at all" in moved
    assert site.show(job)["state"] == "frozen"
    site.cli("cancel", "--kill", str(job))
    site.until(job, "cancelled")


def test_a_lock_on_a_file_names_who_has_it(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.submit(python("locked", LOCKED))
    page = hang(site, job, "the lock on /tmp/lock")
    (holder,) = (process for process in seen(site, job).processes if process.locks)
    assert f"waits for the lock on /tmp/lock that process {holder.pid} has" in page
    site.cli("cancel", "--kill", str(job))


def test_a_slow_peer_is_named(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.submit(python("peer", SLOW_PEER))
    page = hang(site, job, "data from 127.0.0.1:7000")
    assert re.search(r"waits for data from 127\.0\.0\.1:7000 \(tcp\), process \d+$", page, re.MULTILINE), page
    site.cli("cancel", "--kill", str(job))


def test_python_that_waits_for_its_own_lock_shows_its_lines(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.submit(python("selfish", SELFISH))
    page = hang(site, job, "inner (<string>:3)")
    assert re.search(r"python +inner \(<string>:3\)\n +<module> \(<string>:6\)\n", page), page
    assert "not seen" not in page
    site.cli("cancel", "--kill", str(job))


def test_what_is_seen_is_what_the_job_sees_of_itself(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.run_script("echo $$; cd /tmp; exec sleep 1000", toml='env = { API_TOKEN = "hush", COLOUR = "red" }\n')
    site.until(job, "running")
    wait_for(lambda: site.output(job) != "", 30)
    wait_for(lambda: "sleep 1000" in site.cli("inspect", str(job)).stdout, 30)
    (process,) = (each for each in seen(site, job).processes if each.argv[0] == "sleep")
    assert process.pid == int(site.output(job))
    assert (process.folder, process.threads[0].call.name) == ("/tmp", "clock_nanosleep")  # type: ignore[union-attr]
    assert process.environment is not None
    assert (process.environment["API_TOKEN"], process.environment["COLOUR"]) == ("(hidden)", "red")
    assert sum(region.resident for region in process.memory) > 0
    site.cli("cancel", "--kill", str(job))
    site.until(job, "cancelled")


def test_there_is_nothing_to_see_of_a_job_that_ended(site: Installation) -> None:
    job = site.run_script("true")
    site.wait(job)
    done = site.cli("inspect", str(job), check=False)
    assert done.returncode == 2
    assert f"job {job} is completed; there are no processes to look at" in done.stderr
