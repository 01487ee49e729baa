"""The nftables policy as values: two tables without a rule per job, and the elements that one job puts into them. Pure.

The tables are a function of the settings and of what is attached (`whole`), so they can be rebuilt at any moment in
one transaction; attaching, detaching and changing a class are a few elements (`joining`, `leaving`, `reclassing`).
Written in nft's own language, as `nft list table` shows it to the administrator (docs/design/nftables.md).

    bridge table   who sends: spoofing, rate, priority of bridged uplinks; who may talk to whom on the bridge
    inet table     the way to the host, out of it, through published ports; priority of routed packets
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.priority_class import PriorityClass
from netbridge.attached import Attached
from netbridge.names import NetworkSettings
from netbridge.priority import classid, tc_class
from netbridge.rate import sending

# Addresses at which clouds hand credentials to whoever asks from the host:
METADATA = (
    "169.254.169.254",  # AWS, Azure, Google, OpenStack and most others
    "169.254.170.2",  # AWS ECS task credentials
    "169.254.170.23",  # AWS EKS pod identity
    "168.63.129.16",  # Azure WireServer
    "100.100.100.200",  # Alibaba
)
NOBODY = 0xFFFFFFFF  # never a uid: (uid_t)-1
PASSED = 0x6A  # mark of packets that may go from job to job; below the bits that others use (kube-proxy, tailscale …)


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a named set (`value` is "") or map."""

    family: str
    name: str
    key: str
    value: str = ""


def whole(
    settings: NetworkSettings,
    attached: Sequence[Attached],
    *,
    fenced: Sequence[str] = (),
    resolvers: Sequence[str] = (),
) -> str:
    """Both tables from nothing, replacing older ones in the same transaction.

    `fenced`: links between which the host did not forward before us. `resolvers`: name servers told to the jobs.
    """
    statics = [
        *(Element("inet", "fenced", _quoted(link)) for link in fenced),
        *(Element("inet", "resolver", address) for address in resolvers),
        *(Element("inet", "host_class", f"{classid(each):#x}", tc_class(each)) for each in PriorityClass),
        *(Element("bridge", "trunk", _quoted(link)) for link in settings.trunk_ports),
    ]
    elements = [element for each in attached for element in elements_of(each)]
    return "\n".join(
        [
            remove(settings),
            _bridge_table(settings),
            _inet_table(settings),
            *(_add_limit(settings, each) for each in attached if each.rate_bits_s),
            *_render("add", settings, [*statics, *elements]),
        ]
    )


def remove(settings: NetworkSettings) -> str:
    """Deletes both tables, whether or not they exist."""
    table = settings.nft_table
    return "\n".join(f"table {family} {table}\ndelete table {family} {table}" for family in ("bridge", "inet"))


def joining(settings: NetworkSettings, attached: Attached) -> str:
    """The transaction of one attach."""
    limit = [_add_limit(settings, attached)] if attached.rate_bits_s else []
    return "\n".join([*limit, *_render("add", settings, elements_of(attached))])


def leaving(settings: NetworkSettings, attached: Attached) -> str:
    """The transaction of one detach. Fails as a whole when an element is missing: then apply `whole`."""
    limit = [f"delete limit bridge {settings.nft_table} {_limit_name(attached)}"] if attached.rate_bits_s else []
    return "\n".join([*_render("delete", settings, elements_of(attached)), *limit])


def reclassing(settings: NetworkSettings, attached: Attached, priority_class: PriorityClass) -> str:
    """Re-tags a live job's packets: its element leaves and comes back with the other class, in one transaction."""
    old = _class_elements(attached, attached.priority_class)
    new = _class_elements(attached, priority_class)
    return "\n".join([*_render("delete", settings, old), *_render("add", settings, new)])


def elements_of(attached: Attached) -> list[Element]:
    """Everything that one job has in the tables, but its limit."""
    port, address, uid = _quoted(attached.attachment.link), attached.address, attached.owner_uid
    elements = [
        Element("bridge", "port", f"{port} . {attached.attachment.mac} . {address}"),
        Element("bridge", "owner", port, f"{uid:#x}"),
        Element("bridge", "member", f"{port} . {uid:#x}"),
        Element("inet", "reach", f"{address} . {uid}"),
        *_class_elements(attached, attached.priority_class),
        *(
            Element("inet", "published", f"{each.protocol} . {each.host_port}", f"{address} . {each.job_port}")
            for each in attached.publish
        ),
    ]
    if attached.rate_bits_s:
        elements.append(Element("bridge", "sending", port, _quoted(_limit_name(attached))))
    return elements


def _class_elements(attached: Attached, priority_class: PriorityClass) -> list[Element]:
    value = tc_class(priority_class)
    return [
        Element("inet", "class", attached.address, value),
        Element("bridge", "class", _quoted(attached.attachment.link), value),
    ]


def _limit_name(attached: Attached) -> str:
    return "rate_" + attached.address.replace(".", "_")


def _add_limit(settings: NetworkSettings, attached: Attached) -> str:
    bucket = sending(attached.rate_bits_s)
    limit = f"rate over {bucket.rate_bytes_s} bytes/second burst {bucket.burst_bytes} bytes"
    return f"add limit bridge {settings.nft_table} {_limit_name(attached)} {{ {limit} }}"


def _quoted(name: str) -> str:
    return f'"{name}"'  # names were checked by NetworkSettings or made by us: no quote inside


