"""From facts to findings, one missing thing at a time: what is said, what it costs whom, and what mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from config.settings import Settings
from jobs.host import CONTROLLERS, ControllerMount, HostCaps
from runtime.outcome import Outcome
from scheduler.doctor.diagnose import diagnose
from scheduler.doctor.facts import Facts, Folder, Hierarchy, Machine, Wires
from scheduler.doctor.finding import JOBS, JOBSD, LAUNCHER, Finding, fatal
from scheduler.doctor.parsing import CAPABILITIES

V2 = "/sys/fs/cgroup"
ON_V2 = ("memory", "hugetlb", "cpu", "cpuacct", "cpuset", "io", "devices", "freezer", "pids")
ALL_EIGHT = ("mnt", "uts", "ipc", "pid", "net", "cgroup", "time", "user")
CALLS = ("clone3", "openat2", "close_range", "pidfd_getfd", "open_tree", "fsopen", "mount_setattr")
MODULES = ("overlay", "ext4", "loop", "bridge", "veth", "nf_tables", "sch_tbf", "sch_htb")
DISK = 1 << 40


def caps(**changed: Any) -> HostCaps:
    values: dict[str, Any] = {
        "kernel": "6.12.0", "boot_id": "", "unified": V2, "freezer": "v2", "namespaces": frozenset(ALL_EIGHT),
        "controllers": {name: ControllerMount(name, 2, V2) for name in ON_V2},
        "features": frozenset({"psi", "loop", "overlay", "seccomp", "bpf-devices", "bpf-egress"}),
    }  # fmt: skip
    return HostCaps(**{**values, **changed})


def a_host(**changed: Any) -> Facts:
    """One that lacks nothing; `changed` says what is different."""
    worked = Outcome(True)
    tries = {f"namespace:{kind}": worked for kind in ALL_EIGHT} | {f"call:{name}": worked for name in CALLS}
    tries |= dict.fromkeys(
        ("id-map", "mount:proc", "mount:sysfs", "seccomp", "overlay:/", "overlay:idmapped", "idmap:tmpfs", "idmap:/",
         f"group:{V2}", "punch-hole", "loop", "bpf:devices", "bpf:egress", "nft:list", "nft:tables", "links",
         "queue:tbf", "queue:htb"), worked)  # fmt: skip
    values: dict[str, Any] = {
        "kernel": "6.12.0", "machine": "x86_64", "distribution": "Debian GNU/Linux 13 (trixie)", "family": "debian",
        "capabilities": CAPABILITIES, "caps": caps(), "hierarchies": (Hierarchy(2, V2, True, V2),),
        "compiled": dict.fromkeys(("cpuset", "cpu", "memory", "net_prio", "net_cls"), 0),
        "passed_on": {V2: "cpuset cpu io memory hugetlb pids"}, "swap_limited": True, "io_weights": True,
        "core": Machine(8, "0-7", "", "", "0-7", (0, 1), (), 64 << 30, 8 << 30),
        "wires": Wires(uplink="eth0", queue="htb 4a0b:", routes=("192.0.2.0/24",)),
        "folders": (Folder("state", "/var/lib/jobs", "ext4", "/", free_bytes=DISK), Folder("root", "/", "ext4", "/"),
                    Folder("home", "/home", "ext4", "/")),
        "modules": dict.fromkeys(MODULES, "here"),
        "programs": {"mkfs.ext4": "/sbin/mkfs.ext4"}, "init_program": "/usr/bin/catatonit",
        "sysctls": {"user/max_user_namespaces": "60000", "net/ipv4/ip_forward": "1"}, "open_files": 65536,
        "tries": {**tries, "landlock": Outcome(True, "6")},
    }  # fmt: skip
    return Facts(**{**values, **changed})


def problems(facts: Facts, **settings: Any) -> list[Finding]:
    return [each for each in diagnose(facts, Settings(**settings)) if each.state not in ("ok", "unknown")]


def only_problem(facts: Facts, **settings: Any) -> Finding:
    found = problems(facts, **settings)
    assert [each.name for each in found] == [found[0].name] if found else False, found
    return found[0]


def tried(**outcomes: str) -> dict[str, Outcome]:
    """`a_host`'s tries with these refused: keys have `__` for `:`."""
    return {**a_host().tries, **{name.replace("__", ":", 1): Outcome(False, said) for name, said in outcomes.items()}}


