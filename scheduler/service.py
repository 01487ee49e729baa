"""What jobsd says to the service manager that started it: its state by sd_notify(3), its lines to journald.

Without one, lines go to stderr as they are. docs/design/systemd.md names the fields.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

from jobs.ids import ExecutionId
from jobs.record import Record

JOURNAL_SOCKET = "/run/systemd/journal/socket"
LONGEST = 48 << 10  # of one value: a datagram of twice this passes everywhere (net.core.wmem_default)
_SYSLOG = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def notify(*lines: str) -> None:
    """One datagram to the service manager, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.settimeout(1.0)  # a manager that hangs must not hang us; of its queue of 512 we use one place
            sock.sendto("\n".join(lines).encode(), "\0" + path[1:] if path.startswith("@") else path)


def status(on_node: Iterable[Record], queued: int) -> str:
    """The line that `systemctl status jobsd` shows."""
    counted = Counter(record.state.value for record in on_node)
    parts = [f"{number} {state}" for state, number in sorted(counted.items())]
    return ", ".join([*parts, *([f"{queued} queued"] if queued else [])]) or "no jobs"


def set_up_logging() -> None:
    """Of the whole process, once."""
    handler: logging.Handler
    if is_on_journal():
        handler = JournalHandler()
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("pyroute2").setLevel(logging.WARNING)


def is_on_journal() -> bool:
    """Whether stderr is the stream that systemd connected; $JOURNAL_STREAM, systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        seen = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(seen.st_dev), str(seen.st_ino))


def complain(message: str, hint: str = "") -> None:
    """Why the daemon does not start or go on, on stderr; an error where journald reads it (sd-daemon(3))."""
    prefix = "<3>" if is_on_journal() else ""
    lines = [f"jobsd: {message}", *([f"  hint: {hint}"] if hint else [])]
    print("\n".join(prefix + line for text in lines for line in text.splitlines()), file=sys.stderr)  # noqa: T201


def explain_a_bug(error: BaseException) -> None:
    """On the journal one entry and the end of the program, instead of a traceback line by line."""
    if is_on_journal():
        logging.getLogger("jobsd").critical("stopped by an error of its own", exc_info=error)
        raise SystemExit(70)  # EX_SOFTWARE, sysexits.h


class JournalHandler(logging.Handler):
    """One entry for each record, whatever its length; what was raised is a field of it, not forty more lines.

    Raises OSError where no journald listens.
    """

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(path)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a journald that restarts: systemd keeps its socket, its queue may be full
            self._socket.send(encode(fields(record)))

    def close(self) -> None:
        self._socket.close()
        super().close()


def fields(record: logging.LogRecord) -> dict[str, str]:
    """Ours begin with JOBS_; the others are systemd.journal-fields(7)."""
    message = record.getMessage()
    found = {
        "PRIORITY": str(_SYSLOG.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": "jobsd",
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        "JOBS_PART": record.name,
    }
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        message += f": {type(error).__name__}: {error}"
        found["JOBS_TRACEBACK"] = logging.Formatter().formatException(record.exc_info)
    for execution in _executions(record.args):
        found["JOBS_JOB"], found["JOBS_EXECUTION"] = str(execution.job), str(execution)
    return {"MESSAGE": message, **found}


def _executions(arguments: object) -> Iterable[ExecutionId]:
    for each in arguments if isinstance(arguments, tuple) else ():
        with contextlib.suppress(ValueError):
            yield each if isinstance(each, ExecutionId) else ExecutionId.parse(str(each))


def encode(entry: Mapping[str, str]) -> bytes:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL: values with a line break carry their length."""
    parts = []
    for name, value in entry.items():
        data = value.encode(errors="replace")[:LONGEST]
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
