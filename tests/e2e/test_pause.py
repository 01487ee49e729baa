"""Freezing a job of 200 processes five times changes nothing but the time it takes. On both freezers."""

from __future__ import annotations

import json
import random
import time

from installation import Installation
from patience import SLOWNESS

CROWD = r"""
import hashlib, os, sys, time
def chain(seed, rounds):
    digest = seed.to_bytes(4, "big")
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return digest
pipes = []
for number in range(200):
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        if number % 2:
            for _ in range(40):
                time.sleep(0.05)
            os.write(write, chain(number, 10))
        else:
            os.write(write, chain(number, ROUNDS))  # some 10 s of CPU: longer than five pauses and their commands
        os._exit(0)
    os.close(write)
    pipes.append(read)
total = hashlib.sha256()
for read in pipes:
    total.update(os.read(read, 32))
print(total.hexdigest())
"""
ROUNDS = 200_000 if SLOWNESS == 1 else 25_000
JOB = f"""
name = "crowd"
command = ["python3", "-c", {json.dumps(CROWD.replace("ROUNDS", str(ROUNDS)))}]
[resources]
cpus = 2
memory = "1GiB"
pids = 300
[network]
mode = "none"
"""


def test_paused_five_times_at_random_moments(freezing_site: Installation) -> None:
    site = freezing_site
    plain = site.submit(JOB)
    assert site.wait(plain) == 0, site.output(plain, "--stderr")
    expected = site.output(plain)
    assert len(expected.strip()) == 64

    job = site.submit(JOB)
    site.until(job, "running")
    chance = random.Random(5)
    for pause in range(5):
        time.sleep(chance.uniform(0.05, 0.6))
        site.cli("pause", "--wait", str(job))
        frozen = site.show(job)
        assert frozen["state"] == "frozen", f"pause {pause}: {frozen}\n{site.logs()}"
        time.sleep(0.2)  # a process that is just being taken off its CPU may still be charged microseconds
        before = site.show(job)["usage"]["cpu_s"]
        time.sleep(0.4)
        assert site.show(job)["usage"]["cpu_s"] == before > 0
        site.cli("resume", "--wait", str(job))
        assert site.show(job)["state"] == "running"
    assert site.wait(job) == 0, site.output(job, "--stderr")
    assert site.output(job) == expected
    assert site.show(job)["freezes"] == 5
    assert site.show(job)["freezer"] == site.settings["freezer"]


def test_cancel_of_a_frozen_job_kills_it(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.run_script("sleep 600")
    site.until(job, "running")
    site.cli("pause", "--wait", str(job))
    site.cli("cancel", "--kill", str(job))
    assert site.until(job, "cancelled")["state"] == "cancelled"


def test_frozen_time_does_not_count(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.run_script(f"sleep {2.5 * SLOWNESS}", toml=f'time_limit = "{3 * SLOWNESS}s"\n')
    site.until(job, "running")
    site.cli("pause", "--wait", str(job))
    time.sleep(3 * SLOWNESS)
    site.cli("resume", "--wait", str(job))
    assert site.wait(job) == 0, site.show(job)


def test_the_time_limit_ends_a_job(freezing_site: Installation) -> None:
    site = freezing_site
    job = site.run_script("sleep 600", toml='time_limit = "1s"\nstop = { signal = "TERM", grace = "1s" }\n')
    assert site.until(job, "timed_out")["ran_s"] < 60
