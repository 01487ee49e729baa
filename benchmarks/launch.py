#!/usr/bin/env python3
"""A full default container running `true`: this project's node against `runc run` and a bare posix_spawn, side by side.

Ours: from the node's order to start until the exit status is reported: slot, ten cgroup hierarchies with limits,
writable layer, overlay, bridge, exit record on disk. No API and no journal. `cleaned`: until nothing of it is left.
Pools are warm: the next launch begins when they are full again; `cold` is the same without pools. runc: `runc run` of
the same root with its default namespaces (no user namespace, no network, no writable layer), as its users call it.
All take turns, so that all meet the same noise; each has the machine to itself, after PAUSE_S of rest.

    sudo .venv/bin/python benchmarks/launch.py [--runs 300] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.settings import Settings
from jobs import events as ev
from jobs.placement import Placement
from jobs.record import Record
from jobs.spec import Image, JobSpec
from jobs.states import advance
from scheduler.node.host import Host, fill_pools, make_folders, open_host, probe
from scheduler.node.supervisor import Supervisor

PAUSE_S = 0.1  # what the one before left to the kernel (dying groups and namespaces) is no business of the next
BUSYBOX = "/bin/busybox"


def make_root(folder: Path) -> Path:
    """A root of one static program under several names."""
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
        (root / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, root / "bin" / "busybox")
    for name in ("true", "sh", "cat"):
        (root / "bin" / name).symlink_to("busybox")
    return root


class Ours:
    """The node with a launcher of its own, driven as the scheduler loop drives it."""

    def __init__(self, folder: Path, ahead: int) -> None:
        tag = f"{os.getpid() % 100000}"
        self.settings = Settings(
            state_dir=f"{folder}/state", run_dir=f"{folder}/run", cgroup_root=f"jobs-bench-{tag}", bridge=f"jb{tag}",
            nft_table=f"jobs_bench_{tag}", subnet="10.252.0.0/24", slots=ahead, uppers=ahead,
        )  # fmt: skip
        self.number = 0
        self.waiting: dict[str, anyio.Event] = {}
        self.failures: list[str] = []
        self.ended = 0.0

    async def report(self, event: ev.Event) -> None:
        if isinstance(event, ev.StartFailed | ev.Lost) or (isinstance(event, ev.Exited) and event.status != 0):
            self.failures.append(repr(event))
        if isinstance(event, ev.Exited | ev.StartFailed | ev.Lost):
            self.ended = time.perf_counter()
        if isinstance(event, ev.CleanedUp):
            self.waiting.pop(event.execution).set()

    def record(self, host: Host) -> Record:
        self.number += 1
        spec = JobSpec(name="true", command=("/bin/true",), image=Image("bench"))
        placement = Placement(host.node_id, (self.number % len(host.topology.cpus),), (0,), True, 0.0, 1 << 30)
        queued = advance(None, ev.Submitted(self.number, spec, ev.Owner(0, 0), time.time()))
        return advance(queued, ev.Placed(self.number, f"{self.number}.0.1", placement, time.time()))

    async def launch(self, host: Host, node: Supervisor) -> tuple[float, float]:
        """Milliseconds until the status is known, and until nothing is left."""
        record = self.record(host)
        done = self.waiting[str(record.execution)] = anyio.Event()
        began = time.perf_counter()
        node.start(record)
        await done.wait()
        return (self.ended - began) * 1000, (time.perf_counter() - began) * 1000


def runc_bundle(folder: Path, root: Path) -> Path:
    bundle = folder / "bundle"
    bundle.mkdir()
    subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(args=["/bin/true"], terminal=False)
    config["root"] = {"path": str(root), "readonly": True}
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def spawn(argv: list[str]) -> float:
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, 0, 0)])
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"{argv} failed with status {status}")
    return (time.perf_counter() - began) * 1000


async def measure(
    runs: int, folder: Path, ahead: int, others: dict[str, Callable[[], float]], root: Path
) -> dict[str, list[float]]:
    ours = Ours(folder, ahead)
    make_folders(ours.settings)
    jobsd = str(Path(sys.executable).parent / "jobsd")
    environment = {**os.environ, "JOBS_STATE_DIR": ours.settings.state_dir, "JOBS_RUN_DIR": ours.settings.run_dir}
    launcher = subprocess.Popen([jobsd, "launcher"], env=environment, start_new_session=True)
    figures: dict[str, list[float]] = {"ours": [], "cleaned": [], **{name: [] for name in others}}
    try:
        caps, seen = probe(ours.settings)
        async with anyio.create_task_group() as tasks:
            async with open_host(ours.settings, caps, seen, ours.report, tasks) as host:
                fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
                await host.images.import_("bench", fd, kind="dir", owner=ev.Owner(0, 0), archive=str(root))
                os.close(fd)
                node = Supervisor(host, tasks)
                await fill_pools(host, tasks)
                await anyio.sleep(0)  # let them begin
                await ours.launch(host, node)
                for _ in range(runs):
                    while ahead and not (host.slots.full and host.uppers.full):
                        await anyio.sleep(0.002)
                    await anyio.sleep(PAUSE_S)
                    known, cleaned = await ours.launch(host, node)
                    figures["ours"].append(known)
                    figures["cleaned"].append(cleaned)
                    for name, other in others.items():
                        await anyio.sleep(PAUSE_S)
                        figures[name].append(other())
                tasks.cancel_scope.cancel()
    finally:
        launcher.terminate()
        launcher.wait()
    if ours.failures:
        raise SystemExit(f"launches failed: {ours.failures[:3]}")
    return figures


def summary(figures: list[float]) -> dict[str, float]:
    ordered = sorted(figures)
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "per_s": round(1000 * len(ordered) / sum(ordered), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: it makes containers")
    for program, package in ((BUSYBOX, "busybox-static"), ("/usr/sbin/runc", "runc")):
        if not os.path.exists(program):
            raise SystemExit(f"{program} is missing; install the package {package}")
    folder = Path(tempfile.mkdtemp(prefix="jobs-bench-", dir="/var/tmp"))
    try:
        root = make_root(folder)
        bundle = runc_bundle(folder, root)
        others = {
            "runc": lambda: spawn(["/usr/sbin/runc", "run", "--bundle", str(bundle), f"runc-bench-{os.getpid()}"]),
            "posix_spawn": lambda: spawn(["/bin/true"]),
        }
        warm = anyio.run(measure, options.runs, folder / "warm", 4, others, root)
        cold = anyio.run(measure, max(10, options.runs // 10), folder / "cold", 0, {}, root)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {name: summary(figures) for name, figures in warm.items()} | {"cold": summary(cold["ours"])}
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.runs} × true, one at a time, kernel {os.uname().release}, {os.cpu_count()} CPUs")
    print(f"{'':<14}{'p50 ms':>10}{'p99 ms':>10}{'per s':>10}{'× ours':>10}")
    for name, row in result.items():
        ratio = row["p50_ms"] / result["ours"]["p50_ms"]
        print(f"{name:<14}{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}{row['per_s']:>10.1f}{ratio:>10.2f}")


if __name__ == "__main__":
    main()
