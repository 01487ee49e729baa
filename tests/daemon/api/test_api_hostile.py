"""What strangers send (T43): each is refused with a plain answer, and the journal's head does not move."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import pytest
from api_site import ALICE, BOB, ApiSite, as_user
from test_api_jobs import submit, text

from jobs import protocol
from jobs.protocol import MOST_BODY_BYTES
from scheduler.api import bodies, peer

SPEC = {"toml": 'name = "x"\ncommand = ["true"]', "file": "x.toml", "folder": "/srv", "submitted_from": "/srv"}
SUBMIT = {"specs": [SPEC], "request_id": "r1"}


def ask(
    site: ApiSite, method: str, target: str, body: bytes = b"", uid: int = ALICE, header: str = ""
) -> tuple[int, Any]:
    """One raw request; the connection is closed by the daemon or by us."""
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{header}\r\n"
    with as_user(uid), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(site.socket)
        try:
            sock.sendall(head.encode() + body)
        except BrokenPipeError:
            pass
        answer = receive_all(sock)
    status, _, data = answer.partition(b"\r\n\r\n")
    return int(status.split(b" ", 2)[1]), json.loads(data) if data.startswith((b"{", b"[")) else data


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    try:
        while data := sock.recv(65536):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def but(**changed: Any) -> dict[str, Any]:
    return {**SUBMIT, **changed}


def spec_but(**changed: Any) -> dict[str, Any]:
    return but(specs=[{**SPEC, **changed}])


BAD_BODIES: dict[str, Any] = {
    "no json": b"{",
    "not utf-8": b'{"specs": "\xff\xfe"}',
    "a list": [],
    "null": None,
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "no specs": but(specs=[]),
    "specs missing": {"request_id": "a"},
    "too many specs": but(specs=[SPEC] * 1001),
    "unknown key": but(priority=9),
    "unknown key in a spec": spec_but(owner=0),
    "owner given": but(owner={"uid": 0}),
    "wrong type": but(hold="perhaps"),
    "toml is a number": spec_but(toml=5),
    "toml with NUL": spec_but(toml="name = 1\0"),
    "toml too large": spec_but(toml="#" * ((1 << 20) + 1)),
    "lone surrogate": json.dumps(spec_but(toml="\ud800")).encode(),
    "file with newline": spec_but(file="x\ny"),
    "file with escape": spec_but(file="x\x1b[2J"),
    "file too long": spec_but(file="x" * 5000),
    "folder relative": spec_but(folder="srv"),
    "folder with ..": spec_but(folder="/srv/../etc"),
    "folder with .": spec_but(folder="/srv/./etc"),
    "folder with //": spec_but(folder="//srv"),
    "folder with NUL": spec_but(folder="/srv\0/x"),
    "folder empty": spec_but(folder=""),
    "submitted_from with ..": spec_but(submitted_from="/.."),
    "set with NUL": spec_but(sets=["a=\0"]),
    "too many sets": spec_but(sets=["a=1"] * 257),
    "request id empty": but(request_id=""),
    "request id with slash": but(request_id="../x"),
    "request id with newline": but(request_id="a\n"),
    "request id too long": but(request_id="a" * 65),
    "bad toml": spec_but(toml="name ="),
    "unknown spec key": spec_but(toml='name = "x"\ncommand = ["true"]\ncpu = 2'),
    "bad set": spec_but(sets=["resources.cpus"]),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize("target", ["/v1/jobs", "/v1/check"])
def test_bad_submissions(shared_site: ApiSite, body: Any, target: str) -> None:
    if target == "/v1/check" and isinstance(body, dict):
        if "request id" in str(body.get("request_id")) or body.get("specs") == [SPEC]:
            body = {**body, "request_id": "not known here"}
        else:
            body = {key: value for key, value in body.items() if key != "request_id"}
    before = shared_site.head()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = ask(shared_site, "POST", target, data, header="Content-Type: application/json\r\n")
    assert 400 <= status < 500, (status, answer)
    assert answer["code"] in ("user-error", "bad-spec") and answer["message"]
    assert shared_site.head() == before


@pytest.mark.parametrize(
    "job",
    ["0x1", "1e3", "-1", "+1", "%201", "1%0a", "1%00", "%D9%A1", "1.0", "9" * 16, "..", "%2e%2e", "1;2", "1%2f2", "a"],
)
@pytest.mark.parametrize("verb", ["", "/wait", "/logs/stdout"])
def test_ids_are_digits(shared_site: ApiSite, job: str, verb: str) -> None:
    submit(shared_site.client(ALICE))
    status, answer = ask(shared_site, "GET", f"/v1/jobs/{job}{verb}")
    assert status == 404 and answer["code"] in ("no-such-job", "user-error"), (status, answer)


BAD_STEERING: dict[str, tuple[str, Any]] = {
    "no such signal": ("cancel", {"signal": "FOO"}),
    "signal by number": ("cancel", {"signal": "9"}),
    "signal with SIG": ("cancel", {"signal": "SIGTERM"}),
    "grace below zero": ("cancel", {"grace_s": -1}),
    "grace for ever": ("cancel", {"grace_s": 1e300}),
    "grace not a number": ("cancel", b'{"grace_s": NaN}'),
    "nothing to change": ("priority", {}),
    "urgency 101": ("priority", {"urgency": 101}),
    "urgency -1": ("priority", {"urgency": -1}),
    "urgency 1.5": ("priority", {"urgency": 1.5}),
    "weight 0": ("priority", {"cpu_weight": 0}),
    "weight 10001": ("priority", {"io_weight": 10001}),
    "no such class": ("priority", {"network_class": "urgent"}),
    "unknown key": ("pause", {"by": "operator"}),
    "keep_cpus is a list": ("pause", {"keep_cpus": []}),
    "no argv": ("exec", {"argv": []}),
    "empty program": ("exec", {"argv": [""]}),
    "argv with NUL": ("exec", {"argv": ["a\0b"]}),
    "too many words": ("exec", {"argv": ["x"] * 5000}),
    "argv too long": ("exec", {"argv": ["x" * (129 << 10)]}),
    "env name with =": ("exec", {"argv": ["x"], "env": [["A=B", "c"]]}),
    "env not pairs": ("exec", {"argv": ["x"], "env": [["A"]]}),
}


@pytest.mark.parametrize(("verb", "body"), BAD_STEERING.values(), ids=BAD_STEERING)
def test_bad_steering(shared_site: ApiSite, verb: str, body: Any) -> None:
    job = submit(shared_site.client(ALICE))
    shared_site.start(job)
    before = shared_site.head()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = ask(
        shared_site, "POST", f"/v1/jobs/{job}/{verb}", data, header="Content-Type: application/json\r\n"
    )
    assert status == 400 and answer["code"] == "user-error" and answer["message"].startswith("bad request: ")
    assert shared_site.head() == before and shared_site.node.executed == []


BAD_QUERIES = [
    "/v1/jobs?newest=-1", "/v1/jobs?newest=x", "/v1/jobs?state=%00", "/v1/jobs?id=..", "/v1/events?after=-1",
    "/v1/events?job=x", "/v1/jobs/1/wait?until=never", "/v1/jobs/1/wait?timeout_s=nan", "/v1/jobs/1/wait?timeout_s=-1",
    "/v1/jobs/1/logs/stdin", "/v1/jobs/1/logs/..%2f..%2fstarted", "/v1/jobs/1/logs/stdout?from=-1",
    f"/v1/jobs/1/logs/stdout?from={1 << 70}", "/v1/jobs/1/logs/stdout?tail=99999999", "/v1/nothing", "/",
    "/v1/jobs/1/x",
]  # fmt: skip


@pytest.mark.parametrize("target", BAD_QUERIES)
def test_bad_queries(shared_site: ApiSite, target: str) -> None:
    submit(shared_site.client(ALICE))
    status, answer = ask(shared_site, "GET", target)
    assert 400 <= status < 500 and answer["code"], (status, answer)


BAD_IMAGES: dict[str, Any] = {
    "name with slash": {"name": "a/b", "source": "/x"},
    "name with ..": {"name": "..", "source": "/x"},
    "name empty": {"name": "", "source": "/x"},
    "name too long": {"name": "a" * 129, "source": "/x"},
    "relative source": {"name": "a", "source": "x.tar"},
    "source with ..": {"name": "a", "source": "/x/../y"},
    "source with NUL": {"name": "a", "source": "/x\0"},
    "unknown kind": {"name": "a", "source": "/x", "kind": "zip"},
    "source missing": {"name": "a"},
    "nothing there": {"name": "a", "source": "/nonexistent.tar"},
}


@pytest.mark.parametrize("body", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(shared_site: ApiSite, body: Any) -> None:
    status, answer = ask(
        shared_site, "POST", "/v1/images", json.dumps(body).encode(), uid=0, header="Content-Type: application/json\r\n"
    )
    assert status == 400 and answer["code"] == "user-error", answer
    assert shared_site.images.known == {}


def test_a_bug_of_ours_is_told_without_its_insides(site: ApiSite, caplog: pytest.LogCaptureFixture) -> None:
    site.broken = True
    with caplog.at_level(logging.ERROR):
        status, answer = ask(site, "POST", "/v1/check", json.dumps({"specs": [SPEC]}).encode(),
                             header="Content-Type: application/json\r\n")  # fmt: skip
    assert status == 500 and answer["code"] == "bug"
    assert "secret" not in json.dumps(answer) and "Zero" not in json.dumps(answer)
    assert any(record.exc_info for record in caplog.records)


def test_a_wrong_method_and_no_content_type(site: ApiSite) -> None:
    assert ask(site, "PUT", "/v1/jobs")[0] == 405
    status, answer = ask(site, "POST", "/v1/jobs", json.dumps(SUBMIT).encode())
    assert status == 400 and answer["code"] == "user-error"
    assert ask(site, "BREW", "/v1/jobs")[0] == 400  # not HTTP


def test_a_body_beyond_the_limit(site: ApiSite) -> None:
    status, answer = ask(site, "POST", "/v1/jobs", b" " * (MOST_BODY_BYTES + 1))
    assert status == 413 and answer["code"] == "user-error"


def test_a_chunked_body_beyond_the_limit(site: ApiSite) -> None:
    with as_user(ALICE), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(site.socket)
        sock.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
        try:
            for _ in range(40):
                sock.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in receive_all(sock)[:20]


def test_what_one_user_holds_is_bounded_and_let_go_of(monkeypatch: pytest.MonkeyPatch, site: ApiSite) -> None:
    monkeypatch.setattr(bodies, "MOST_OF_ONE_USER", 1000)
    body = json.dumps(spec_but(toml=SPEC["toml"] + "\n#" + "x" * 500)).encode()
    for number in range(5):  # let go of each time
        body = json.dumps({**json.loads(body), "request_id": f"r{number}"}).encode()
        status, _ = ask(site, "POST", "/v1/jobs", body, header="Content-Type: application/json\r\n")
        assert status == 201
    assert ask(site, "POST", "/v1/jobs", b" " * 1001)[0] == 413


def test_a_body_that_stops_half_way(monkeypatch: pytest.MonkeyPatch, site: ApiSite) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.2)
    with as_user(ALICE), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(site.socket)
        sock.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in receive_all(sock)[:20]


@pytest.mark.parametrize("start", [b"", b"GET /v1/head HT", b"GET /v1/head HTTP/1.1\r\nHost: x\r\n"])
def test_half_a_request_and_silence(monkeypatch: pytest.MonkeyPatch, site: ApiSite, start: bytes) -> None:
    monkeypatch.setattr(peer, "HEADERS_S", 0.2)
    with as_user(ALICE), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(site.socket)
        sock.sendall(start)
        assert receive_all(sock) == b""  # cut off


def test_one_users_many_connections_leave_room_for_others(site: ApiSite) -> None:
    held = []
    with as_user(ALICE):
        for _ in range(peer.MOST_CONNECTIONS):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(site.socket)
            sock.sendall(b"GET /v1/head HTTP/1.1\r\nHost: x\r\n\r\n")
            held.append(sock)
    for sock in held:
        assert sock.recv(12) == b"HTTP/1.1 200"
    status, answer = ask(site, "GET", "/v1/head")
    assert status == 503 and "too many connections" in answer["message"]
    assert ask(site, "GET", "/v1/head", uid=BOB)[0] == 200
    for sock in held:
        sock.close()
    deadline = time.monotonic() + 20
    while ask(site, "GET", "/v1/head")[0] != 200 and time.monotonic() < deadline:
        pass
    assert ask(site, "GET", "/v1/head")[0] == 200


def test_a_peer_whose_groups_do_not_fit_is_refused(site: ApiSite) -> None:
    with as_user(ALICE, range(70000, 70300)), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(site.socket)
        answer = receive_all(sock)
    assert b" 403 " in answer[:20] and b"256 groups" in answer


def test_the_openapi_description_is_served(site: ApiSite) -> None:
    status, description = ask(site, "GET", "/v1/openapi.json")
    assert status == 200
    assert {"/v1/jobs", "/v1/jobs/{job}/pause", "/v1/events", "/v1/jobs/{job}/logs/{stream}"} <= set(
        description["paths"]
    )
    assert ask(site, "GET", "/docs")[0] == 404  # no page that loads scripts from elsewhere


def test_client_checks_before_it_asks() -> None:
    with pytest.raises(ValueError, match="control character"):
        protocol.SpecText("", "x\n", "/", "/")
    assert text().file == "hello.toml"
