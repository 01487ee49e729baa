"""What carries the priority class of a job's packets to the wire. Pure; docs/design/network-priority.md rules it."""

from __future__ import annotations

from jobs.host import HostCaps


def carriers(caps: HostCaps, mode: str) -> tuple[str, ...]:
    """Of a job with that network mode, the one that has the last word first. () means that nothing does.

    Each that the host has is driven: net_prio and net_cls are what the host's own rules may look at.
    """
    if mode == "bridge":
        return ("nftables",)
    if mode != "host":
        return ()
    bpf = ("bpf",) if by_bpf(caps) else ()
    return (*bpf, *(name for name in ("net_prio", "net_cls") if name in caps.controllers))


def by_bpf(caps: HostCaps) -> bool:
    """Sockets know their v2 group wherever a unified hierarchy is mounted, with no controller on it."""
    return bool(caps.unified) and "bpf-egress" in caps.features
