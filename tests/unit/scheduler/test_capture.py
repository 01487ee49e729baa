"""Captures of machines: whole enough to read the topology from, and without what names a machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from scheduler.capture import ABOUT, Captured, capture
from scheduler.topology import read_topology

FILES = sorted((Path(__file__).parents[2] / "data" / "sysfs").glob("*.json"))


def here(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def test_the_capture_of_this_machine_reads_as_this_machine() -> None:
    files = Captured(json.loads(json.dumps(capture(here, os.listdir))))
    assert read_topology(files.read, files.listdir) == read_topology(here, os.listdir)


def test_a_capture_names_no_machine() -> None:
    files = capture(here, os.listdir, "about it")
    assert files.pop(ABOUT) == "about it"
    allowed = r"/sys/devices/system/(cpu|node)/|/sys/devices/cpu_|/sys/fs/cgroup/cpuset|/proc/(cpuinfo|meminfo)$|"
    allowed += r"/proc/self/status$|/proc/sys/kernel/osrelease$"
    assert [path for path in files if not re.match(allowed, path)] == []
    assert set(files["/proc/self/status"].split()[::2]) == {"Cpus_allowed_list:", "Mems_allowed_list:"}
    assert {line.split(":")[0].strip() for line in files["/proc/cpuinfo"].splitlines()} <= {"model name", "cpu"}
    assert os.uname().nodename not in json.dumps(files) or len(os.uname().nodename) < 3


def test_lines_that_are_not_wanted_are_left_out() -> None:
    files = Captured({
        "/proc/self/status": "Name:\tsecret\nUid:\t1000\nCpus_allowed_list:\t0\nMems_allowed_list:\t0\n",
        "/proc/cpuinfo": "processor: 0\nmodel name\t: X\nserial\t: 1234\nmodel name\t: X\n",
        "/sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 4 kB\nNode 0 Active: 4 kB\n",
        "/sys/devices/system/node/online": "0\n",
    })  # fmt: skip
    kept = capture(files.read, files.listdir)
    assert kept["/proc/self/status"] == "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n"
    assert kept["/proc/cpuinfo"] == "model name\t: X\n"
    assert kept["/sys/devices/system/node/node0/meminfo"] == "Node 0 MemTotal: 4 kB\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_capture_of_a_capture_is_the_same_machine(path: Path) -> None:
    files = Captured(json.loads(path.read_text()))
    again = Captured(capture(files.read, files.listdir))
    assert read_topology(again.read, again.listdir) == read_topology(files.read, files.listdir)


def test_folders_are_what_the_paths_imply() -> None:
    files = Captured({"/a/b/c": "1", "/a/b/d/e": "2", ABOUT: "not a path"})
    assert files.listdir("/a/b") == ["c", "d"]
    with pytest.raises(FileNotFoundError):
        files.listdir("/a/b/c/x")
    with pytest.raises(FileNotFoundError):
        files.read("/a/b")
