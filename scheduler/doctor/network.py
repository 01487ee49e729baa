"""The network: what links, tables and queues are made of, whose rules are in the way, what carries a class. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from jobs.priority_class import HTB_MAJOR
from runtime.cgroups.net_priority import carriers
from scheduler.doctor.facts import Facts
from scheduler.doctor.finding import JOBSD, Finding, ok
from scheduler.doctor.packages import install

if TYPE_CHECKING:
    from config.settings import Settings

_HTB = f"htb {HTB_MAJOR:x}:"
_NO_DAEMON = "no job can start: jobsd makes a bridge and its tables before anything else"


def network(facts: Facts, settings: Settings) -> Iterator[Finding]:
    yield from _nftables(facts)
    yield from _links(facts)
    yield from _names(facts, settings)
    yield from _sysctls(facts)
    yield from _ways_out(facts, settings)
    yield from _rates(facts)
    yield from _host_network(facts, settings)
    yield from _uplink(facts)


def _nftables(facts: Facts) -> Iterator[Finding]:
    state = facts.modules.get("nf_tables", "unknown")
    refused = next((name for name in ("nft:tables", "nft:list") if facts.tried(name) is False), "")
    if facts.wires.binding:
        mends = install(facts.family, "python3-nftables")
        yield Finding("network", "nftables", "fatal", facts.wires.binding, _NO_DAEMON, mends, stops=(JOBSD,))
    elif state == "absent" or refused:
        seen = facts.said(refused) or "this kernel has no nf_tables"
        mends = "a kernel with CONFIG_NF_TABLES, _INET, _NETDEV and _BRIDGE_META, CONFIG_NFT_NAT and _MASQ"
        yield Finding("network", "nftables", "fatal", seen, _NO_DAEMON, mends, stops=(JOBSD,))
    elif facts.tried("nft:tables") or facts.tried("nft:list") or state == "loadable":
        how = "our tables were taken" if facts.tried("nft:tables") else "answers" if facts.tried("nft:list") else ""
        yield ok("network", "nftables", how or "a module that is loaded when jobsd starts")
    else:
        yield Finding("network", "nftables", "unknown", facts.untold)


def _links(facts: Facts) -> Iterator[Finding]:
    absent = [name for name in ("bridge", "veth") if facts.modules.get(name) == "absent"]
    if absent or facts.tried("links") is False:
        seen = f"this kernel has no {' and no '.join(absent)}" if absent else facts.said("links")
        mends = "a kernel with CONFIG_BRIDGE and CONFIG_VETH"
        yield Finding("network", "links", "fatal", seen, _NO_DAEMON, mends, stops=(JOBSD,))
    elif facts.tried("links"):
        yield ok("network", "links", "bridge and veth")
    elif {facts.modules.get("bridge"), facts.modules.get("veth")} <= {"here", "loadable"}:
        yield ok("network", "links", "bridge and veth, loaded when needed")
    else:
        yield Finding("network", "links", "unknown", facts.untold)


def _names(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """What netbridge/bridge.py would refuse."""
    if facts.wires.bridge == "foreign":
        yield Finding(
            "network", "bridge", "fatal", f"a link {settings.bridge} exists and is not jobsd's", _NO_DAEMON,
            f"the setting bridge, to another name; or: ip link del {settings.bridge}", stops=(JOBSD,),
        )  # fmt: skip
        return
    try:
        ours = IPv4Network(settings.subnet)
    except ValueError as error:
        yield Finding("network", "subnet", "fatal", str(error), _NO_DAEMON, "the setting subnet", stops=(JOBSD,))
        return
    taken = [route for route in facts.wires.routes if IPv4Network(route).overlaps(ours)]
    if taken and not facts.wires.bridge:
        yield Finding(
            "network", "subnet", "fatal", f"{settings.subnet}, for jobs, overlaps the route to {taken[0]}", _NO_DAEMON,
            'the setting subnet, to a free one: subnet = "10.99.0.0/16"', "/proc/net/route", (JOBSD,),
        )  # fmt: skip


def _sysctls(facts: Facts) -> Iterator[Finding]:
    if facts.read_only_sysctls and facts.uid == 0:
        yield Finding(
            "network",
            "/proc/sys",
            "fatal",
            "/proc/sys is read-only",
            "no job can start: jobsd lets the host forward and sets up its bridge there",
            "--security-opt systempaths=unconfined (docker), --security-opt unmask=/proc/sys (podman)"
            if facts.container else "no ProtectKernelTunables= in jobsd's unit; or: mount -o remount,rw /proc/sys",
            "/proc/sys",
            (JOBSD,),
        )  # fmt: skip
    elif facts.sysctls.get("net/ipv4/ip_forward") == "0":
        yield ok("network", "forwarding", "off; jobsd switches it on and, when it goes, off again")


def _ways_out(facts: Facts, settings: Settings) -> Iterator[Finding]:
    bridge = settings.bridge
    for line in facts.wires.obstacles:
        yield Finding(
            "network",
            "another firewall",
            "limited",
            line,
            'jobs with network.mode = "bridge" reach nobody outside, and published ports answer nobody',
            _accept(line, bridge),
        )
    if facts.wires.legacy:
        yield Finding(
            "network",
            "iptables-legacy",
            "limited",
            f"tables of iptables-legacy: {', '.join(facts.wires.legacy)}; their rules can't be seen by nftables",
            "if their FORWARD chain drops, jobs reach nobody outside",
            f"if iptables-legacy -S FORWARD shows that: iptables-legacy -I FORWARD -i {bridge} -j ACCEPT, and with -o",
            "/proc/net/ip_tables_names",
        )
    if not facts.wires.uplink:
        yield Finding(
            "network",
            "uplink",
            "limited",
            "no default route",
            "jobs reach this host and each other, nobody else",
            "ip route add default via GATEWAY",
            "/proc/net/route",
        )


def _accept(line: str, bridge: str) -> str:
    """By whose chain it is; the first word is the family, then `table NAME, chain NAME:`."""
    words = line.replace(",", " ").replace(":", " ").split()
    family, table, chain = words[0], words[2], words[4]
    if "firewalld" in table:
        return f"firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
    if (family, table, chain) == ("ip", "filter", "FORWARD"):
        return f"iptables -I FORWARD -i {bridge} -j ACCEPT, and the same with -o (with Docker: -I DOCKER-USER)"
    return f"nft insert rule {family} {table} {chain} iifname {bridge} accept, and the same with oifname"


def _rates(facts: Facts) -> Iterator[Finding]:
    if facts.modules.get("sch_tbf") == "absent" or facts.tried("queue:tbf") is False:
        yield Finding(
            "network",
            "rates",
            "missing",
            facts.said("queue:tbf") or "this kernel has no sch_tbf",
            "a job with network.rate fails to start",
            "a kernel with CONFIG_NET_SCH_TBF",
        )


def _host_network(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """Of what is there now, and of what the daemon mounts for itself."""
    mounted = {name for name in ("net_prio", "net_cls") if name in facts.compiled and settings.mount_net_controllers}
    by = carriers(facts.caps, "host") or tuple(sorted(mounted))
    if by or not facts.hierarchies or "bpf:egress" not in facts.tries:
        if by:
            yield ok("network", "classes of host-network jobs", f"by {', '.join(by)}")
        return
    if facts.tried("bpf:egress") is None:
        yield Finding("network", "classes of host-network jobs", "unknown", facts.untold)
        return
    yield Finding(
        "network",
        "classes of host-network jobs",
        "missing",
        "no net_prio, and no BPF program on groups",
        'priority_class does nothing for jobs with network.mode = "host"; for all others it does',
        "mount_net_controllers = true" if {"net_prio", "net_cls"} & set(facts.compiled)
        else "mount cgroup2 (BPF programs sit on its groups), or a kernel with CONFIG_CGROUP_NET_PRIO",
    )  # fmt: skip


def _uplink(facts: Facts) -> Iterator[Finding]:
    """The class is always set; whether it counts is up to the queue before the wire."""
    link, queue = facts.wires.uplink, facts.wires.queue
    if facts.modules.get("sch_htb") == "absent" or facts.tried("queue:htb") is False:
        costs = "network.priority_class is set, and nothing on this host can act on it"
        mends = "a kernel with CONFIG_NET_SCH_HTB"
        yield Finding("network", "classes on the wire", "missing", "this kernel has no sch_htb", costs, mends)
    elif link and queue and queue != _HTB:
        yield Finding(
            "network",
            "classes on the wire",
            "limited",
            f"{link} has the queue {queue.partition(' ')[0]}, not {_HTB}",
            "network.priority_class is set, and nobody acts on it",
            "docs/howto/priority-on-the-uplink.md (five tc commands), if jobs compete for the wire",
        )
    elif queue == _HTB:
        yield ok("network", "classes on the wire", f"{link} has {_HTB}")
