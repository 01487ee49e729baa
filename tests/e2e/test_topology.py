"""`jobs topology` beside a real daemon: the same CPUs and bytes as the kernel and the journal say."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from installation import Installation

SMALL = '[resources]\ncpus = 1\nmemory = "64MiB"\n'


def test_a_running_and_a_frozen_job_are_drawn_where_they_are(site: Installation) -> None:
    job = site.run_script("exec sleep 1000", SMALL)
    site.until(job, "running")
    (cpu,) = site.show(job)["cpus"]
    machine = json.loads(site.cli("topology", "--json").stdout)
    (placed,) = machine["placed"]
    assert (placed["job"], placed["state"], placed["cpus"]) == (job, "running", [cpu])
    assert sum(size for _, size in placed["memory"]) == 64 << 20
    assert sum(node["given_bytes"] for node in machine["memory"]) == 64 << 20
    assert any(line.startswith("a  job ") and f"CPUs {cpu};" in line for line in drawn(site)), drawn(site)

    site.cli("pause", str(job))
    site.until(job, "frozen")
    assert any(line.startswith("A  job ") and "no CPUs" in line for line in drawn(site)), drawn(site)
    picture = site.folder / "host.svg"
    assert site.cli("topology", "--svg", str(picture)).returncode == 0
    assert "url(#frozen)" in picture.read_text() and ElementTree.parse(picture).getroot() is not None

    site.cli("cancel", "--kill", str(job))
    site.wait(job)
    assert json.loads(site.cli("topology", "--json").stdout)["placed"] == []


def drawn(site: Installation) -> list[str]:
    return site.cli("topology").stdout.splitlines()
