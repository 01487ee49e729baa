"""Every file in examples/ runs, and prints what it promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from installation import ROOT, Installation

EXAMPLES = ROOT / "examples"
ALONE = ["hello.toml", "compress.toml", "compile/compile.toml", "numeric/numeric.toml", "inspect/inspect.toml"]
LIVES = ["retry.toml", "checkpoint.toml", "variants.toml"]
SEVERAL = ["sweep.toml", "workflow.toml"]
ENDLESS = ["hang/deadlock.toml"]  # in test_inspect
TOGETHER = ["pipeline-net/server.toml", "pipeline-net/client.toml"]


def submit(site: Installation, *files: str, sets: tuple[str, ...] = (), cwd: Path | None = None) -> list[int]:
    options = [word for item in sets for word in ("--set", item)]
    done = site.cli("submit", "--json", *options, *(str(EXAMPLES / file) for file in files), cwd=cwd)
    return [int(item["job"]) for item in json.loads(done.stdout)]


def output(site: Installation, file: str, *sets: str) -> str:
    (job,) = submit(site, file, sets=sets)
    status = site.wait(job)
    printed = site.output(job)
    assert status == 0, f"{site.show(job)}\n{printed}\n{site.output(job, '--stderr')}\n{site.logs()}"
    assert site.show(job)["state"] == "completed"
    return printed


def test_this_list_is_whole() -> None:
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.toml")}
    assert files == {*ALONE, *LIVES, *SEVERAL, *ENDLESS, *TOGETHER}


def test_hello(site: Installation) -> None:
    assert output(site, "hello.toml") == "hello from a job\n"


def test_compress(site: Installation) -> None:
    printed = output(site, "compress.toml")
    files = sum(1 for _ in Path("/usr/lib/python3").rglob("*")) + 1
    assert f"files:  {files}\n" in printed
    assert "compared: identical\n" in printed
    plain, packed = (int(size) for size in re.findall(r"^p\w+: +(\d+) bytes$", printed, re.MULTILINE))
    assert 0 < packed < plain


def test_a_retry_completes_at_the_third_attempt(site: Installation) -> None:
    assert output(site, "retry.toml") == "attempt 3\n"


def test_checkpoints_go_on_where_they_were(site: Installation, tmp_path: Path) -> None:
    (job,) = submit(site, "checkpoint.toml", cwd=tmp_path)
    assert site.wait(job) == 0
    assert site.show(job)["checkpoints"] >= 1
    assert site.output(job).endswith("counted to 8\n")
    assert list(tmp_path.iterdir()) == []


def test_the_first_variant_that_fits(site: Installation) -> None:
    assert output(site, "variants.toml") == "on the CPU\n"


@pytest.mark.needs("tool.gcc")
def test_compile(site: Installation) -> None:
    printed = output(site, "compile/compile.toml")
    assert "compiled: 3 files" in printed
    assert "8 queens: 92 solutions\n" in printed


@pytest.mark.needs("cpus.2")
def test_numeric(site: Installation) -> None:
    printed = output(site, "numeric/numeric.toml", 'command=["python3", "-u", "/example/collatz.py", "100000"]')
    pinned = re.search(r"^this job has the CPUs (\d+), (\d+)$", printed, re.MULTILINE)
    assert pinned, printed
    for cpu in pinned.groups():
        assert printed.count(f"cpu {cpu}: ") == 20
    assert "steps of all sequences below 100000: 10753712\n" in printed


def test_pipeline_net(site: Installation) -> None:
    server, client = submit(site, *TOGETHER)
    assert site.wait(server, client) == 0, site.output(client, "--stderr") + site.logs()
    printed = site.output(client)
    assert re.search(r"^sent 256 MiB in [\d.]+ s: \d+ MiB/s$", printed, re.MULTILINE)
    assert "checksums agree\n" in printed
    address = site.show(server)["address"]
    assert f"connected to pipeline-server at {address}\n" in printed
    assert f"received {256 << 20} bytes from {site.show(client)['address']}\n" in site.output(server)


def test_inspect(site: Installation) -> None:
    """The job's own words; that each is really so is shown by the kernel tests."""
    printed = output(site, "inspect/inspect.toml")
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        inside = re.search(rf"^{kind}: {kind}:\[(\d+)\]$", printed, re.MULTILINE)
        assert inside, kind
        assert inside[1] not in (Path(f"/proc/self/ns/{kind}").readlink().name), kind
    for capabilities in re.findall(r"^Cap\w+:\s+(\w+)$", printed, re.MULTILINE):
        assert int(capabilities, 16) == 0
    assert re.search(r"^NoNewPrivs:\s+1$", printed, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", printed, re.MULTILINE)
    assert re.search(r"^pid 1: \S*(catatonit|tini|init)", printed, re.MULTILINE)


def test_inspect_in_the_network_of_the_host(site: Installation) -> None:
    printed = output(site, "inspect/inspect.toml", "network.mode=host")
    assert f"net: {Path('/proc/self/ns/net').readlink()}\n" in printed


def test_sweep(site: Installation) -> None:
    (array,) = submit(site, "sweep.toml")
    assert site.wait(array) == 0
    said = site.cli("logs", f"{array}_7").stdout
    assert said == "task 7 of 10: the sum of 1 to 7000 is 24503500\n"


def test_workflow(site: Installation) -> None:
    prepare, work, collect, alarm = submit(site, "workflow.toml")
    assert site.wait(prepare, work, collect) == 0
    assert site.output(collect) == "collected\n" and site.cli("logs", f"{work}_3").stdout == "part 3\n"
    assert site.wait(alarm) == 130
    assert site.show(alarm)["reason"] == f"job {work} (work) completed; it waited for its failure"
