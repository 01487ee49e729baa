"""A rate bites in both directions. Counted in bytes that arrive of what was sent at once, never in seconds."""

from __future__ import annotations

import socket
import threading

import anyio
import pytest
from anyio import to_thread
from netlab import Job, Lab, run

from netbridge.network import Network

_RATE = 1_000_000  # bits a second: of 2 MB sent at once, a bucketful (at most 256 KB) and 125 KB a second pass
_DATAGRAMS, _SIZE = 2000, 1000


def arrived(sender: Job, receiver: Job) -> int:
    """Datagrams out of _DATAGRAMS; the receiver empties its buffer all the time."""
    with sender.space.within():
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver.space.within():
        into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    count = 0
    with out, into:
        into.bind((receiver.address, 9))
        into.setblocking(False)
        out.sendto(b"", (receiver.address, 9))  # resolves the neighbours
        for _ in range(_DATAGRAMS):
            out.sendto(bytes(_SIZE), (receiver.address, 9))
            count += _drain(into)
        into.settimeout(0.5)  # for what a busy machine still has under way
        count += _drain(into)
    return count


def _drain(into: socket.socket) -> int:
    """How many datagrams are there."""
    count = 0
    try:
        while True:
            count += len(into.recv(2 * _SIZE)) == _SIZE
    except (BlockingIOError, TimeoutError):
        return count


@pytest.mark.parametrize("limited", ["sender", "receiver"])
def test_a_rate_bites(lab: Lab, limited: str) -> None:
    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        free, other, slow = await lab.job(network), await lab.job(network), await lab.job(network, rate_bits_s=_RATE)
        assert arrived(free, other) > 0.9 * _DATAGRAMS  # the control
        passed = arrived(slow, free) if limited == "sender" else arrived(free, slow)
        assert 0 < passed < 0.5 * _DATAGRAMS
        await network.detach(slow.attachment)
        assert "rate_" not in run("nft", "list", "ruleset")
        await network.stop()

    anyio.run(main)


def test_a_large_tcp_transfer_passes_a_small_rate(lab: Lab) -> None:
    """No packet is too large for its bucket: a GSO packet of 64 KiB at a rate of 0.1 MB/s comes through in the end."""

    async def main() -> None:
        network = Network(lab.settings())
        await network.start()
        slow, other = await lab.job(network, rate_bits_s=800_000), await lab.job(network)
        for source, target in ((slow, other), (other, slow)):
            assert await to_thread.run_sync(_transfer, source, target, 300_000) == 300_000
        await network.stop()

    anyio.run(main)


def _transfer(source: Job, target: Job, size: int) -> int:
    """Bytes that arrived over one TCP connection."""
    with target.listen(80) as server:
        with source.space.within():
            client = socket.create_connection((target.address, 80), 5)
        peer, _ = server.accept()
        sender = threading.Thread(target=_send_all, args=(client, size))
        sender.start()
        got = 0
        with peer:
            peer.settimeout(30)
            while data := peer.recv(1 << 20):
                got += len(data)
        sender.join()
        return got


def _send_all(client: socket.socket, size: int) -> None:
    with client:
        client.settimeout(30)
        client.sendall(bytes(size))
