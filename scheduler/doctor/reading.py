"""Facts by reading alone: no process is started, nothing is mounted, written or loaded. The daemon's start uses this.

A file that is missing, masked or unreadable is a fact that keeps its default, never an error.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from dataclasses import replace
from ipaddress import IPv4Network

from config.settings import Settings
from jobs import cpuset
from jobs.host import HostCaps
from jobs.units import render_size
from netbridge import nft
from netbridge.names import mac_of
from runtime import hostcaps, seccomp
from runtime.cgroups import private_mounts
from runtime.hostcaps import MountLine
from scheduler.doctor import parsing, reading_groups
from scheduler.doctor.facts import Facts, Folder, Machine, Wires
from scheduler.doctor.sources import names, nearest, read, text
from scheduler.topology import read_topology

BIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("catatonit", "tini-static", "mkfs.ext4", "criu", "gdb", "py-spy")
MODULES = ("overlay", "ext4", "loop", "bridge", "veth", "nf_tables", "sch_tbf", "sch_htb")
SYSCTLS = (
    "user/max_user_namespaces", "user/max_net_namespaces", "user/max_mnt_namespaces", "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter", "net/bridge/bridge-nf-call-iptables", "kernel/yama/ptrace_scope",
    "kernel/apparmor_restrict_unprivileged_userns", "kernel/pid_max", "vm/overcommit_memory",
)  # fmt: skip

_UNIT = "system.slice/jobs-cgroup.service"  # config/systemd


def read_facts(settings: Settings, asked_by: str, caps: HostCaps | None = None) -> Facts:
    """`caps` of the host as it is, without the hierarchies that the daemon mounts for itself."""
    caps = caps or hostcaps.probe(f"{settings.run_dir}/cgroup")
    mounts = hostcaps.visible(hostcaps.parse_mountinfo(text("/proc/self/mountinfo")))
    status = text("/proc/self/status")
    name, family = parsing.distribution(text("/etc/os-release") or text("/usr/lib/os-release"))
    compiled, disabled = parsing.enabled_controllers(text("/proc/cgroups"))
    ids_end = settings.id_first + settings.id_blocks * 66560
    return Facts(
        asked_by=asked_by,
        kernel=os.uname().release,
        machine=os.uname().machine,
        distribution=name,
        family=family,
        init="systemd" if os.path.isdir("/run/systemd/system") else "",
        container=_container(),
        uid=os.geteuid(),
        own_users=text("/proc/self/uid_map").split() not in ([], ["0", "0", "4294967295"]),
        capabilities=parsing.capabilities(status),
        caps=caps,
        hierarchies=reading_groups.hierarchies(settings, caps, mounts),
        compiled=compiled,
        disabled=disabled,
        passed_on=reading_groups.passed_on(settings, caps),
        held=reading_groups.held(settings, caps),
        swap_limited=reading_groups.swap_limited(caps),
        io_weights=reading_groups.io_weights(caps),
        core=_machine(status, settings.use_isolated_cpus),
        wires=_wires(settings),
        folders=_folders(settings, mounts),
        modules=_modules(caps),
        programs={program: shutil.which(program, path=BIN) or "" for program in PROGRAMS},
        init_program=hostcaps.find_reaper(settings.init),
        seccomp_policy=_seccomp_policy(),
        sysctls={path: value for path in SYSCTLS if (value := text(f"/proc/sys/{path}").strip())},
        read_only_sysctls=not os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK),
        lsms=tuple(filter(None, text("/sys/kernel/security/lsm").strip().split(","))),
        selinux={"1": "enforcing", "0": "permissive"}.get(text("/sys/fs/selinux/enforce").strip(), ""),
        subordinate=tuple(
            sorted({each for path in ("/etc/subuid", "/etc/subgid") for each in parsing.subordinate(text(path))})
        ),
        accounts=parsing.accounts_within(text("/etc/passwd"), settings.id_first, ids_end),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        clock_behind_s=max(0.0, os.stat(__file__).st_mtime - time.time()),
        zones=os.path.isdir("/usr/share/zoneinfo/Europe"),
    )


def as_packaged(settings: Settings) -> Settings:
    """The units tell jobsd by a variable where its groups are, and whoever asks the doctor does not have it."""
    points = private_mounts.mount_points(text("/proc/self/mountinfo"), "cgroup2")
    if settings.cgroup_root == Settings().cgroup_root and any(os.path.isdir(f"{each}/{_UNIT}") for each in points):
        return replace(settings, cgroup_root=_UNIT)
    return settings


def _container() -> str:
    for path in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container"):
        if os.path.exists(path):
            return path
    return "container= in the environment of pid 1" if "container=" in text("/proc/1/environ") else ""


# ── machine ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _machine(status: str, use_isolated: bool) -> Machine:
    cpu = "/sys/devices/system/cpu"
    seen = read_topology(read, os.listdir, use_isolated_cpus=use_isolated)
    meminfo = {key: int(value.split()[0]) << 10 for key, _, value in _pairs("/proc/meminfo") if value.split()}
    sizes = hostcaps.parse_hugepage_sizes(names("/sys/kernel/mm/hugepages"))
    reserved = {
        render_size(size): int(text(f"/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB/nr_hugepages").strip() or 0)
        for size in sizes
    }
    return Machine(
        cpus=len(seen.cpus),
        online=text(f"{cpu}/online").strip(),
        offline=text(f"{cpu}/offline").strip(),
        isolated=cpuset.render(each.cpu for each in seen.withheld if each.why == "isolated"),
        allowed=parsing.status_list(status, "Cpus_allowed_list"),
        nodes=tuple(node.id for node in seen.nodes),
        memory_only=tuple(node.id for node in seen.nodes if not node.cpus),
        memory_bytes=meminfo.get("MemTotal", 0),
        swap_bytes=meminfo.get("SwapTotal", 0),
        hugepages=reserved,
    )


def _pairs(path: str) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in text(path).splitlines()]


# ── filesystems and modules ─────────────────────────────────────────────────────────────────────────────────────────


def _folders(settings: Settings, mounts: list[MountLine]) -> tuple[Folder, ...]:
    """Those that matter by their role, then what else is mounted for people's files. None of them is touched if its
    server may be away."""
    roles = {
        "state": settings.state_dir, "run": settings.run_dir, "root": "/", "home": "/home", "tmp": "/tmp",
        "here": _here(),
    }  # fmt: skip
    found = [_folder(role, path, mounts) for role, path in roles.items() if path]
    known = {each.point for each in found}
    others = [each for each in mounts if each.point not in known and hostcaps.is_for_files(each)]
    return (*found, *(_folder("mount", each.point, mounts) for each in others[:20]))


def _folder(role: str, path: str, mounts: list[MountLine]) -> Folder:
    mount = parsing.mount_of(path, mounts)
    fstype, point = (mount.fstype, mount.point) if mount else ("", "")
    if hostcaps.may_hang(fstype):
        return Folder(role, path, fstype, point, remote=True)
    near = nearest(path)
    return Folder(
        role,
        path,
        fstype,
        point,
        exists=near == path,
        writable=os.access(near, os.W_OK),
        free_bytes=_free(near),
    )


def _free(path: str) -> int:
    try:
        seen = os.statvfs(path)
    except OSError:
        return -1
    return seen.f_bavail * seen.f_frsize


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _modules(caps: HostCaps) -> dict[str, str]:
    folder = f"/lib/modules/{os.uname().release}"
    builtin = text(f"{folder}/modules.builtin")
    dependencies = text(f"{folder}/modules.dep") if os.path.exists(f"{folder}/modules.dep") else None
    helper = text("/proc/sys/kernel/modprobe").strip()
    loading = bool(helper) and text("/proc/sys/kernel/modules_disabled").strip() != "1"
    filesystems = hostcaps.parse_filesystems(text("/proc/filesystems"))
    return {
        name: parsing.module_state(
            name,
            seen=name in filesystems or os.path.isdir(f"/sys/module/{name}"),
            builtin=builtin,
            dependencies=dependencies,
            loading=loading,
        )
        for name in MODULES
    }


def _seccomp_policy() -> str:
    try:
        seccomp.default_program()
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        return str(error)
    return ""


# ── network ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _wires(settings: Settings) -> Wires:
    uplink, networks = parsing.routes(text("/proc/net/route"), settings.bridge)
    return Wires(
        binding=nft.missing(),
        uplink=settings.uplink or uplink,
        routes=networks,
        bridge=_bridge(settings),
        legacy=tuple(sorted(text("/proc/net/ip_tables_names").split())),
    )


def _bridge(settings: Settings) -> str:
    """By the address that carries our gateway's (netbridge/bridge.py)."""
    folder = f"/sys/class/net/{settings.bridge}"
    if not os.path.isdir(folder):
        return ""
    gateway = str(IPv4Network(settings.subnet).network_address + 1)
    ours = os.path.isdir(f"{folder}/bridge") and text(f"{folder}/address").strip() == mac_of(gateway)
    return "ours" if ours else "foreign"