def _render(verb: str, settings: NetworkSettings, elements: Iterable[Element]) -> list[str]:
    """One command per set. Deletion names keys only."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in elements:
        text = f"{each.key} : {each.value}" if each.value and verb == "add" else each.key
        groups.setdefault((each.family, each.name), []).append(text)
    return [
        f"{verb} element {family} {settings.nft_table} {name} {{ {', '.join(texts)} }}"
        for (family, name), texts in groups.items()
    ]


def _bridge_table(settings: NetworkSettings) -> str:
    """Every chain has priority filter (-200): at 0 they are skipped where br_netfilter is active."""
    ports = _quoted(settings.port_prefix + "*")
    return f"""\
table bridge {settings.nft_table} {{
    set port {{ typeof iifname . ether saddr . ip saddr; comment "who may send from where"; }}
    map owner {{ typeof iifname : meta mark; comment "uid of the job behind a port"; }}
    set member {{ typeof oifname . meta mark; comment "which uid a port belongs to"; }}
    map class {{ typeof iifname : meta priority; comment "for bridged uplinks"; }}
    map sending {{ type ifname : limit; comment "what a job may send"; }}
    set trunk {{ typeof iifname; comment "ports that lead to a real network"; }}

    chain from_job {{
        type filter hook prerouting priority filter; policy accept;
        iifname != {ports} accept
        ether type != {{ ip, arp }} drop
        ether type arp iifname . ether saddr . arp saddr ip != @port drop
        ether type arp iifname . arp saddr ether . arp saddr ip != @port drop
        ether type ip iifname . ether saddr . ip saddr != @port drop
        ip daddr 127.0.0.0/8 drop
        limit name iifname map @sending drop
        meta priority set iifname map @class
    }}
    chain job_to_job {{
        type filter hook forward priority filter; policy accept;
        iifname != {ports} oifname != {ports} accept
        meta mark {PASSED:#x} accept
        iifname @trunk meta mark set {PASSED:#x} accept
        oifname @trunk meta mark set {PASSED:#x} accept
        meta mark set {NOBODY:#x}
        meta mark set iifname map @owner
        oifname . meta mark @member meta mark set {PASSED:#x} accept
        drop
    }}
}}"""


def _inet_table(settings: NetworkSettings) -> str:
    """Nothing here touches a packet that neither comes from the bridge nor goes to it, but the fence.

    With br_netfilter, frames from job to job pass `forward` too: the bridge table's mark tells them from packets that
    a job sends to another one's address through the gateway, which would get round the bridge table. The other way
    round, br_netfilter *bridges* what `publish_outside` leads back to the bridge: `published_pass` marks it.
    """
    bridge, table = _quoted(settings.bridge), settings.nft_table
    fence_out = f"oifname != {_quoted(settings.uplink)} drop" if settings.uplink else "accept"
    out_link = f"oifname {_quoted(settings.uplink)}" if settings.uplink else f"oifname != {bridge}"
    return f"""\
table inet {table} {{
    map class {{ typeof ip saddr : meta priority; comment "for routed jobs"; }}
    map host_class {{ typeof meta cgroup : meta priority; comment "net_cls, for jobs in the host's network"; }}
    set reach {{ typeof ip daddr . meta skuid; comment "which host user may connect to a job"; }}
    map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; comment "host port to job"; }}
    set resolver {{ type ipv4_addr; comment "name servers told to jobs"; }}
    set fenced {{ typeof iifname; comment "links between which this host did not forward before us"; }}
    set metadata {{ type ipv4_addr; elements = {{ {", ".join(METADATA)} }} }}

    chain loopback_guard {{
        type filter hook prerouting priority raw; policy accept;
        iifname {bridge} ip daddr 127.0.0.0/8 drop
    }}
    chain publish_outside {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local dnat ip to meta l4proto . th dport map @published
    }}
    chain published_pass {{
        type filter hook prerouting priority -99; policy accept;
        iifname {bridge} ct status dnat meta mark set {PASSED:#x}
    }}
    chain publish_host {{
        type nat hook output priority -100; policy accept;
        fib daddr type local dnat ip to meta l4proto . th dport map @published
    }}
    chain job_to_host {{
        type filter hook input priority filter; policy accept;
        iifname != {bridge} accept
        ct state established,related accept
        icmp type echo-request accept
        ip daddr @resolver meta l4proto {{ tcp, udp }} th dport 53 accept
        drop
    }}
    chain host_to_job {{
        type filter hook output priority filter; policy accept;
        oifname != {bridge} accept  # also what publish_host redirects: the hook still sees lo
        ct state established,related accept
        meta skuid 0 accept
        ip daddr . meta skuid @reach accept
        reject with icmp type admin-prohibited
    }}
    chain routed {{
        type filter hook forward priority filter; policy accept;
        iifname @fenced oifname @fenced drop
        iifname {bridge} oifname {bridge} goto within
        iifname {bridge} goto outward
        oifname {bridge} ct state established,related accept
        oifname {bridge} ct status dnat accept
        oifname {bridge} drop
    }}
    chain within {{
        meta mark {PASSED:#x} accept
        drop
    }}
    chain outward {{
        ip saddr != {settings.subnet} drop
        ip daddr @metadata drop
        ct state established,related accept
        {fence_out}
    }}
    chain classify {{
        type filter hook postrouting priority mangle; policy accept;
        meta priority set ip saddr map @class
        meta priority set meta cgroup map @host_class
    }}
    chain hide {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {settings.subnet} {out_link} masquerade
        oifname {bridge} ct status dnat ip saddr {{ {settings.subnet}, 127.0.0.0/8 }} masquerade
    }}
}}"""
