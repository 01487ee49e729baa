"""A DAG of 200 jobs and an array of 1,000 on the real daemon, and what the journal says of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from installation import Installation

from jobs.client import Client

SMALL = '[defaults.resources]\ncpus = 0.02\nmemory = "16MiB"\nswap = "0"\n[defaults.network]\nmode = "none"\n'
LAYERS, WIDTH = 10, 20
PATIENCE_S = 1800.0  # on a machine with other things to do
ARRAY = """
name = "thousand"
script = 'echo "$JOBS_ARRAY_ID $JOBS_ARRAY_INDEX $JOBS_ARRAY_SIZE"; [ $JOBS_ARRAY_INDEX != 666 ]'
array = "0-999%50"
resources = { cpus = 0.02, memory = "16MiB" }
network.mode = "none"
"""


def dag() -> str:
    """Layers of jobs, each after two of the layer before."""
    text = f'[defaults]\ncommand = ["true"]\n{SMALL}'
    for layer in reversed(range(LAYERS)):  # the file's order is not the order of running
        for place in range(WIDTH):
            text += f'[[job]]\nname = "j{layer}-{place}"\n'
            if layer:
                before = [f"j{layer - 1}-{place}", f"j{layer - 1}-{(place + 1) % WIDTH}"]
                text += f"depends.afterok = {before}\n"
    return text


def journal(site: Installation) -> list[dict[str, Any]]:
    client = Client(f"{site.settings['run_dir']}/jobsd.sock")
    return [json.loads(line) for line in b"".join(client.events()).splitlines()]


def test_a_dag_of_200_jobs(site: Installation) -> None:
    file = site.folder / "dag.toml"
    file.write_text(dag())
    accepted = json.loads(site.cli("submit", "--json", str(file)).stdout)
    jobs = {item["name"]: item["job"] for item in accepted}
    assert len(jobs) == LAYERS * WIDTH
    site.cli("wait", "--quiet", *(str(jobs[f"j{LAYERS - 1}-{place}"]) for place in range(WIDTH)), timeout=PATIENCE_S)
    begun, ended = {}, {}
    for number, event in enumerate(journal(site)):
        if event["kind"] == "placed":
            assert event["job"] not in begun, "placed twice"
            begun[event["job"]] = number
        if event["kind"] == "exited":
            assert event["status"] == 0
            ended[event["job"]] = number
    assert set(begun) == set(ended) == set(jobs.values())
    for layer in range(1, LAYERS):
        for place in range(WIDTH):
            for before in (place, (place + 1) % WIDTH):
                assert ended[jobs[f"j{layer - 1}-{before}"]] < begun[jobs[f"j{layer}-{place}"]]


def test_an_array_of_1000_tasks_50_at_once(site: Installation) -> None:
    array = site.submit(ARRAY)
    status = site.cli("wait", str(array), check=False, timeout=PATIENCE_S)
    assert status.returncode == 1, "that of the task that failed"
    assert "see which with: jobsctl list --state failed" in status.stderr
    assert "999 of 1000 tasks completed, 1 not completed" in status.stderr
    live, most, begun, ended = 0, 0, Counter[int](), Counter[int]()
    tasks = {}
    for event in journal(site):
        if event["job"] != array:
            continue
        if event["kind"] == "task_begun":
            live, tasks[event["index"]] = live + 1, event["task"]
            begun[event["index"]] += 1
        if event["kind"] == "task_ended":
            live -= 1
            ended[event["index"]] += 1
            assert event["good"] == (event["index"] != 666)
        most = max(most, live)
    assert begun == ended == Counter(range(1000))
    assert most <= 50, "as the journal has it"
    assert most == 50, "and so many did run side by side"
    client = Client(f"{site.settings['run_dir']}/jobsd.sock")
    printed = {index: b"".join(client.logs(task, "stdout")[1]).decode() for index, task in tasks.items()}
    assert printed == {index: f"{array} {index} 1000\n" for index in range(1000)}
    assert client.job(f"{array}_666").state == "failed"
