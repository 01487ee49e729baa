"""A whole installation of the product on a folder of its own: launcher, daemon and CLI as a user would start them.

Every name that the kernel sees (cgroup root, bridge, nft table, subnet) belongs to this installation alone, so several
can live side by side and beside the real one. Processes are ended by the pid we started, never by name.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from patience import SLOWNESS

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MOST_S = 120 * SLOWNESS

# The CLI as another user, who may not be able to read the interpreter's folder: everything is imported before.
AS_USER = """
import os, pkgutil, sys, importlib, encodings.idna, jobs.cli
for module in pkgutil.walk_packages(jobs.cli.__path__, "jobs.cli."):
    importlib.import_module(module.name)
user = int(sys.argv.pop(1))
os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
sys.argv[0] = "jobsctl"
sys.exit(importlib.import_module("jobs.cli.main").main())
"""


class Installation:
    """`with Installation() as site: site.cli("submit", …)`. Settings are given as JOBS_… variables."""

    count = 0

    def __init__(self, **settings: str) -> None:
        Installation.count += 1
        tag = f"{os.getpid() % 10000}{Installation.count % 36:x}"
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-e2e-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.settings = {
            "state_dir": str(self.folder / "state"),
            "run_dir": str(self.folder / "run"),
            "cgroup_root": f"jobs-e2e-{tag}",
            "bridge": f"jbe{tag}",
            "nft_table": f"jobs_e2e_{tag}",
            "subnet": f"10.{220 + Installation.count % 20}.{os.getpid() % 250}.0/24",
            **settings,
        }
        self.launcher: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("JOBS_")}
        ours = {f"JOBS_{key.upper()}": value for key, value in self.settings.items()}
        return {**clean, **ours, "JOBS_SOCKET": f"{self.settings['run_dir']}/jobsd.sock", **(extra or {})}

    def start_launcher(self, extra: Mapping[str, str] | None = None) -> None:
        self.launcher = self._spawn([str(BIN / "jobsd"), "launcher"], "launcher", extra)

    def start_daemon(self, extra: Mapping[str, str] | None = None) -> None:
        self.daemon = self._spawn([str(BIN / "jobsd")], "jobsd", extra)

    def _spawn(self, argv: list[str], name: str, extra: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(extra), cwd="/",
                start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, deadline_s: float = MOST_S) -> None:
        """Until the daemon answers."""

        def answers() -> bool:
            assert self.daemon is not None
            assert self.daemon.poll() is None, f"the daemon has ended\n{self.logs()}"
            return self.cli("list", check=False).returncode == 0

        wait_for(answers, deadline_s, self.logs)

    def kill_daemon(self) -> None:
        self._end(self.daemon, signal.SIGKILL)
        self.daemon = None

    def kill_launcher(self) -> None:
        self._end(self.launcher, signal.SIGKILL)
        self.launcher = None

    def stop(self) -> None:
        """Cancels what runs, then ends daemon and launcher in order: nothing may be left."""
        if self.daemon is not None and self.daemon.poll() is None:
            for job in self.jobs():
                if not job["final"]:
                    self.cli("cancel", "--kill", str(job["job"]), check=False)
            wait_for(lambda: all(job["final"] and job["cleaned"] for job in self.jobs()), MOST_S, self.logs)
        self._end(self.daemon, signal.SIGTERM)
        self._end(self.launcher, signal.SIGTERM)
        self.daemon = self.launcher = None

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None, number: int) -> None:
        if process is not None:
            process.send_signal(number)
            process.wait(timeout=60)

    def logs(self) -> str:
        """The end of both logs, for messages of failed tests."""
        parts = []
        for name in ("launcher", "jobsd"):
            path = self.folder / f"{name}.log"
            if path.exists():
                parts.append(f"── {name}.log\n" + path.read_text(errors="replace")[-6000:])
        return "\n".join(parts)

    def __enter__(self) -> Installation:
        self.start_launcher()
        self.start_daemon()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            for process in (self.daemon, self.launcher):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    # ── the CLI ─────────────────────────────────────────────────────────────────────────────────────────────────

    def cli(
        self, *args: str, check: bool = True, input: str | None = None, cwd: str | Path | None = None,
        user: int | None = None, timeout: float = MOST_S,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        program = [str(BIN / "jobsctl")] if user is None else [sys.executable, "-c", AS_USER, str(user)]
        done = subprocess.run(
            [*program, *args],
            capture_output=True,
            text=True,
            env=self.environment(),
            input=input,
            cwd=cwd or ROOT,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"jobsctl {' '.join(args)} exited {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
            )
        return done

    def submit(self, toml: str, *flags: str, **options: Any) -> int:
        """The id of one job given as TOML text."""
        done = self.cli("submit", "--json", *flags, "-", input=toml, **options)
        return int(json.loads(done.stdout)[0]["job"])

    def run_script(self, script: str, toml: str = "", **options: Any) -> int:
        name = "" if "name =" in toml else 'name = "t"\n'
        body = f"{name}script = '''\n{script}\n'''\n{toml}"
        return self.submit(body, **options)

    def wait(self, *jobs: int, timeout: float = MOST_S) -> int:
        """Exit status of `jobs wait`: the job's own."""
        return self.cli("wait", *map(str, jobs), check=False, timeout=timeout).returncode

    def show(self, job: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("show", "--json", str(job)).stdout)
        return found

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.cli("list", "--all", "--json").stdout)
        return found

    def output(self, job: int, *flags: str) -> str:
        return self.cli("logs", *flags, str(job)).stdout

    def until(self, job: int, *states: str, deadline_s: float = MOST_S) -> dict[str, Any]:
        """The job's record once it is in one of the states."""
        wait_for(lambda: self.show(job)["state"] in states, deadline_s, lambda: f"{self.show(job)}\n{self.logs()}")
        return self.show(job)


def wait_for(ready: Callable[[], bool], deadline_s: float, explain: Callable[[], str] | None = None) -> None:
    """Polls a condition of the outside world. Raises AssertionError after the deadline."""
    end = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {deadline_s} s" + (f":\n{explain()}" if explain else ""))
        time.sleep(0.05)


def spec(name: str, command: Sequence[str], **sections: str) -> str:
    """A small TOML text; sections are raw TOML appended as they are."""
    return f"name = {json.dumps(name)}\ncommand = {json.dumps(list(command))}\n" + "\n".join(sections.values())
