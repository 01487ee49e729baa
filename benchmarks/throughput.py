#!/usr/bin/env python3
"""Short jobs from end to end: N × `true` in one submission, through API, journal, scheduler and full containers.

A daemon and a launcher of their own; the clock runs from the submission until the last job's status is in the journal.

    sudo .venv/bin/python benchmarks/throughput.py [--jobs 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.client import Client
from jobs.protocol import SpecText
from scheduler.embedded import instance

SPEC = 'name = "true"\ncommand = ["true"]\n[resources]\ncpus = 0.2\nmemory = "16MiB"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: it makes containers")
    with instance() as environment:
        client = Client(environment["JOBS_SOCKET"])
        began = time.perf_counter()
        accepted = client.submit([SpecText(SPEC, "true.toml", "/", "/")] * options.jobs)
        submitted_s = time.perf_counter() - began
        ended = [client.wait(job, timeout_s=60) for job in accepted.jobs]
        whole_s = time.perf_counter() - began
    if wrong := [job for job in ended if job.exit_status != 0]:
        raise SystemExit(f"{len(wrong)} jobs failed, the first: {wrong[0]}")
    result = {
        "jobs": options.jobs,
        "submit_s": round(submitted_s, 3),
        "all_s": round(whole_s, 2),
        "jobs_per_s": round(options.jobs / whole_s, 1),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<12}{value:>10}")


if __name__ == "__main__":
    main()
