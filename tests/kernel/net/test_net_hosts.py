"""Jobs find each other by name: real resolver, real files, seen through a bind of the owner's folder."""

from __future__ import annotations

import os
import subprocess

import anyio
from netlab import Job, Lab

from netbridge.network import Network


def resolve(folder: str, job: Job, name: str) -> str:
    """The address that a program in the job gets, or ""; `folder` is bound as the container does it, ahead of time."""
    script = 'mount --bind "$1/hosts" /etc/hosts && exec getent ahostsv4 "$2"'
    with job.space.within():
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", folder, name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.stdout else ""


def test_names_follow_who_is_there(lab: Lab) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        folder = network.hosts_dir(1000)  # what a launch binds, before anything is attached
        held = os.open(folder, os.O_RDONLY)
        seen = f"/proc/{os.getpid()}/fd/{held}"
        web, db = await lab.job(network, name="web"), await lab.job(network, name="db")
        stranger = await lab.job(network, owner=1001, name="secret")
        assert resolve(seen, web, "db") == db.address
        assert resolve(seen, db, "job-1") == web.address
        assert resolve(seen, db, "localhost") == "127.0.0.1"
        assert resolve(seen, web, "secret") == ""
        assert resolve(network.hosts_dir(1001), stranger, "secret") == stranger.address
        second = await lab.job(network, name="db")
        assert resolve(seen, web, "db") == db.address  # the oldest answers
        await network.detach(db.attachment)
        assert resolve(seen, web, "db") == second.address
        await network.detach(second.attachment)
        assert resolve(seen, web, "db") == ""
        os.close(held)
        await network.stop()

    anyio.run(main)
