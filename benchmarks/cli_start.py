"""How long the CLI takes beside the interpreter itself: median and best of N starts, wall clock and CPU.

    benchmarks/cli_start.py [--json] [N]

`list` and `submit` are answered by a stand-in on a real socket, so that only the client is measured.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

JOBSCTL = str(Path(sys.executable).parent / "jobsctl")
ANSWERS = {b"GET": b'{"jobs": []}', b"POS": b'{"jobs": [1], "names": ["x"]}'}


def stand_in(path: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve() -> None:
        while True:
            peer, _ = server.accept()
            with peer:
                body = ANSWERS[peer.recv(1 << 20)[:3]]
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                peer.recv(1)

    threading.Thread(target=serve, daemon=True).start()


def measure(argv: list[str], environment: dict[str, str], count: int) -> dict[str, float]:
    walls, before = [], _cpu()
    for _ in range(count):
        started = time.perf_counter()
        subprocess.run(argv, env=environment, capture_output=True, check=True)
        walls.append((time.perf_counter() - started) * 1000)
    return {
        "p50_ms": round(statistics.median(walls), 1),
        "best_ms": round(min(walls), 1),
        "cpu_ms": round((_cpu() - before) * 1000 / count, 1),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--json"]
    count = int(words[0]) if words else 30
    with tempfile.TemporaryDirectory() as folder:
        stand_in(f"{folder}/jobsd.sock")
        Path(folder, "x.toml").write_text('name = "x"\ncommand = ["true"]\n')
        environment = {**os.environ, "JOBS_SOCKET": f"{folder}/jobsd.sock"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        programs = {
            "python3 -c pass": [sys.executable, "-c", "pass"],
            "python3 -c 'import typer'": [sys.executable, "-c", "import typer"],
            "jobs list": [JOBSCTL, "list"],
            "jobs submit x.toml": [JOBSCTL, "submit", f"{folder}/x.toml"],
            "jobs --help": [JOBSCTL, "--help"],
        }
        for argv in programs.values():  # byte code and page cache
            subprocess.run(argv, env=environment, capture_output=True, check=True)
        found = {name: measure(argv, environment, count) for name, argv in programs.items()}
    if "--json" in sys.argv:
        print(json.dumps(found))
        return
    print(f"{'':28}{'p50 ms':>9}{'best ms':>9}{'CPU ms':>9}   ({count} starts each)")
    for name, row in found.items():
        print(f"{name:28}{row['p50_ms']:9}{row['best_ms']:9}{row['cpu_ms']:9}")


if __name__ == "__main__":
    main()
