"""`jobs run` where no daemon answers: a launcher and a daemon of its own for that one command, on a folder of its own.

Not the daemon: a small parent that starts the ordinary programs, waits for the CLI, and takes everything down again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from config.settings import Settings, load
from jobs.client import Client
from jobs.errors import HostError, JobsError
from jobs.protocol import Cancel
from runtime import launcher
from scheduler.doctor import command
from scheduler.doctor.finding import JOBS, JOBSD, LAUNCHER

START_S = 180.0  # of patience: a busy or emulated machine takes its time
END_S = 60.0


def become_launcher(settings: Settings) -> NoReturn:
    """`jobsd launcher`: this process becomes the launcher, with its exact command line. Raises Unsupported."""
    command.refuse(settings, LAUNCHER)
    argv = _launcher(settings)
    os.execv(argv[0], argv)


def _launcher(settings: Settings) -> list[str]:
    """Its command line, with the folders that it needs made."""
    os.makedirs(settings.run_dir, exist_ok=True)
    os.chmod(settings.run_dir, 0o711)  # noqa: S103 - everybody may reach the socket in it
    os.makedirs(f"{settings.state_dir}/spool", mode=0o700, exist_ok=True)
    os.chmod(settings.state_dir, 0o700)
    return launcher.command(settings.state_dir, settings.run_dir)


def run(arguments: Sequence[str]) -> int:
    """Exit status of `jobs run`. `arguments` go to it as they are. Raises HostError."""
    if os.geteuid() != 0:
        raise HostError(
            "no jobsd answers, and one for this command alone needs root",
            hint="start the daemon (systemctl start jobsd), or: sudo jobs run …",
        )
    with instance() as environment, _interrupts_are_the_clis():
        # The CLI's own status is the job's.
        return subprocess.run([_beside("jobsctl"), "run", *arguments], env=environment, check=False).returncode


@contextlib.contextmanager
def instance() -> Iterator[dict[str, str]]:
    """The environment in which our programs reach a daemon of their own. It and its folder end with the block."""
    folder = tempfile.mkdtemp(prefix="jobs-run-", dir="/var/tmp")
    os.chmod(folder, 0o711)  # noqa: S103
    environment = _environment(folder)
    launched = daemon = None
    try:
        settings = load(environ=environment)
        command.refuse(settings, JOBSD, LAUNCHER, JOBS)
        launched = _start(_launcher(settings), environment, f"{folder}/launcher.log")
        daemon = _start_daemon(folder, environment)
        yield environment
    finally:
        if daemon is not None:
            end_all_jobs(environment["JOBS_SOCKET"])
        for process in (daemon, launched):
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: str) -> dict[str, str]:
    """Every name the kernel sees is this instance's own, so that it can live beside others."""
    pid = os.getpid()
    ours = {
        "JOBS_STATE_DIR": f"{folder}/state",
        "JOBS_RUN_DIR": f"{folder}/run",
        "JOBS_CGROUP_ROOT": f"jobs-run-{pid}",
        "JOBS_BRIDGE": f"jr{pid % 10**7}",
        "JOBS_NFT_TABLE": f"jobs_run_{pid}",
        "JOBS_SUBNET": f"10.214.{pid % 256}.0/24",
        "JOBS_SLOTS": "1",
        "JOBS_UPPERS": "1",
        "JOBS_SOCKET": f"{folder}/run/jobsd.sock",
    }
    return {**os.environ, **ours}


def _beside(name: str) -> str:
    """The program of the same installation."""
    path = os.path.join(os.path.dirname(sys.argv[0]) or ".", name)
    return path if os.access(path, os.X_OK) else os.path.join(os.path.dirname(sys.executable), name)


def _start(argv: list[str], environment: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
    with open(log, "ab") as file:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def _start_daemon(folder: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Returns when it serves. Raises HostError with the end of its log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(f"{folder}/notify")
        ready.settimeout(0.1)
        log = f"{folder}/jobsd.log"
        daemon = _start([_beside("jobsd")], {**environment, "NOTIFY_SOCKET": f"{folder}/notify"}, log)
        end = time.monotonic() + START_S
        while time.monotonic() < end and daemon.poll() is None:
            with contextlib.suppress(TimeoutError):
                if ready.recv(64) == b"READY=1":
                    return daemon
    late = f"; it was not ready within {START_S:g} s" if daemon.poll() is None else ""
    _end(daemon)
    with open(log, errors="replace") as file:
        raise HostError(f"the daemon for this command did not start{late}", hint=file.read()[-2000:].strip())


@contextlib.contextmanager
def _interrupts_are_the_clis() -> Iterator[None]:
    """Ctrl-C reaches the whole foreground group; the CLI decides what it means, we wait for it. SIGTERM and SIGHUP end
    the command, and with it all that it started."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: end, signal.SIGHUP: end}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}  # no SIG_IGN: execve
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_all_jobs(path: str) -> None:
    """Kills the jobs of everybody and waits until nothing is left of them; for a daemon that goes for good.

    Also what scripts/install --remove calls. A daemon that does not answer is passed over.
    """
    with contextlib.suppress(JobsError):
        client = Client(path)
        for job in client.jobs(everyone="true").jobs:
            if not job.final:
                client.cancel(job.job, Cancel("KILL", 0.0))
        end = time.monotonic() + END_S
        while time.monotonic() < end and not all(job.cleaned for job in client.jobs(everyone="true").jobs):
            time.sleep(0.02)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.terminate()
        process.wait()
