"""The story that scripts/demo tells; started by it. Everything goes through the command line, as a user would do it.

Nothing is believed unseen: results are compared with what must come out, and the host with what it was before.
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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
sys.path.insert(0, str(ROOT / "tests"))
import leaks  # noqa: E402  the picture that the leak check of the tests takes

from jobs.units import render_duration, render_size  # noqa: E402

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
Job = dict[str, Any]


def title(text: str) -> None:
    print(f"\n\033[1m── {text}\033[0m" if COLOUR else f"\n── {text}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


class Failed(Exception):
    """The demo saw something that must not be."""


# ── the product, on a folder of its own ────────────────────────────────────────────────────────────────────────────


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = {
            "STATE_DIR": str(folder / "state"), "RUN_DIR": str(folder / "run"), "CGROUP_ROOT": "jobs-demo",
            "BRIDGE": "jobsdemo0", "NFT_TABLE": "jobs_demo", "SUBNET": "10.214.0.0/16",
        }  # fmt: skip
        clean = {key: value for key, value in os.environ.items() if not key.startswith("JOBS_")}
        self.environ = {**clean, **{f"JOBS_{key}": value for key, value in settings.items()},
                        "JOBS_SOCKET": f"{folder}/run/jobsd.sock"}  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._spawn("jobsd", "launcher")
        self._spawn("jobsd")
        until("jobsd answers", lambda: self._dead() or self.command("list", check=False).returncode == 0)
        if self._dead():
            raise Failed("jobsd or its launcher ended at once; their logs are above")

    def _dead(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def _spawn(self, *argv: str) -> None:
        with open(self.folder / f"{argv[-1]}.log", "wb") as log:
            self.processes.append(
                subprocess.Popen([BIN / argv[0], *argv[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env=self.environ, cwd="/", start_new_session=True)
            )  # fmt: skip

    def command(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([BIN / "jobsctl", *argv], capture_output=True, text=True, env=self.environ,
                              stdin=subprocess.DEVNULL, cwd=ROOT, check=False)  # fmt: skip
        if check and done.returncode:
            raise Failed(f"jobs {' '.join(argv)}: exit status {done.returncode}\n{done.stderr.strip()}")
        return done

    def submit(self, *files: str, sets: tuple[str, ...] = ()) -> list[int]:
        options = [word for item in sets for word in ("--set", item)]
        shown = " ".join(files + tuple(options))
        say(f"$ jobs submit {shown}")
        accepted = json.loads(self.command("submit", "--json", *options, *files).stdout)
        return [int(item["job"]) for item in accepted]

    def do(self, *argv: str) -> None:
        say(f"$ jobs {' '.join(argv)}")
        self.command(*argv)

    def jobs(self) -> list[Job]:
        found: list[Job] = json.loads(self.command("list", "--all", "--json").stdout)
        return found

    def job(self, number: int) -> Job:
        return next(job for job in self.jobs() if job["job"] == number)

    def output(self, job: int) -> str:
        return self.command("logs", str(job)).stdout

    def stop(self) -> None:
        """Whatever still runs is cancelled; then the daemon, then the launcher."""
        running = self.processes and not self._dead()
        for job in self.jobs() if running else ():
            if not job["final"]:
                self.command("cancel", "--kill", str(job["job"]), check=False)
        if running:
            until("all jobs are cleaned up", lambda: all(job["final"] and job["cleaned"] for job in self.jobs()))
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)
        self.processes.clear()

    def logs(self) -> str:
        parts = [f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")]
        return "\n".join(parts)


def until(what: str, ready: Callable[[], bool], deadline_s: float = 90) -> None:
    end = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > end:
            raise Failed(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.1)


# ── live progress ──────────────────────────────────────────────────────────────────────────────────────────────────

COLUMNS = "{:>4} {:<16} {:<10} {:>8} {:>9} {:>10} {:>10}  {}"
HEAD = COLUMNS.format("job", "name", "state", "elapsed", "cpu", "memory", "output", "cpus")


def row(job: Job) -> str:
    usage = job["usage"]
    written = usage.get("stdout_bytes", 0) + usage.get("stderr_bytes", 0)
    place = ",".join(map(str, job["cpus"])) if job["state"] in ("running", "starting") else "; ".join(job["waits_for"])
    return COLUMNS.format(
        job["job"], job["name"], job["state"], render_duration(job["ran_s"]), f"{usage.get('cpu_s', 0):.2f} s",
        render_size(usage.get("memory_bytes", 0)), render_size(written), place[:50],
    ).rstrip()  # fmt: skip


def follow(site: Site, done: Callable[[list[Job]], bool], what: str, deadline_s: float = 300) -> list[Job]:
    """A table that is drawn over itself on a terminal; elsewhere a line for each change of state and every 2 s."""
    drawn, said, end = 0, {}, time.monotonic() + deadline_s
    print(HEAD, flush=True)
    while True:
        jobs = site.jobs()
        if COLOUR:
            print(f"\033[{drawn}A" * bool(drawn) + "".join(f"\033[K{row(job)}\n" for job in jobs), end="", flush=True)
            drawn = len(jobs)
        for job in () if COLOUR else jobs:
            last_state, last_at = said.get(job["job"], ("", 0.0))
            quiet = job["final"] or job["state"] == "queued" or time.monotonic() - last_at < 2
            if job["state"] != last_state or not quiet:
                print(row(job), flush=True)
                said[job["job"]] = (job["state"], time.monotonic())
        if done(jobs):
            return jobs
        if time.monotonic() > end:
            raise Failed(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.3)


# ── the chapters ───────────────────────────────────────────────────────────────────────────────────────────────────


def run_examples(site: Site) -> dict[str, int]:
    """name → job, when all have ended."""
    cpus = min(2, len(os.sched_getaffinity(0)))
    title(f"A job of {cpus} CPUs computes for a while")
    (numeric,) = site.submit("examples/numeric/numeric.toml", sets=(f"resources.cpus={cpus}",))
    follow(site, lambda jobs: jobs[0]["final"] or jobs[0]["usage"]["cpu_s"] > 1.5, "the job computes")

    title("More jobs queue up: those CPUs are taken")
    site.submit("examples/hello.toml", "examples/compress.toml", "examples/compile/compile.toml",
                "examples/inspect/inspect.toml", "examples/pipeline-net/server.toml",
                "examples/pipeline-net/client.toml")  # fmt: skip

    title("Freeze the first one: its CPUs go to the others, its memory stays")
    freeze_and_look(site, numeric)

    title("The others run on them")
    follow(site, lambda jobs: all(job["final"] for job in jobs if job["job"] != numeric), "the others end")

    title("Change its priority while it is frozen, then thaw it")
    site.do("priority", "--urgency", "90", "--cpu-weight", "500", "--network", "background", str(numeric))
    changed = site.job(numeric)
    say(f"state {changed['state']}, urgency {changed['urgency']}, CPU weight {changed['cpu_weight']}, "
        f"network {changed['network_class']}")  # fmt: skip
    expect("it is still frozen, with the new priorities",
           (changed["state"], changed["urgency"], changed["cpu_weight"], changed["network_class"]),
           ("frozen", 90, 500, "background"))  # fmt: skip
    site.do("resume", str(numeric))
    follow(site, lambda jobs: all(job["final"] and job["cleaned"] for job in jobs), "all end")
    return {job["name"]: job["job"] for job in site.jobs()}


def freeze_and_look(site: Site, job: int) -> None:
    site.do("pause", "--wait", str(job))
    first = site.job(job)
    say(f"state {first['state']} (freezer {first['freezer']}), CPU counter {first['usage']['cpu_s']:.6f} s")
    time.sleep(2)
    second = site.job(job)
    say(f"two seconds later:        CPU counter {second['usage']['cpu_s']:.6f} s")
    expect("it is frozen", (first["state"], second["state"]), ("frozen", "frozen"))
    expect("its CPU counter stands still", second["usage"]["cpu_s"], first["usage"]["cpu_s"])


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Failed(f"{what}: {found!r}, expected {wanted!r}")
    say(f"checked: {what}")


RESULTS = {
    "numeric": ("steps of all sequences below 1000000: 131434272\n",),
    "hello": ("hello from a job\n",),
    "compress": ("compared: identical\n",),
    "compile": ("compiled: 3 files", "8 queens: 92 solutions\n"),
    "inspect": ("── namespaces ──", "NoNewPrivs:\t1", "Seccomp:\t2"),
    "pipeline-server": (f"received {256 << 20} bytes",),
    "pipeline-client": ("connected to pipeline-server", "checksums agree\n"),
}


def check_results(site: Site, numbers: dict[str, int]) -> None:
    title("The results")
    for name, lines in RESULTS.items():
        job, printed = site.job(numbers[name]), site.output(numbers[name])
        if (job["state"], job["exit_status"]) != ("completed", 0):
            raise Failed(f"{name}: {job['state']}, exit status {job['exit_status']}: {job['reason']}\n{printed[-2000:]}"
                         f"\n{site.command('logs', '--stderr', str(job['job'])).stdout[-2000:]}")  # fmt: skip
        for line in lines:
            if line not in printed:
                raise Failed(f"{name} did not print {line!r}:\n{printed[-2000:]}")
        say(f"{name}: {printed.splitlines()[-1] if name != 'inspect' else f'{len(printed.splitlines())} lines'}")
    throughput = next(line for line in site.output(numbers["pipeline-client"]).splitlines() if line.startswith("sent"))
    say(f"over the bridge: {throughput}")


def account(jobs: list[Job]) -> None:
    title("Accounting")
    columns = "{:>4} {:<16} {:<10} {:>4} {:>8} {:>8} {:>9} {:>10} {:>10} {:>7}"
    print(columns.format("job", "name", "state", "exit", "waited", "ran", "cpu", "peak mem", "output", "freezes"))
    for job in jobs:
        usage = job["usage"]
        print(columns.format(
            job["job"], job["name"], job["state"], str(job["exit_status"]),
            render_duration(max(0.0, job["started_at"] - job["submitted_at"])), render_duration(job["ran_s"]),
            f"{usage['cpu_s']:.2f} s", render_size(usage["memory_peak_bytes"]),
            render_size(usage["stdout_bytes"] + usage["stderr_bytes"]), job["freezes"],
        ), flush=True)  # fmt: skip


# ── before and after ───────────────────────────────────────────────────────────────────────────────────────────────


def picture(run_id: str) -> leaks.Picture:
    """What the leak check sees, every namespace that has a process, and every sysctl of the network."""
    taken = leaks.take(run_id)
    namespaces = {
        target
        for place in Path("/proc").glob("[0-9]*/ns/*")
        if not place.name.endswith("_for_children") and (target := _link(place))
    }
    sysctls = [f"{path}={text}" for path in _sysctls() if (text := _text(path))]
    return leaks.Picture({**taken.things, "namespace": Counter(namespaces), "sysctl": Counter(sysctls)})


def _sysctls() -> Iterator[Path]:
    moving = ("nf_conntrack_count", "stat", "route/flush", "tcp_fastopen_key", "random")
    for folder, _, names in os.walk("/proc/sys/net"):  # passes over what vanishes meanwhile
        paths = (Path(folder, name) for name in names)
        yield from (path for path in paths if not any(word in str(path) for word in moving))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip().replace("\n", " ")
    except (OSError, UnicodeDecodeError):
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


ROWS = {
    "netns": "named netns", "process": "processes of ours", "descriptor": "descriptors of ours",
    "sysctl": "sysctls of the network",
}  # fmt: skip


def compare(before: leaks.Picture, run_id: str) -> None:
    title("The host, before and after")
    until_same(before, run_id)
    after = picture(run_id)
    # A kernel module that loads itself brings sysctls of its own: those are new, not changed.
    known = {item.partition("=")[0] for item in before.things["sysctl"]}
    left = [item for item in after.left(before) if not _new_sysctl(item, known)]
    gone = [item for item in before.left(after) if item.startswith(("link ", "mount ", "nft table ", "loop device "))]
    print(f"   {'':<22} {'before':>7} {'after':>7}")
    for kind, things in before.things.items():
        now = after.things.get(kind, Counter())
        shown = sum(1 for item in now.elements() if kind != "sysctl" or item.partition("=")[0] in known)
        print(f"   {ROWS.get(kind, kind + 's'):<22} {things.total():>7} {shown:>7}")
    if left or gone:
        changes = "\n".join([f"  + {item}" for item in left] + [f"  - {item}" for item in gone])
        raise Failed(f"not as it was (or something else makes links and containers here just now):\n{changes}")
    say("nothing is left: no mount, link, namespace, cgroup, nft table, loop device, process; no sysctl differs")


def until_same(before: leaks.Picture, run_id: str) -> None:
    """Namespaces and their links die a moment after the last process in them."""
    end = time.monotonic() + 20
    while picture(run_id).left(before) and time.monotonic() < end:
        time.sleep(0.2)


def _new_sysctl(item: str, known: set[str]) -> bool:
    return item.startswith("sysctl ") and item.removeprefix("sysctl ").partition("=")[0] not in known


@contextmanager
def site_of_its_own() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="jobs-demo-", dir="/var/tmp"))
    folder.chmod(0o711)
    site = Site(folder)
    try:
        yield site
    except BaseException:
        print(site.logs(), file=sys.stderr)
        raise
    finally:
        try:
            site.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def tell() -> None:
    run_id = os.urandom(8).hex()
    before = picture(run_id)
    os.environ[leaks.RUN_MARK] = run_id
    with site_of_its_own() as site:
        title(f"jobsd and its launcher start in {site.folder}")
        site.start()
        numbers = run_examples(site)
        check_results(site, numbers)
        account(site.jobs())
        title("Stop")
        site.stop()
    compare(before, run_id)


def main() -> int:
    try:
        tell()
    except Failed as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    print("\ndemo: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
