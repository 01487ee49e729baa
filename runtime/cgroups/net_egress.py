"""skb->priority of everything that a job in the host's network sends: a BPF program at its group's way out. v2 only.

For hosts without net_prio, and better than it: it holds for interfaces that come later, for IPv6, and whatever
SO_PRIORITY the job sets (docs/design/network-priority.md).
"""

from __future__ import annotations

from runtime.cgroups.bpf_code import CONTEXT, EXIT, MOVE, RESULT, STORE, op
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place
from runtime.cgroups.programs import EGRESS, attach

_VALUE = 2  # a register
_PRIORITY = 32  # offsetof(struct __sk_buff, priority) in linux/bpf.h


def program(priority: int) -> bytes:
    """skb->priority = `priority`; the packet goes on. By way of a register: Linux 6.1 stores no constant there."""
    store = op(MOVE, _VALUE, value=priority) + op(STORE, CONTEXT, _VALUE, offset=_PRIORITY)
    return store + op(MOVE, RESULT, value=1) + op(EXIT)


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """From the next packet on, of sockets that are open already too. A job with links of its own has none of this."""
    if limits.socket_priority:
        attach(place.run, EGRESS, program(limits.socket_priority))
    return ()
