"""Opening what is not on the list gives EPERM, with the v1 controller and with the BPF program of v2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from leaks import polled
from patience import PATIENCE_S

from runtime import syscalls
from runtime.cgroups.device_bpf import program
from runtime.cgroups.devices import rule_for
from runtime.cgroups.files import read
from runtime.cgroups.limits import STANDARD_DEVICES, DeviceRule, Limits
from runtime.cgroups.programs import DEVICE, attach, attached

PROJECT = Path(__file__).parents[3]
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
def device_bench(request, caps):
    """Both ways on one hybrid host: v1's controller, and BPF on the unified hierarchy. `caps` comes first."""
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
    out, err = process.communicate(timeout=PATIENCE_S)
    os.unlink(flag)
    assert process.returncode == 0, err
    assert int(out) > 0


def lives(program: int) -> bool:
    try:
        os.close(syscalls.bpf_program_fd(program))
    except FileNotFoundError:
        return False
    return True


def test_v2_has_one_program_at_a_time_and_none_afterwards(v2_bench):
    """As the kernel lists them (BPF_PROG_QUERY); a replaced program is gone from the kernel, and so is the last one."""
    group, seen = v2_bench.group(GENEROUS), []
    for more in ((), (rule_for("/dev/fuse"),)) * 4:
        group.apply(replace(GENEROUS, devices=(*STANDARD_DEVICES, *more)))
        (program,) = attached(group.run_unified, DEVICE)
        seen.append(program)
    assert len(set(seen)) == 8
    assert polled(lambda: [program for program in seen if lives(program)] == seen[-1:], 20)
    anyio.run(group.remove)
    assert polled(lambda: not lives(seen[-1]), 20)


def test_v2_rules_outlive_who_set_them(v2_bench):
    """The group keeps its program: a daemon that is killed opens nothing to the job."""
    group = v2_bench.group(replace(GENEROUS, devices=(*STANDARD_DEVICES, rule_for("/dev/kmsg", "r"))))
    code = (
        "import os, signal, sys; from runtime.cgroups.programs import DEVICE, attach; "
        "from runtime.cgroups.device_bpf import program; from runtime.cgroups.limits import STANDARD_DEVICES; "
        "attach(sys.argv[1], DEVICE, program(STANDARD_DEVICES)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert tries(v2_bench, group, "/dev/kmsg", "r") == ["ok"]
    setter = subprocess.run([sys.executable, "-c", code, group.run_unified], cwd=PROJECT, check=False)
    assert setter.returncode == -signal.SIGKILL
    assert tries(v2_bench, group, "/dev/kmsg", "r", "/dev/null", "rw") == ["Operation not permitted", "ok"]


def test_v2_a_group_below_is_bound_too(v2_bench):
    """What a job makes below its group (nested containers) can allow itself nothing more."""
    group = v2_bench.group(GENEROUS)
    below = f"{group.run_unified}/below"
    os.mkdir(below)
    attach(below, DEVICE, program((*STANDARD_DEVICES, rule_for("/dev/kmsg", "r"))))
    script = f'echo 0 > {below}/cgroup.procs; exec "$@"'
    argv = ["/bin/sh", "-c", script, "sh", sys.executable, "-I", "-S", "-c", OPEN, "/dev/kmsg", "r"]
    assert v2_bench.run(group, argv)[1].split("\n")[0] == "Operation not permitted"


def test_v1_list_reads_back(v1_bench):
    group = v1_bench.group(GENEROUS)
    shown = read(f"{group.places['devices'].run}/devices.list").splitlines()
    assert sorted(shown) == sorted(map(str, STANDARD_DEVICES))
    anyio.run(group.remove)


def test_rule_for_refuses_a_file(tmp_path):
    with pytest.raises(OSError, match="not a device node"):
        rule_for(str(tmp_path))