def test_a_host_that_has_everything_has_no_problem() -> None:
    assert problems(a_host()) == []
    assert "unknown" not in {each.state for each in diagnose(a_host(), Settings())}


# name → (what is different, settings, state, words that must be in the three texts)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, tuple[str, str, str]]] = {
    "machine": ({"machine": "riscv64"}, {}, "fatal", ("riscv64", "no job can start", "x86_64")),
    "version": ({"kernel": "5.13.1", "compiled": {}}, {}, "limited", ("Linux 5.13", "memory.peak", "5.19")),
    "system calls": (
        {"tries": tried(call__clone3="ENOSYS: Function not implemented")}, {}, "fatal",
        ("clone3: ENOSYS", "filter of system calls", "seccomp=unconfined"),
    ),
    "kinds": (
        {"tries": tried(namespace__user="ENOSPC: No space left on device"),
         "sysctls": {"user/max_user_namespaces": "0"}}, {}, "fatal",
        ("user: ENOSPC", "no job can start", "sysctl -w user.max_user_namespaces=15000 (is 0)"),
    ),
    "how many": (
        {"sysctls": {"user/max_net_namespaces": "64"}}, {}, "limited",
        ("user.max_net_namespaces = 64", "at most 64 jobs", "sysctl -w user.max_net_namespaces="),
    ),
    "ids of jobs": (
        {"subordinate": ((1879048000, 65536),)}, {}, "limited", ("1879048000", "same owner", "id_first"),
    ),
    "own proc": (
        {"tries": tried(mount__proc="EPERM: Operation not permitted")}, {}, "fatal",
        ("proc can't be mounted", "masked", "unmask=ALL"),
    ),
    "capabilities": (
        {"capabilities": tuple(set(CAPABILITIES) - {"net_admin"})}, {}, "fatal",
        ("CAP_NET_ADMIN", "bridge", "CapabilityBoundingSet"),
    ),
    "CAP_SYS_RESOURCE": (
        {"capabilities": tuple(set(CAPABILITIES) - {"sys_resource"}), "container": "/.dockerenv"}, {}, "limited",
        ("CAP_SYS_RESOURCE", "ulimit", "--cap-add SYS_RESOURCE"),
    ),
    "hierarchies": (
        {"hierarchies": (), "caps": caps(controllers={}, unified="", freezer=""), "compiled": {}}, {}, "fatal",
        ("no cgroup filesystem", "no job can start", "mount -t cgroup2"),
    ),
    "groups of jobs": (
        {"tries": {**a_host().tries, f"group:{V2}": Outcome(False, f"EROFS: Read-only file system: {V2}/x")}}, {},
        "fatal", (f"{V2}: EROFS: Read-only file system", "no job can start", f"mount -o remount,rw {V2}"),
    ),
    "pids": (
        {"caps": caps(controllers={name: ControllerMount(name, 2, V2) for name in ON_V2 if name != "pids"}),
         "compiled": {}, "disabled": ("pids",)}, {}, "missing",
        ("switched off at boot", "fork bomb", "cgroup_enable=pids"),
    ),
    "passed on": (
        {"passed_on": {V2: "cpu memory pids", f"{V2}/a": "cpu", f"{V2}/a/jobs": "cpu"}}, {"cgroup_root": "a/jobs"},
        "limited", (f"{V2}/a/jobs has not: memory pids", "resources.memory", "restart jobsd"),
    ),
    "room for jobs": (
        {"held": f"{V2}/shell"}, {}, "fatal", (f"{V2}/shell holds", "no job can start", "cgroup_root"),
    ),
    "I/O weights": ({"io_weights": False}, {}, "limited", ("BFQ", "--io-weight do nothing", "echo bfq")),
    "isolated CPUs": (
        {"core": replace(a_host().core, isolated="6-7")}, {}, "limited",
        ("6-7", "don't get", "use_isolated_cpus = true"),
    ),
    "owner": ({"init": "systemd"}, {}, "limited", ("'jobs'", "daemon-reload", "install.md")),
    "the setting freezer": (
        {}, {"freezer": "v1"}, "fatal", ("freezer = 'v1', and this host offers v2", "told to", 'freezer = "auto"'),
    ),
    "out of memory": (
        {"caps": caps(controllers={**caps().controllers, "memory": ControllerMount("memory", 1, "/cg/memory")})}, {},
        "limited", ("memory.oom.group", "one process", "cgroup_no_v1=all"),
    ),
    "swap of jobs": ({"swap_limited": False}, {}, "limited", ("not accounted", "resources.swap", "swapaccount=1")),
    "pressure": (
        {"caps": caps(features=caps().features - {"psi"})}, {}, "limited", ("/proc/pressure", "jobs show", "psi=1"),
    ),
    "overlay": (
        {"tries": tried(**{"overlay__/": "ENODEV: No such device"})}, {}, "fatal", ("ENODEV", "no job can start", ""),
    ),
    "imported images": (
        {"tries": tried(overlay__idmapped="EINVAL: Invalid argument"), "kernel": "5.15.0", "compiled": {},
         }, {}, "missing",
        ("EINVAL", "jobs image import", "Linux 5.19"),
    ),
    "mounts": (
        {"folders": (*a_host().folders, Folder("mount", "/data", "nfs4", "/data", remote=True))}, {}, "limited",
        ("/data (nfs4)", "submit_dir", "copy the data"),
    ),
    "mounts of tmpfs": (
        {"tries": tried(idmap__tmpfs="EINVAL: Invalid argument")}, {}, "limited", ("tmpfs", "/dev/shm", "Linux 6.3"),
    ),
    "state folder": (
        {"folders": (Folder("state", "/var/lib/jobs", "tmpfs", "/var"), *a_host().folders[1:])}, {}, "limited",
        ("on tmpfs", "gone after a reboot", "state_dir"),
    ),
    "mkfs.ext4": ({"programs": {}, "family": "fedora"}, {}, "fatal", ("mkfs.ext4", "no job", "dnf install e2fsprogs")),
    "loop devices": (
        {"tries": tried(loop="EPERM: Operation not permitted: /dev/loop-control"), "container": "x"}, {}, "fatal",
        ("/dev/loop-control", "no job can start", "--device /dev/loop-control"),
    ),
    "nftables": (
        {"wires": replace(a_host().wires, binding="libnftables for Python is missing"), "family": "arch"}, {}, "fatal",
        ("libnftables", "no job can start", "pacman -S nftables"),
    ),
    "links": (
        {"modules": {**a_host().modules, "veth": "absent"}}, {}, "fatal", ("no veth", "bridge", "CONFIG_VETH"),
    ),
    "bridge": (
        {"wires": replace(a_host().wires, bridge="foreign")}, {}, "fatal",
        ("a link jobs0", "no job", "ip link del jobs0"),
    ),
    "subnet": (
        {"wires": replace(a_host().wires, routes=("10.0.0.0/8",))}, {}, "fatal",
        ("10.213.0.0/16", "no job", "subnet ="),
    ),
    "/proc/sys": ({"read_only_sysctls": True}, {}, "fatal", ("read-only", "forward", "remount,rw /proc/sys")),
    "another firewall": (
        {"wires": replace(a_host().wires, obstacles=("ip table filter, chain FORWARD: drops by default",))}, {},
        "limited", ("chain FORWARD", "reach nobody outside", "iptables -I FORWARD -i jobs0 -j ACCEPT"),
    ),
    "iptables-legacy": (
        {"wires": replace(a_host().wires, legacy=("filter",))}, {}, "limited",
        ("filter", "FORWARD chain drops", "iptables-legacy -I FORWARD -i jobs0"),
    ),
    "uplink": ({"wires": Wires(queue="")}, {}, "limited", ("no default route", "nobody else", "ip route add default")),
    "rates": (
        {"tries": tried(queue__tbf="ENOENT: No such file or directory")}, {}, "missing",
        ("ENOENT", "network.rate", "CONFIG_NET_SCH_TBF"),
    ),
    "classes of host-network jobs": (
        {"tries": tried(bpf__egress="EPERM: Operation not permitted"), "compiled": {},
         "caps": caps(features=caps().features - {"bpf-egress"})}, {}, "missing",
        ("no net_prio", 'network.mode = "host"', "CONFIG_CGROUP_NET_PRIO"),
    ),
    "classes on the wire": (
        {"wires": replace(a_host().wires, queue="fq_codel 0:")}, {}, "limited",
        ("eth0 has the queue fq_codel", "nobody acts on it", "priority-on-the-uplink.md"),
    ),
    "Landlock": (
        {"tries": tried(landlock="EOPNOTSUPP: Operation not supported")}, {}, "limited",
        ("EOPNOTSUPP", "images", "lsm="),
    ),
    "SELinux": ({"selinux": "enforcing"}, {}, "limited", ("enforcing", "Permission denied", "ausearch")),
    "seccomp": (
        {"seccomp_policy": "Unable to find libseccomp"}, {}, "fatal",
        ("libseccomp", "no job can start", "apt-get install libseccomp2"),
    ),
    "devices": (
        {"tries": tried(bpf__devices="EINVAL: Invalid argument")}, {}, "missing",
        ("EINVAL", "resources.devices is refused", "CONFIG_CGROUP_BPF"),
    ),
    "pid 1 of jobs": (
        {"init_program": ""}, {}, "fatal", ("catatonit", "no job can start", "apt-get install catatonit"),
    ),
    "CPUs": (
        {"core": replace(a_host().core, allowed="0-3", cpus=4)}, {}, "limited",
        ("0-3 of 0-7", "CPUs 4-7", "taskset"),
    ),
    "offline CPUs": (
        {"core": replace(a_host().core, offline="8-9")}, {}, "limited", ("8-9", "don't get them", "echo 1 >"),
    ),
    "memory": (
        {"core": replace(a_host().core, memory_bytes=256 << 20)}, {}, "missing",
        ("reserve_memory = 512MiB", "no job fits", "reserve_memory"),
    ),
    "open files": ({"open_files": 1024}, {}, "limited", ("ulimit -n: 1024", "64 jobs", "LimitNOFILE")),
    "clock": ({"clock_behind_s": 7200.0}, {}, "limited", ("2.0 h before", "schedules are wrong", "set-ntp")),
    "time zones": ({"zones": False}, {}, "limited", ("zoneinfo", "UTC", "apt-get install tzdata")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_lack_is_one_finding_that_says_what_it_costs_and_what_mends_it(name: str) -> None:
    changed, settings, state, (seen, costs, mends) = CASES[name]
    found = [each for each in problems(a_host(**changed), **settings) if each.name == name]
    assert len(found) == 1, problems(a_host(**changed), **settings)
    assert found[0].state == state
    assert seen in found[0].seen and costs in found[0].costs and mends in found[0].mends, found[0]


@pytest.mark.parametrize("name", [name for name in CASES if name != "imported images"])  # of a kernel that is old
def test_and_it_is_the_only_one(name: str) -> None:
    """What follows from one lack is not told as lacks of its own."""
    changed, settings, _, _ = CASES[name]
    assert [each.name for each in problems(a_host(**changed), **settings)] == [name]


@pytest.mark.parametrize("name", CASES)
def test_fatal_things_say_whom_they_stop_and_others_stop_nobody(name: str) -> None:
    changed, settings, _, _ = CASES[name]
    for each in problems(a_host(**changed), **settings):
        assert bool(each.stops) == (each.state == "fatal")
        assert set(each.stops) <= {JOBSD, LAUNCHER, JOBS}


def test_every_controller_but_those_of_the_network_costs_something() -> None:
    without = caps(controllers={"freezer": ControllerMount("freezer", 2, V2)})
    found = {each.name for each in problems(a_host(caps=without, compiled={}))}
    assert set(CONTROLLERS) - {"freezer", "net_cls", "net_prio"} <= found


def test_what_the_daemon_mounts_for_itself_is_not_missing() -> None:
    without = caps(controllers={name: ControllerMount(name, 2, V2) for name in ON_V2 if name != "hugetlb"})
    assert problems(a_host(caps=without, compiled={"hugetlb": 0})) == []
    assert only_problem(a_host(caps=without, compiled={})).name == "hugetlb"


def test_hierarchies_of_the_daemon_s_own_do_not_make_a_host_hybrid() -> None:
    with_ours = {**caps().controllers, "net_prio": ControllerMount("net_prio", 1, "/run/jobs/cgroup/net_prio")}
    found = diagnose(a_host(caps=caps(controllers=with_ours)), Settings())
    assert [each.name for each in found if each.area == "cgroups"] == ["pure v2"]


def test_a_kernel_too_old_stops_the_launcher_and_not_the_daemon() -> None:
    found = diagnose(a_host(kernel="5.10.0-32-amd64"), Settings())
    assert [each.name for each in fatal(found, LAUNCHER)] == ["version"]
    assert fatal(found, JOBSD) == ()


def test_only_v1_s_freezer_is_a_limit_and_none_is_fatal() -> None:
    on_v1 = {"freezer": ControllerMount("freezer", 1, "/sys/fs/cgroup/freezer")}
    others = {name: ControllerMount(name, 1, f"/cg/{name}") for name in CONTROLLERS if name != "freezer"}
    pure_v1 = caps(unified="", freezer="v1", controllers={**others, **on_v1})
    found = {each.name: each for each in problems(a_host(caps=pure_v1))}
    assert found["v1"].state == "limited" and "mount -t cgroup2" in found["v1"].mends
    assert "v1" in {each.name for each in problems(a_host(caps=pure_v1), freezer="v1")}
    none = caps(unified="", freezer="", controllers=others)
    assert next(each for each in problems(a_host(caps=none)) if each.name == "freezer").stops == (JOBSD,)


def test_namespaces_that_the_kernel_has_not_and_those_that_are_not_to_be_seen() -> None:
    without = only_problem(a_host(caps=caps(namespaces=frozenset(ALL_EIGHT) - {"time"})))
    assert "none of: time" in without.seen and without.mends.endswith("CONFIG_TIME_NS=y")
    assert problems(a_host(caps=caps(namespaces=frozenset()))) == []


# ── who asks ────────────────────────────────────────────────────────────────────────────────────────────────────────

REFUSED = {name: Outcome(False, "EPERM: Operation not permitted") for name in a_host().tries}


def test_to_a_plain_user_what_was_refused_to_them_is_not_known_and_not_missing() -> None:
    found = diagnose(a_host(uid=1000, capabilities=(), tries=REFUSED), Settings())
    assert [each.name for each in found if each.state in ("fatal", "missing", "limited")] == ["root"]
    unknown = [each for each in found if each.state == "unknown"]
    assert unknown and {each.seen for each in unknown} == {"only root can tell"}


def test_started_by_a_plain_user_daemon_and_launcher_refuse() -> None:
    for part in (JOBSD, LAUNCHER):
        found = diagnose(a_host(uid=1000, capabilities=(), asked_by=part, tries={}), Settings())
        assert [each.name for each in fatal(found, part)] == ["root"]
        assert "sudo jobsd" in fatal(found, part)[0].mends


def test_without_sys_admin_there_is_one_reason_and_not_ten() -> None:
    lacking = tuple(set(CAPABILITIES) - {"sys_admin"})
    found = diagnose(a_host(capabilities=lacking, tries=REFUSED, container="/.dockerenv"), Settings())
    assert [each.name for each in fatal(found)] == ["capabilities", "groups of jobs"]
    assert {each.seen for each in found if each.state == "unknown"} == {"not told without CAP_SYS_ADMIN"}


def test_root_of_a_user_namespace_is_told_so() -> None:
    refused = {**REFUSED, "overlay:/": Outcome(False, "EINVAL: Invalid argument"), f"group:{V2}": Outcome(True)}
    found = diagnose(a_host(own_users=True, tries=refused), Settings())
    assert [each.name for each in fatal(found)] == ["user namespace"]


def test_the_daemon_s_own_look_tries_nothing_and_calls_nothing_fatal_for_that() -> None:
    assert fatal(diagnose(a_host(asked_by=JOBSD, tries={}), Settings())) == ()


def test_a_module_that_can_be_loaded_is_not_missing_and_was_not_tried() -> None:
    names = ("overlay:/", "overlay:idmapped", "loop", "nft:list", "nft:tables", "links", "queue:tbf", "queue:htb")
    tries = {name: outcome for name, outcome in a_host().tries.items() if name not in names}
    found = diagnose(a_host(tries=tries, modules=dict.fromkeys(a_host().modules, "loadable")), Settings())
    assert [each for each in found if each.state not in ("ok",)] == []
