"""HTTP/1.1 over a Unix socket, as much of it as our own daemon speaks: one request at a time, keep-alive, chunks.

Written by hand because importing a library costs more than a whole `jobs list` (h11 15 ms, http.client 55, httpx 158).
"""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator

from jobs.errors import Unavailable

READ_BYTES = 64 << 10
LONGEST_LINE = 64 << 10


class HungUp(Unavailable):
    """The daemon went away in the middle of an answer, or before one. `answered` is False when no byte of it came."""

    def __init__(self, *, answered: bool) -> None:
        super().__init__("the daemon hung up", hint="running jobs go on without it; try again when it is back")
        self.answered = answered


class Response:
    """Status and headers (names in lower case); the body is read by `chunks` or `read`, once."""

    def __init__(self, status: int, headers: dict[str, str], chunks: Iterator[bytes]) -> None:
        self.status, self.headers, self.chunks = status, headers, chunks

    def read(self) -> bytes:
        return b"".join(self.chunks)


class Connection:
    """One connection; after an error or an unread body, close it and make another."""

    def __init__(self, path: str) -> None:
        """Raises Unavailable."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise no_daemon(path, error) from error
        self._file = io.BufferedReader(self._socket.makefile("rb", buffering=0), READ_BYTES)
        self.used = 0

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def request(self, method: str, target: str, body: bytes = b"", *, timeout_s: float | None = 60.0) -> Response:
        """`timeout_s` between two bytes of the answer. Raises HungUp, Unavailable."""
        head = f"{method} {target} HTTP/1.1\r\nHost: jobsd\r\nContent-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(head.encode("ascii") + b"\r\n" + body)
        except OSError:  # it may have refused early and said why: read that first
            pass
        self.used += 1
        return self._response()

    def _response(self) -> Response:
        status, headers = self._head()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Response(status, headers, self._chunked())
        if "content-length" in headers:
            return Response(status, headers, self._exactly(int(headers["content-length"])))
        return Response(status, headers, iter(()))

    def _head(self) -> tuple[int, dict[str, str]]:
        first = self._line(answered=False)
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(first.split(" ", 2)[1]), headers

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self._line().partition(";")[0], 16):
            yield from self._exactly(size)
            self._line()
        self._line()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            try:
                data = self._file.read1(min(size, READ_BYTES))
            except TimeoutError as error:
                raise _silent() from error
            except OSError as error:
                raise HungUp(answered=True) from error
            if not data:
                raise HungUp(answered=True)
            size -= len(data)
            yield data

    def _line(self, *, answered: bool = True) -> str:
        try:
            line = self._file.readline(LONGEST_LINE)
        except TimeoutError as error:
            raise _silent() from error
        except OSError as error:
            raise HungUp(answered=answered) from error
        if not line.endswith(b"\n"):
            raise HungUp(answered=answered or bool(line))
        return line.decode("latin-1").rstrip("\r\n")


def no_daemon(path: str, error: OSError) -> Unavailable:
    if isinstance(error, PermissionError):
        return Unavailable(f"you may not reach the daemon's socket {path}", hint="ask your administrator")
    return Unavailable(
        f"no daemon answers on {path}",
        hint="start it with: systemctl start jobsd (as root); or run one job without it: jobs run SPEC",
    )


def _silent() -> Unavailable:
    return Unavailable("the daemon does not answer", hint="its log may say why: journalctl -u jobsd")
