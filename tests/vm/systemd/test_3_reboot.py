"""`systemctl reboot` with jobs, in order: what ran is lost or runs again; nothing of the old boot is believed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import services
from services import jobsctl, run

PLAN = Path("/var/lib/jobs-vm/before-reboot.json")  # job ids of the boot before


@pytest.mark.needs("systemd", "boot.1")
def test_reboot_is_asked_for_with_jobs_in_every_state() -> None:
    done = services.submit('name = "done"\ncommand = ["echo", "kept"]\n[resources]\ncpus = 0.1\nmemory = "64MiB"\n')
    services.until_state(done, "completed")
    running = services.start_counting("lost")
    again = services.start_counting("again", 'on_lost = "requeue"')
    frozen = services.start_counting("ice")
    services.pause(frozen)
    held = services.submit((services.ROOT / "examples/hello.toml").read_text(), hold=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    plan = {"done": done, "running": running, "again": again, "frozen": frozen, "held": held}
    PLAN.write_text(json.dumps({**plan, "boot": boot, "at": time.time()}))
    services.BOOT_AGAIN.touch()


@pytest.mark.needs("systemd", "boot.2")
class TestAfterReboot:
    def plan(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(PLAN.read_text())
        return found

    def test_after_it_the_services_are_up_by_themselves(self) -> None:
        assert Path("/proc/sys/kernel/random/boot_id").read_text() != self.plan()["boot"]
        services.until_all_active()

    def test_after_it_finished_jobs_are_as_they_were(self) -> None:
        job = self.plan()["done"]
        assert services.show(job)["state"] == "completed"
        assert jobsctl("logs", str(job)) == "kept\n"

    def test_after_it_running_and_frozen_jobs_are_lost(self) -> None:
        for name in ("running", "frozen"):
            record = services.until_state(self.plan()[name], "lost", "failed", "completed", "cancelled")
            assert record["state"] == "lost", record
            assert record["cleaned"], record
        lines = jobsctl("logs", str(self.plan()["running"])).splitlines()
        assert lines == [f"count {number}" for number in range(1, len(lines) + 1)]
        assert lines  # what it had said before is still there

    def test_after_it_a_job_that_wanted_so_runs_again(self) -> None:
        job = self.plan()["again"]
        assert services.until_state(job, "running")["attempt"] == 2
        services.until_it_counts(job)
        services.finish_counting(job, "again")

    def test_after_it_a_held_job_waits_still(self) -> None:
        job = self.plan()["held"]
        assert services.show(job)["state"] == "held"
        jobsctl("release", str(job))
        services.until_state(job, "completed")

    def test_after_it_the_stop_was_in_order(self) -> None:
        """Units went down one after the other, none was killed for being late; the journal of the old boot says so."""
        units = [f"--unit={unit}" for unit in services.UNITS]
        said = run("journalctl", "--no-pager", "--boot=-1", f"--since=@{self.plan()['at']:.0f}", *units)
        assert "Failed" not in said
        assert "timed out" not in said
        order = [said.index(f"Stopped {unit}.service") for unit in ("jobsd", "jobs-launcher", "jobs-cgroup")]
        assert order == sorted(order), said

    def test_after_it_the_services_can_be_removed(self) -> None:
        run(str(services.ROOT / "scripts/install"), "--remove", timeout=900)
        assert not any(Path(f"/etc/systemd/system/{unit}.service").exists() for unit in services.UNITS)
        assert not Path("/usr/local/bin/jobsctl").exists()
        assert not services.GROUP.exists()
        assert "jobs" not in run("ip", "-brief", "link")
        assert "jobs" not in run("nft", "list", "tables")
        assert "/run/jobs" not in Path("/proc/self/mountinfo").read_text()
