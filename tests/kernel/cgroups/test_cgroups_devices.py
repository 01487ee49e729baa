"""Opening what is not on the list gives EPERM, with the v1 controller and with the BPF program of v2."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import anyio
import pytest

from runtime.cgroups.devices import rule_for
from runtime.cgroups.files import read
from runtime.cgroups.limits import STANDARD_DEVICES, DeviceRule, Limits

GENEROUS = Limits(memory_bytes=256 << 20)
OPEN = """
import os, sys
for path, mode in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        os.close(os.open(path, {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[mode]))
        print("ok")
    except OSError as refused:
        print(refused.strerror)
"""


@pytest.fixture(params=["v1", "v2"])
def device_bench(request):
    """Both ways on one hybrid host: v1's controller, and BPF on the unified hierarchy."""
    return request.getfixturevalue("v1_bench" if request.param == "v1" else "v2_bench")


def tries(bench, group, *pairs):
    code, out, err = bench.python(group, OPEN, *pairs)
    assert code == 0, err
    return out.splitlines()


def test_the_standard_list(device_bench):
    group = device_bench.group(GENEROUS)
    nodes = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
    assert tries(device_bench, group, *(word for node in nodes for word in (node, "rw"))) == ["ok"] * len(nodes)
    assert (
        tries(device_bench, group, "/dev/kmsg", "r", "/dev/loop-control", "r", "/dev/fuse", "rw")
        == ["Operation not permitted"] * 3
    )


def test_one_more_device(device_bench):
    group = device_bench.group(replace(GENEROUS, devices=(*STANDARD_DEVICES, rule_for("/dev/fuse"))))
    assert tries(device_bench, group, "/dev/fuse", "rw", "/dev/kmsg", "r") == ["ok", "Operation not permitted"]


def test_read_only_device(device_bench):
    group = device_bench.group(replace(GENEROUS, devices=(*STANDARD_DEVICES, rule_for("/dev/kmsg", "r"))))
    assert tries(device_bench, group, "/dev/kmsg", "r", "/dev/kmsg", "w") == ["ok", "Operation not permitted"]


def test_making_nodes_is_refused(device_bench, tmp_path):
    group = device_bench.group(GENEROUS)
    code, _, err = device_bench.run(group, ["/bin/mknod", str(tmp_path / "node"), "b", "7", "0"])
    assert code != 0 and "Operation not permitted" in err


def test_a_running_program_never_meets_deny_all(device_bench):
    """The list is changed 200 times under a program that opens /dev/null all the while."""
    group = device_bench.group(GENEROUS)
    code = (
        "import os, sys\nprint(flush=True)\nn = 0\n"
        "while not os.path.exists(sys.argv[1]):\n  os.close(os.open('/dev/null', os.O_RDWR)); n += 1\nprint(n)"
    )
    flag = f"/tmp/jt-cg-{os.getpid()}-{device_bench.tree.root}"
    process = device_bench.start(group, [sys.executable, "-c", code, flag])
    process.stdout.readline()
    for turn in range(200):
        more = (DeviceRule("c", 10, 229),) if turn % 2 else ()
        group.apply(replace(GENEROUS, devices=(*STANDARD_DEVICES, *more)))
    open(flag, "w").close()
    out, err = process.communicate(timeout=30)
    os.unlink(flag)
    assert process.returncode == 0, err
    assert int(out) > 0


def test_v1_list_reads_back(v1_bench):
    group = v1_bench.group(GENEROUS)
    shown = read(f"{group.places['devices'].run}/devices.list").splitlines()
    assert sorted(shown) == sorted(map(str, STANDARD_DEVICES))
    anyio.run(group.remove)


def test_rule_for_refuses_a_file(tmp_path):
    with pytest.raises(OSError, match="not a device node"):
        rule_for(str(tmp_path))
