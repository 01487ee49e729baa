"""What each mechanism is told about a priority class. Pure; netbridge/README.md rules it.

One field of the spec reaches the wire on three ways:

    job in the host's network   a BPF program on its v2 group, the cgroup files net_prio.ifpriomap and net_cls.classid
                                (all by runtime/cgroups); nftables turns the classid into the same priority
    routed job                  nftables, inet postrouting: map of source address → priority
    bridged uplink              nftables, bridge prerouting: map of bridge port → priority

All of them end in `skb->priority`, whose value is a class of an HTB qdisc on the uplink: "4a0b:1" background …
"4a0b:4" realtime (tc-htb(8): a packet whose priority names a class of the qdisc goes to that class).
"""

from __future__ import annotations

from jobs.priority_class import HTB_MAJOR, PriorityClass


def tc_class(priority_class: PriorityClass) -> str:
    """`"4a0b:2"`: as tc and nftables write a class."""
    return f"{HTB_MAJOR:04x}:{priority_class.minor:x}"


def classid(priority_class: PriorityClass) -> int:
    """For net_cls.classid, which takes 0xAAAABBBB = class AAAA:BBBB (cgroup-v1/net_cls.rst)."""
    return priority_class.skb_priority
