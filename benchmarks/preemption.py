#!/usr/bin/env python3
"""How long short urgent jobs wait on a host full of long ones: with preempt = "freeze" and "never", side by side.

Each CPU has a long job of low urgency; urgent ones arrive in even steps. All compute chains of SHA-256, so that a job
that lost work would end with another digest. A daemon and a launcher of their own for each mode.

    sudo .venv/bin/python benchmarks/preemption.py [--urgent 30] [--over 60] [--long 60] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.client import Client
from jobs.protocol import Job, SpecText
from scheduler.embedded import instance

MODES = ("freeze", "never")
CHAIN = """
import hashlib
digest = b"{seed}"
for _ in range({rounds}):
    digest = hashlib.sha256(digest).digest()
print(digest.hex())
"""


def chain(seed: str, rounds: int) -> str:
    digest = seed.encode()
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def a_job(name: str, rounds: int, priority: int) -> SpecText:
    program = json.dumps(["python3", "-c", CHAIN.format(seed=name, rounds=rounds)])
    text = f'name = "{name}"\npriority = {priority}\ncommand = {program}\n[resources]\ncpus = 1\nmemory = "64MiB"\n'
    return SpecText(text, f"{name}.toml", "/", "/")


def rounds_a_second() -> int:
    began = time.process_time()
    chain("how fast", 200_000)
    return round(200_000 / (time.process_time() - began))


def measure(mode: str, options: argparse.Namespace, speed: int) -> dict[str, Any]:
    long = {f"long-{number}": round(options.long * speed) for number in range(os.cpu_count() or 1)}
    urgent = {f"urgent-{number}": round(options.short * speed) for number in range(options.urgent)}
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.toml")
        policy.write_text(f'[queue.default]\npreempt = "{mode}"\n{options.policy}\n')
        os.environ["JOBS_POLICY_FILE"] = str(policy)
        with instance() as environment:
            client = Client(environment["JOBS_SOCKET"])
            ids = dict(zip(long, client.submit([a_job(name, long[name], 10) for name in long]).jobs, strict=True))
            for job in ids.values():
                client.wait(job, "running", timeout_s=60)
            time.sleep(options.settle)
            began = time.monotonic()
            for number, name in enumerate(urgent):
                time.sleep(max(0.0, began + number * options.over / options.urgent - time.monotonic()))
                ids[name] = client.submit([a_job(name, urgent[name], 90)]).jobs[0]
            ended = {name: ending(client, job) for name, job in ids.items()}
            outputs = {name: b"".join(client.logs(job, "stdout")[1]).decode().strip() for name, job in ids.items()}
    right = sum(outputs[name] == chain(name, rounds) for name, rounds in (long | urgent).items())
    return summary(mode, [ended[name] for name in urgent], [ended[name] for name in long], right)


def ending(client: Client, job: int) -> Job:
    while not (found := client.wait(job, timeout_s=30)).final:
        pass
    return found


def summary(mode: str, urgent: Sequence[Job], long: Sequence[Job], right: int) -> dict[str, Any]:
    waits = sorted(job.started_at - job.submitted_at for job in urgent)
    return {
        "preempt": mode,
        "urgent": len(urgent),
        "wait_s_p50": round(statistics.median(waits), 3),
        "wait_s_p99": round(waits[min(len(waits) - 1, int(0.99 * len(waits)))], 3),
        "wait_s_most": round(waits[-1], 3),
        "freezes": sum(job.freezes for job in long),
        "long_cpu_s": round(sum(job.usage["cpu_s"] for job in long), 2),
        "long_wall_s": round(max(job.ended_at - job.started_at for job in long), 1),
        "results": len(urgent) + len(long),
        "right": right,
        "attempts": max(job.attempt for job in (*urgent, *long)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--urgent", type=int, default=30, help="jobs")
    parser.add_argument("--over", type=float, default=60.0, help="seconds within which they arrive")
    parser.add_argument("--short", type=float, default=0.5, help="seconds of CPU of each")
    parser.add_argument("--long", type=float, default=90.0, help="seconds of CPU of each long job")
    parser.add_argument("--settle", type=float, default=8.0, help="seconds that the long jobs run alone")
    parser.add_argument("--policy", default="", help="more lines of the policy file")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: it makes containers")
    speed = rounds_a_second()
    results = [measure(mode, options, speed) for mode in MODES]
    if wrong := [result for result in results if result["right"] != result["results"]]:
        raise SystemExit(f"wrong results: {wrong}")
    if options.json:
        print(json.dumps(results))
        return
    for name in results[0]:
        print(f"{name:<14}" + "".join(f"{result[name]!s:>12}" for result in results))


if __name__ == "__main__":
    main()
