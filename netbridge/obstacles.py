"""Rules of others that stop packets of jobs: an accept of ours ends our chain only, a drop elsewhere still wins. Pure.

Seen are chains of nftables (iptables-nft and ufw among them) that drop by default; single rules are not judged, and
those of iptables-legacy can't be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Hooks that a routed packet of a job passes, in families that see it.
_HOOKS = ("prerouting", "forward", "postrouting")
_FAMILIES = ("ip", "inet", "bridge")


def obstacles(listing: Iterable[dict[str, Any]], bridge: str) -> list[str]:
    """Of `nft -j list chains`: a line for each chain that drops what it does not know."""
    chains = [item["chain"] for item in listing if "chain" in item]
    return [
        f"{each['family']} table {each['table']}, chain {each['name']}: drops by default what is forwarded; "
        f"accept packets from and to {bridge} there"
        for each in chains
        if each["family"] in _FAMILIES and each.get("hook") in _HOOKS and each.get("policy") == "drop"
    ]
