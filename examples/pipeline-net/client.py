"""Sends so many MiB to another job, by its name, and checks the digest that comes back."""

import hashlib
import os
import socket
import sys
import time

PATIENCE_S = 60  # the other job may still be starting


def connect(name: str, port: int) -> socket.socket:
    """The name is known as soon as the other job has its address; the port is open a moment later."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((name, port), timeout=5)
        except OSError as error:
            if time.monotonic() > give_up:
                sys.exit(f"{name}:{port} did not answer within {PATIENCE_S} s: {error}")
            time.sleep(0.1)


def main() -> int:
    name, port, mebibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    with connect(name, port) as connection:
        connection.settimeout(None)
        print(f"connected to {name} at {connection.getpeername()[0]}", flush=True)
        began = time.monotonic()
        for _ in range(mebibytes):
            connection.sendall(block)
            digest.update(block)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile().read()
        took = time.monotonic() - began
    print(f"sent {mebibytes} MiB in {took:.2f} s: {mebibytes / took:.0f} MiB/s")
    print("checksums agree" if answer == digest.hexdigest() else "checksums differ")
    return 0 if answer == digest.hexdigest() else 1


if __name__ == "__main__":
    sys.exit(main())
