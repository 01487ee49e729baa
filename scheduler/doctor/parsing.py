"""From the text of files to facts: os-release, /proc/self/status, routes, subordinate ids, modules. Pure.

A line of another shape is left out: files may be cut off, masked, or from a later kernel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.hostcaps import MountLine

# linux/capability.h, in the order of their bits.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
_FAMILIES = {
    "debian": "debian", "ubuntu": "debian", "fedora": "fedora", "rhel": "fedora", "centos": "fedora",
    "suse": "suse", "opensuse": "suse", "sles": "suse", "arch": "arch", "alpine": "alpine",
}  # fmt: skip
MODULE_STATES = {
    "here": "loaded or built in",
    "perhaps": "built in or missing: this kernel loads no modules, so to try it is harmless",
    "loadable": "a file of this kernel's modules",
    "absent": "not among this kernel's modules",
    "unknown": "modules can be loaded, but which there are is not to be seen, as in a container",
}
_RTF_GATEWAY = 0x2  # linux/route.h


def capabilities(status: str) -> tuple[str, ...]:
    """The effective set in /proc/self/status."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(match[1], 16) if match else 0
    return tuple(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def status_list(status: str, key: str) -> str:
    """`Cpus_allowed_list` → 0-3."""
    match = re.search(rf"^{key}:\s*(\S+)$", status, re.MULTILINE)
    return match[1] if match else ""


def distribution(os_release: str) -> tuple[str, str]:
    """(name for people, family of package names) of /etc/os-release."""
    pairs = (line.partition("=") for line in os_release.splitlines())
    values = {key: value.strip().strip("\"'") for key, _, value in pairs}
    words = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".split()
    family = next((_FAMILIES[word.partition("-")[0]] for word in words if word.partition("-")[0] in _FAMILIES), "")
    return values.get("PRETTY_NAME", values.get("ID", "")), family


def enabled_controllers(proc_cgroups: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """/proc/cgroups → (enabled: hierarchy number, disabled at boot)."""
    rows = [line.split() for line in proc_cgroups.splitlines() if not line.startswith("#")]
    rows = [row for row in rows if len(row) == 4 and row[1].isdigit()]
    return {row[0]: int(row[1]) for row in rows if row[3] == "1"}, tuple(row[0] for row in rows if row[3] != "1")


def routes(table: str, besides: str) -> tuple[str, tuple[str, ...]]:
    """/proc/net/route → (link of the default route, networks that do not lead through `besides`)."""
    uplink, networks = "", []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not re.fullmatch(r"[0-9A-F]{8}", fields[1]) or fields[0] == besides:
            continue
        network = IPv4Network((_address(fields[1]), bin(int(fields[7], 16)).count("1")), strict=False)
        if network.prefixlen == 0 and int(fields[3], 16) & _RTF_GATEWAY:
            uplink = uplink or fields[0]
        elif network.prefixlen:
            networks.append(str(network))
    return uplink, tuple(networks)


def _address(little_endian: str) -> str:
    return str(IPv4Address(bytes.fromhex(little_endian)[::-1]))


def subordinate(text: str) -> list[tuple[int, int]]:
    """(first, count) of each line of /etc/subuid."""
    rows = (line.split(":") for line in text.splitlines())
    return [(int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].isdigit() and row[2].isdigit()]


def accounts_within(passwd: str, first: int, end: int) -> tuple[int, ...]:
    rows = (line.split(":") for line in passwd.splitlines())
    uids = (int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit())
    return tuple(sorted(uid for uid in uids if first <= uid < end))


def mount_of(path: str, mounts: Sequence[MountLine]) -> MountLine | None:
    """The last mounted of those that `path` is below. Without touching it: it may hang."""
    above = [each for each in mounts if path == each.point or path.startswith(each.point.rstrip("/") + "/")]
    return max(above, key=lambda each: len(each.point), default=None)


def module_state(name: str, *, seen: bool, builtin: str, dependencies: str | None, loading: bool) -> str:
    """One of MODULE_STATES. `builtin` and `dependencies` are modules.builtin and modules.dep (None: no such folder);
    `loading`: this kernel can load modules at all."""
    files = (rf"{re.escape(each)}\.ko(?:\.\w+)?\b" for each in sorted({name, name.replace("_", "-")}))
    pattern = re.compile(rf"/(?:{'|'.join(files)})", re.MULTILINE)
    if seen or pattern.search(builtin):
        return "here"
    if not loading:
        return "perhaps"
    if dependencies is None:
        return "unknown"
    return "loadable" if pattern.search(dependencies) else "absent"
