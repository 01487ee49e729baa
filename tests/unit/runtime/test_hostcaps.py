"""controller → (v1 mount | v2 | absent), read from captured mount tables of hybrid, pure v2 and pure v1 hosts."""

from __future__ import annotations

import pytest

from jobs.host import CONTROLLERS
from runtime import hostcaps
from runtime.hostcaps import find_controllers, find_submounts, find_unified, parse_mountinfo, visible

# Debian 12 under systemd: pure v2.
V2 = """\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
26 30 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=1989304k,nr_inodes=497326,mode=755
27 26 0:24 / /dev/pts rw,nosuid,noexec,relatime shared:3 - devpts devpts rw,gid=5,mode=620,ptmxmode=000
28 30 0:25 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=402516k,mode=755
30 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard,errors=remount-ro
31 24 0:6 / /sys/kernel/security rw,nosuid,nodev,noexec,relatime shared:8 - securityfs securityfs rw
33 24 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
37 25 0:32 / /proc/sys/fs/binfmt_misc rw,relatime shared:14 - autofs systemd-1 rw,fd=30,pgrp=1
45 30 254:15 / /boot/efi rw,relatime shared:33 - vfat /dev/vda15 rw,fmask=0022
"""
V2_CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc\n"

# This project's development machine: eight v1 hierarchies and an empty unified one, which hugetlb is on.
HYBRID = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 27 0:40 / /run/jobs/cgroup/net_cls rw,relatime - cgroup jobs rw,net_cls
51 27 0:41 / /run/jobs/cgroup/net_prio rw,relatime - cgroup jobs rw,net_prio
"""

# An older distribution: pure v1, controllers mounted in pairs, and a container engine's bind of a part of one.
V1 = """\
20 1 8:2 / / rw,relatime shared:1 - xfs /dev/sda2 rw
25 20 0:20 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,mode=755
60 20 0:21 /docker/3f1 /var/lib/engine/rootfs/sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
26 25 0:21 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
27 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpuacct,cpu
28 25 0:23 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid shared:11 - cgroup cgroup rw,net_prio,net_cls
29 25 0:24 / /sys/fs/cgroup/freezer rw,nosuid shared:12 - cgroup cgroup rw,freezer
30 25 0:25 / /sys/fs/cgroup/systemd rw,nosuid shared:13 - cgroup cgroup rw,xattr,name=systemd
"""


def where(text: str, offered: str = "", private_dir: str = "/run/jobs/cgroup") -> dict[str, tuple[int, str]]:
    found = find_controllers(parse_mountinfo(text), lambda point: offered, private_dir)
    return {name: (mount.version, mount.path) for name, mount in found.items()}


def test_pure_v2():
    found = where(V2, V2_CONTROLLERS)
    assert set(found) == set(CONTROLLERS) - {"net_cls", "net_prio"}
    assert set(found.values()) == {(2, "/sys/fs/cgroup")}


def test_pure_v2_without_delegated_controllers():
    assert set(where(V2, "")) == {"freezer", "devices"}


def test_hybrid():
    found = where(HYBRID, "hugetlb\n")
    assert set(found) == set(CONTROLLERS)
    assert found["io"] == (1, "/sys/fs/cgroup/blkio")
    assert found["hugetlb"] == (2, "/sys/fs/cgroup/unified")
    assert found["net_prio"] == (1, "/run/jobs/cgroup/net_prio")
    assert {name for name, (version, _) in found.items() if version == 2} == {"hugetlb"}


def test_mounts_of_another_daemon_do_not_count():
    assert "net_cls" not in where(HYBRID, "hugetlb", private_dir="/tmp/other/cgroup")


def test_pure_v1_pairs_and_a_partial_bind():
    found = where(V1)
    assert found["cpu"] == found["cpuacct"] == (1, "/sys/fs/cgroup/cpu,cpuacct")
    assert found["memory"] == (1, "/sys/fs/cgroup/memory")
    assert "io" not in found and "hugetlb" not in found and "pids" not in found
    assert find_unified(parse_mountinfo(V1)) == ""


def test_no_cgroups_at_all():
    assert where("27 1 254:0 / / rw - ext4 /dev/vda rw\n") == {}


def test_forced_v1_forgets_the_unified_hierarchy():
    caps = hostcaps.HostCaps(
        kernel="", boot_id="", unified="/sys/fs/cgroup/unified", freezer="v2", namespaces=frozenset(),
        controllers=find_controllers(parse_mountinfo(HYBRID), lambda point: "hugetlb"),
    )  # fmt: skip
    forced = hostcaps.forced_v1(caps)
    assert (forced.unified, forced.freezer) == ("", "v1")
    assert "hugetlb" not in forced.controllers and "memory" in forced.controllers


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        "27 1 254:0 / / rw",
        "27 1 254:0 / / rw - ext4",
        "27 1 x / / rw - ext4 /dev/vda rw",
        "1 - - - - - - a b c",
    ],
)
def test_odd_lines_are_left_out(line):
    assert parse_mountinfo(line) == []


def test_escapes():
    (mount,) = parse_mountinfo("1 2 8:1 / /mnt/a\\040b\\134c rw shared:3 master:4 - ext4 /dev/my\\040disk rw")
    assert (mount.point, mount.source, mount.device) == ("/mnt/a b\\c", "/dev/my disk", (8, 1))


def test_a_mount_that_is_hidden_does_not_count():
    hidden = (
        HYBRID + "90 31 0:90 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n91 90 0:91 / /sys/fs/cgroup rw - cgroup2 none rw\n"
    )
    points = [mount.point for mount in visible(parse_mountinfo(hidden))]
    assert "/sys/fs/cgroup/memory" not in points
    assert where(hidden, "memory")["memory"] == (2, "/sys/fs/cgroup")


SUBMOUNTS = """\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 254:1 / /usr ro - squashfs /dev/vdb ro
3 1 254:2 / /opt rw - xfs /dev/vdc rw
4 1 254:3 / /opt/cuda rw - btrfs /dev/vdd rw
5 1 254:4 / /sw rw - erofs /dev/vde rw
6 1 254:5 / /home rw - ext4 /dev/vdf rw
7 1 254:6 / /var rw - ext4 /dev/vdg rw
8 7 254:7 / /var/lib/docker rw - ext4 /dev/vdh rw
9 1 0:50 / /sw/net rw - nfs4 server:/sw rw
10 1 0:51 / /proc rw - proc proc rw
11 1 0:52 / /tmp rw - tmpfs tmpfs rw
12 1 0:53 / /data rw - fuse.sshfs user@host: rw
13 1 0:54 / /cluster rw - lustre mds:/fs rw
14 1 254:8 / /boot rw - ext4 /dev/vdi rw
15 1 254:0 /srv/tools /usr/local/tools rw - ext4 /dev/vda rw
16 1 0:55 / /nix/store rw - overlay overlay rw
"""


def test_submounts_are_the_hosts_software_only():
    assert find_submounts(parse_mountinfo(SUBMOUNTS)) == (
        "/nix/store", "/opt", "/opt/cuda", "/sw", "/usr", "/usr/local/tools",
    )  # fmt: skip


def test_no_submounts_on_plain_hosts():
    assert find_submounts(parse_mountinfo(V2)) == ()
    assert find_submounts(parse_mountinfo(HYBRID)) == ()


def test_hugepage_sizes():
    assert hostcaps.parse_hugepage_sizes(["hugepages-1048576kB", "hugepages-2048kB", "x"]) == (2 << 20, 1 << 30)


def test_filesystems():
    assert hostcaps.parse_filesystems("nodev\tsysfs\n\text4\nnodev\toverlay\n\n") == {"sysfs", "ext4", "overlay"}


def test_probe_on_this_machine():
    """Whatever it is: the values agree with each other and with the kernel."""
    caps = hostcaps.probe()
    assert caps.kernel and len(caps.boot_id) == 36
    assert {"pid", "net", "ipc", "mnt", "uts"} <= caps.namespaces
    assert (caps.freezer == "v2") == bool(caps.unified)
    assert all(mount.version in (1, 2) and mount.path.startswith("/") for mount in caps.controllers.values())
    assert list(caps.hugepage_sizes) == sorted(caps.hugepage_sizes)
