"""Token buckets for a job's network rate, one for each direction. Pure.

- receiving: a tbf qdisc on the host end of the veth. Packets wait in a queue, and large ones are cut up.
- sending: an nftables limit on the bridge port. Packets over the rate are dropped. Its bucket holds one second of the
  rate plus `burst` (net/netfilter/nft_limit.c); the largest packet must fit, or it never passes.
"""

from __future__ import annotations

from dataclasses import dataclass

_FASTEST_BYTES_S = 0xFFFFFFFF  # tc_ratespec.rate is 32 bits wide (linux/pkt_sched.h): 34 gbit
_BURST_S = 0.05  # a few scheduling ticks, so that a fast link is not slowed by late wake-ups (tc-tbf(8))
_QUEUE_S = 0.05  # longest time a packet waits; later ones are dropped
_LEAST_RECEIVING_BYTES = 4 << 10  # more than one Ethernet frame
_LEAST_QUEUE_BYTES = 64 << 10  # one GSO packet, as the sender hands it over
_LEAST_SENDING_BYTES = 128 << 10  # two GSO packets of 64 KiB
_ONE_FRAME_BYTES = 1500


@dataclass(frozen=True, slots=True)
class Bucket:
    rate_bytes_s: int
    burst_bytes: int
    queue_bytes: int = 0


def receiving(rate_bits_s: int) -> Bucket:
    """Towards the job."""
    rate = _bytes_s(rate_bits_s)
    burst = max(_LEAST_RECEIVING_BYTES, int(rate * _BURST_S))
    return Bucket(rate, burst, burst + max(_LEAST_QUEUE_BYTES, int(rate * _QUEUE_S)))


def sending(rate_bits_s: int) -> Bucket:
    """From the job."""
    rate = _bytes_s(rate_bits_s)
    return Bucket(rate, max(_ONE_FRAME_BYTES, _LEAST_SENDING_BYTES - rate))


def _bytes_s(rate_bits_s: int) -> int:
    return min(_FASTEST_BYTES_S, max(1, rate_bits_s // 8))
