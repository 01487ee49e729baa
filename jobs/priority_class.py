"""The network priority classes and what each mechanism is told. Pure.

`skb->priority` values are tc handles (major 0 means "class of the root qdisc's map");
One field drives BPF, net_prio, net_cls, and the nftables maps.
"""

from __future__ import annotations

from enum import StrEnum

HTB_MAJOR = 0x4A0B  # tc handle "4a0b:", so that a class id names us and nobody else


class PriorityClass(StrEnum):
    BACKGROUND = "background"
    NORMAL = "normal"
    HIGH = "high"
    REALTIME = "realtime"

    @property
    def minor(self) -> int:
        """Minor number of the class: 1 background … 4 realtime."""
        return 1 + list(PriorityClass).index(self)

    @property
    def skb_priority(self) -> int:
        """`skb->priority` = tc class id: HTB takes a packet to the class that its priority names (tc-htb(8))."""
        return HTB_MAJOR << 16 | self.minor
