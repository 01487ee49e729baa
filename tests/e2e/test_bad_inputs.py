"""Bad specs, command lines, API requests and images: the text, the exit code, and a journal that never moved."""

from __future__ import annotations

import json
import socket
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from installation import ROOT, Installation

SPECS = (ROOT / "tests" / "data" / "bad_specs.txt").read_text().split("=== ")[1:]
# About a submitter whom nobody knows (the daemon knows its peers), and about one who stands in /home/u.
NOT_HERE = ("mount-home-unknown", "mount-over-submit-dir")
GOOD = 'name = "a"\ncommand = ["true"]\n'


def head(site: Installation) -> str:
    return request(site, "GET", "/v1/head")[1]


def request(site: Installation, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, str]:
    """One HTTP request, byte by byte as given: no client library that would mend it."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(body)}", *headers]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{site.settings['run_dir']}/jobsd.sock")
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    first, _, rest = answer.partition(b"\r\n")
    return int(first.split()[1]), rest.partition(b"\r\n\r\n")[2].decode()


def test_specs(site: Installation, tmp_path: Path) -> None:
    """Every spec of the table, through the program that a user has."""
    before = head(site)
    for block in SPECS:
        name, _, rest = block.partition("\n")
        if name in NOT_HERE:
            continue
        text, error = rest.split("---\n")
        (tmp_path / "t.toml").write_text(text)
        done = site.cli("submit", "t.toml", check=False, cwd=tmp_path)
        assert done.returncode == 2, (name, done)
        assert error.split("\n")[0] in done.stderr, (name, done.stderr)
        assert done.stdout == ""
        assert head(site) == before, name
    assert len(SPECS) >= 60


COMMANDS: list[tuple[list[str], int, str]] = [
    (["submit"], 2, "SPEC"),
    (["submit", "/nonexistent.toml"], 2, "/nonexistent.toml"),
    (["submit", "/usr"], 2, "/usr"),
    (["submit", "--set", "priority", "GOOD"], 2, "--set"),
    (["submit", "--set", "nonsense=1", "GOOD"], 2, "nonsense"),
    (["submit", "--set", "priority=1000", "GOOD"], 2, "1000"),
    (["submit", "--set", "resources.cpus=4096", "GOOD"], 2, "cpus"),
    (["submit", "--set", "resources.memory='900TiB'", "GOOD"], 2, "memory"),
    (["submit", "--set", "image.source='not-imported'", "GOOD"], 2, "not-imported"),
    (["submit", "--set", "placement.numa=[77]", "GOOD"], 2, "numa"),
    (["submit", "--no-such-option", "GOOD"], 2, "--no-such-option"),
    (["no-such-command"], 2, "no-such-command"),
    (["show", "0"], 2, "no job"),
    (["show", "99999999"], 2, "99999999"),
    (["show", "1.5"], 2, "1.5"),
    (["show", "-1"], 2, "-1"),
    (["show", "٣"], 2, "٣"),
    (["show", "../../etc/passwd"], 2, "etc/passwd"),
    (["logs", "99999999"], 2, "99999999"),
    (["logs", "--tail", "x", "1"], 2, "--tail"),
    (["wait", "99999999"], 2, "99999999"),
    (["cancel", "99999999"], 2, "99999999"),
    (["cancel", "--signal", "NOPE", "1"], 2, "NOPE"),
    (["cancel", "--grace", "soon", "1"], 2, "soon"),
    (["pause", "99999999"], 2, "99999999"),
    (["resume", "99999999"], 2, "99999999"),
    (["release", "99999999"], 2, "99999999"),
    (["priority", "1"], 2, "nothing to change"),
    (["priority", "--urgency", "101", "1"], 2, "101"),
    (["priority", "--cpu-weight", "0", "1"], 2, "0"),
    (["priority", "--network", "fast", "1"], 2, "fast"),
    (["exec", "99999999", "--", "true"], 2, "99999999"),
    (["list", "--state", "dancing"], 2, "dancing"),
    (["image", "remove", "nothing-of-that-name"], 2, "nothing-of-that-name"),
    (["image", "import", "x", "/nonexistent"], 2, "/nonexistent"),
    (["image", "import", "../x", "/usr/bin"], 2, "../x"),
    (["shell-init", "tcsh"], 2, "tcsh"),
]


def test_commands(site: Installation, tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text(GOOD)
    before = head(site)
    for argv, code, text in COMMANDS:
        done = site.cli(*(str(good) if word == "GOOD" else word for word in argv), check=False)
        assert done.returncode == code, (argv, done)
        assert text in done.stderr, (argv, done.stderr)
        assert "Traceback" not in done.stderr, (argv, done.stderr)
        assert head(site) == before, argv


def submission(**changes: object) -> bytes:
    spec = {"toml": GOOD, "file": "a.toml", "folder": "/tmp", "submitted_from": "/tmp", **changes}
    return json.dumps({"specs": [spec], "request_id": "r1"}).encode()


DEEP = b"[" * 100_000
REQUESTS: list[tuple[str, str, bytes, int]] = [
    ("POST", "/v1/jobs", b"", 400),
    ("POST", "/v1/jobs", b"{", 400),
    ("POST", "/v1/jobs", b"\xff\xfe", 400),
    ("POST", "/v1/jobs", DEEP, 400),
    ("POST", "/v1/jobs", b"[]", 400),
    ("POST", "/v1/jobs", b'{"specs": []}', 400),
    ("POST", "/v1/jobs", b'{"specs": [], "request_id": "r"}', 400),
    ("POST", "/v1/jobs", submission(toml="name = 1"), 422),
    ("POST", "/v1/jobs", submission(toml="\0"), 400),
    ("POST", "/v1/jobs", submission(folder="../etc"), 400),
    ("POST", "/v1/jobs", submission(folder="/tmp/../etc"), 400),
    ("POST", "/v1/jobs", submission(file="a\nb"), 400),
    ("POST", "/v1/jobs", submission(surprise=1), 400),
    ("POST", "/v1/jobs", submission(sets=["x"] * 1000), 400),
    ("POST", "/v1/jobs", submission(toml="#" * (1 << 20 | 1)), 400),
    ("POST", "/v1/jobs", b"x" * ((16 << 20) + 1), 413),
    ("GET", "/v1/jobs/999999", b"", 404),
    ("GET", "/v1/jobs/abc", b"", 404),
    ("GET", "/v1/jobs/1%00", b"", 404),
    ("GET", "/v1/jobs/..%2f..%2fetc", b"", 404),
    ("GET", "/v1/jobs/999999999999999999999999", b"", 404),
    ("GET", "/v1/nothing", b"", 404),
    ("DELETE", "/v1/jobs/1", b"", 405),
    ("POST", "/v1/jobs/999999/cancel", b'{"signal": "NOPE"}', 400),
    ("POST", "/v1/jobs/999999/priority", b"{}", 400),
    ("GET", "/v1/jobs/999999/logs/stdin", b"", 400),
]


@pytest.mark.parametrize("case", REQUESTS, ids=[f"{n}-{r[0]}-{r[3]}" for n, r in enumerate(REQUESTS)])
def test_requests(site: Installation, case: tuple[str, str, bytes, int]) -> None:
    method, path, body, status = case
    before = head(site)
    answered, text = request(site, method, path, body, "content-type: application/json")
    assert answered == status, text[:500]
    assert "Traceback" not in text
    if path != "/v1/nothing":
        assert json.loads(text)["message"]
    assert head(site) == before


def test_half_a_request_and_silence_harm_nobody(site: Installation) -> None:
    before = head(site)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    try:
        for sock in silent:
            sock.connect(f"{site.settings['run_dir']}/jobsd.sock")
            sock.sendall(b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert site.cli("list").returncode == 0
    finally:
        for sock in silent:
            sock.close()
    assert head(site) == before


def archive(*members: tuple[str, bytes | None]) -> bytes:
    """A tar of files; None: a symlink to /etc."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            else:
                info.size = len(data)
            tar.addfile(info, BytesIO(data or b""))
    return packed.getvalue()


IMAGES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "empty"),
    ("text", b"hello, I am no archive\n" * 100, ""),
    ("cut-off", archive(("bin/a", b"x" * 5000))[:1024], ""),
    ("climbs", archive(("../outside", b"x")), "outside"),
    ("through-a-link", archive(("way", None), ("way/passwd", b"x")), "way"),
    ("gzip-cut-off", b"\x1f\x8b\x08\x00" + b"\0" * 20, ""),
]


def test_images(site: Installation, tmp_path: Path) -> None:
    before = head(site)
    images = site.cli("image", "list", "--json").stdout
    for name, data, text in IMAGES:
        (tmp_path / f"{name}.tar").write_bytes(data)
        done = site.cli("image", "import", name, f"{name}.tar", check=False, cwd=tmp_path)
        assert done.returncode in (2, 3), (name, done)
        assert text in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr, (name, done.stderr)
        assert site.cli("image", "list", "--json").stdout == images, name
    assert head(site) == before
    assert not Path("/outside").exists()
