"""From files of all kinds of hosts to facts, also cut off, masked or of another shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.hostcaps import is_for_files, may_hang, parse_mountinfo
from scheduler.doctor import parsing

STATUS = """Name:\tjobsd
CapEff:\t00000000a80425fb
Cpus_allowed:\tf
Cpus_allowed_list:\t0-3
"""
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
jobs0\t0000D50A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
CGROUPS = """#subsys_name\thierarchy\tnum_cgroups\tenabled
cpuset\t3\t1\t1
memory\t0\t1\t0
net_prio\t0\t1\t1
"""


def test_capabilities_by_name() -> None:
    """Docker's default set."""
    found = parsing.capabilities(STATUS)
    assert found == (
        "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "net_bind_service",
        "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap",
    )  # fmt: skip
    assert parsing.capabilities("") == ()
    assert parsing.status_list(STATUS, "Cpus_allowed_list") == "0-3"


@pytest.mark.parametrize(
    ("text", "name", "family"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n', "Debian GNU/Linux 12 (bookworm)", "debian"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "linuxmint", "debian"),
        ('PRETTY_NAME="Rocky Linux 9"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', "Rocky Linux 9", "fedora"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "opensuse-leap", "suse"),
        ("NAME=Own\nID=own\n", "own", ""),
        ("", "", ""),
    ],
)
def test_distribution(text: str, name: str, family: str) -> None:
    assert parsing.distribution(text) == (name, family)


def test_controllers_of_the_kernel() -> None:
    assert parsing.enabled_controllers(CGROUPS) == ({"cpuset": 3, "net_prio": 0}, ("memory",))
    assert parsing.enabled_controllers("") == ({}, ())


def test_routes_but_those_of_our_bridge() -> None:
    assert parsing.routes(ROUTES, "jobs0") == ("eth0", ("192.0.2.0/24",))
    assert parsing.routes("", "jobs0") == ("", ())


def test_subordinate_ids_and_accounts() -> None:
    assert parsing.subordinate("alice:100000:65536\n# no\nbob:x:1\n") == [(100000, 65536)]
    passwd = "root:x:0:0::/root:/bin/sh\nx:x:1879048200:5::/:/bin/sh\nbroken\n"
    assert parsing.accounts_within(passwd, 1879048192, 1879048192 + 65536) == (1879048200,)


MOUNTS = parse_mountinfo(
    "21 1 254:0 / / rw - ext4 /dev/vda rw\n"
    "30 21 0:40 / /home rw - nfs4 server:/home rw\n"
    "31 21 254:1 / /usr rw - ext4 /dev/vdb rw\n"
    "32 21 0:41 / /tmp rw - tmpfs tmpfs rw\n"
    "33 21 0:42 / /net rw - autofs systemd-1 rw\n"
    "34 21 0:43 / /run/user/1 rw - tmpfs tmpfs rw\n"
)


def test_a_path_is_on_the_innermost_mount_and_is_not_touched_for_that() -> None:
    assert [parsing.mount_of(path, MOUNTS).point for path in ("/home/a/b", "/homework", "/usr", "/x")] == [  # type: ignore[union-attr]
        "/home", "/", "/usr", "/",
    ]  # fmt: skip
    assert parsing.mount_of("/x", []) is None


def test_mounts_for_people_s_files_and_those_that_may_hang() -> None:
    assert [each.point for each in MOUNTS if is_for_files(each)] == ["/home", "/tmp"]
    assert [each.point for each in MOUNTS if may_hang(each.fstype)] == ["/home", "/net"]


DEPENDENCIES = """kernel/fs/overlayfs/overlay.ko.xz:
kernel/net/netfilter/nf_tables.ko: kernel/lib/x.ko
kernel/net/sched/sch-tbf.ko:
"""


@pytest.mark.parametrize(
    ("name", "seen", "builtin", "dependencies", "loading", "state"),
    [
        ("overlay", True, "", "", True, "here"),
        ("ext4", False, "kernel/fs/ext4/ext4.ko\n", "", True, "here"),
        ("overlay", False, "", DEPENDENCIES, True, "loadable"),
        ("sch_tbf", False, "", DEPENDENCIES, True, "loadable"),
        ("tables", False, "", DEPENDENCIES, True, "absent"),
        ("loop", False, "", DEPENDENCIES, True, "absent"),
        ("loop", False, "", None, True, "unknown"),
        ("loop", False, "", None, False, "perhaps"),
        ("loop", False, "", DEPENDENCIES, False, "perhaps"),
    ],
)
def test_modules(name: str, seen: bool, builtin: str, dependencies: str | None, loading: bool, state: str) -> None:
    found = parsing.module_state(name, seen=seen, builtin=builtin, dependencies=dependencies, loading=loading)
    assert found == state and state in parsing.MODULE_STATES


@given(st.text(max_size=200))
def test_no_text_is_too_strange(text: str) -> None:
    parsing.capabilities(text)
    parsing.distribution(text)
    parsing.enabled_controllers(text)
    parsing.routes("title\n" + text, "jobs0")
    parsing.subordinate(text)
    parsing.accounts_within(text, 0, 1)
