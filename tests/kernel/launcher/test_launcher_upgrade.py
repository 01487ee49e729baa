"""SIGHUP: the launcher becomes the one on disk, in the same process, and keeps its children."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from containerlab import DEADLINE_S, Finished, Lab

from jobs.errors import LauncherGone
from jobs.spec import JobSpec
from runtime.client import Launcher

pytestmark = pytest.mark.needs("root", "userns", "netns", "timens", "overlay", "tool.catatonit")
SLEEPER = JobSpec(name="lab", command=("sh", "-c", "echo up; exec sleep 600"))


async def upgraded(lab: Lab, client: Launcher) -> Launcher:
    """A connection to the upgraded launcher."""
    assert lab.process is not None
    lab.process.send_signal(signal.SIGHUP)
    with anyio.fail_after(DEADLINE_S):
        await client.lost.wait()
    return await lab.connect()


def test_running_and_waiting_containers_live_through_it(own_lab: Lab) -> None:
    lab = own_lab
    lab.start()
    assert lab.process is not None
    pid = lab.process.pid

    async def body(client: Launcher) -> tuple[Finished, Finished]:
        async with lab.box(client, SLEEPER) as running, lab.box(client, SLEEPER) as waiting:
            for box in (running, waiting):
                await box.create()
            await running.go()
            await running.until_output("up")
            newer = await upgraded(lab, client)
            assert set(newer.inventory) == {running.id, waiting.id}
            again = await newer.create(running.id, b"never read", ())
            assert again.init_pid == running.init_pid
            os.close(again.monitor_pidfd)
            await newer.go(running.id)  # the first result
            await newer.go(waiting.id)
            await waiting.until_output("up")
            ends = []
            for box in (running, waiting):
                os.kill(box.init_pid, signal.SIGKILL)
                ends.append(await box.ended())
            last = await upgraded(lab, newer)  # twice is no matter
            assert last.inventory == ()
            assert (await last.helper(["true"])).status == 0
            last.close()
            return ends[0], ends[1]

    assert [done.record.status for done in lab.call(body)] == [137, 137]
    assert lab.process.pid == pid
    assert lab.process.poll() is None


def test_it_waits_for_an_errand_and_leaks_nothing(own_lab: Lab, tmp_path: Path) -> None:
    lab = own_lab
    lab.start()
    assert lab.process is not None
    fds = Path(f"/proc/{lab.process.pid}/fd")

    async def body(client: Launcher) -> None:
        before = len(list(fds.iterdir()))
        results = []

        async def errand() -> None:
            script = f"touch {tmp_path}/began; while [ ! -e {tmp_path}/end ]; do sleep 0.01; done; echo done"
            results.append(await client.helper(["sh", "-c", script]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(errand)
            with anyio.fail_after(DEADLINE_S):
                while not (tmp_path / "began").exists():  # noqa: ASYNC110 - another process makes it
                    await anyio.sleep(0.01)
            assert lab.process is not None
            lab.process.send_signal(signal.SIGHUP)
            (tmp_path / "end").touch()
        assert results[0].stdout == b"done\n"
        with anyio.fail_after(DEADLINE_S):
            await client.lost.wait()
        with pytest.raises(LauncherGone):
            await client.helper(["true"])
        newer = await lab.connect()
        assert len(list(fds.iterdir())) == before
        assert lab.process is not None
        children = Path(f"/proc/{lab.process.pid}/task/{lab.process.pid}/children").read_text().split()
        assert not [
            pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        ]
        newer.close()

    lab.call(body)
