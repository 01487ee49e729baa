"""The files of a machine that its topology is read from, as one dictionary path → text, to be sent to who asks. Pure.

`read` and `listdir` are injected. Nothing that names the machine or its owner is taken: of files with more in them only
the lines named in `_LINES` are kept; no serial numbers, host names, MAC addresses or asset tags are among these files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from scheduler.processors import CPU, ListDir, Read, names
from scheduler.topology import read_topology

_NODE = "/sys/devices/system/node"
# Files of which only some lines are of use, or fit to be shown.
_LINES = {
    r"/proc/cpuinfo": r"(?:model name|cpu model|cpu)\s*:.*",
    r"/proc/meminfo": r"(?:MemTotal|MemFree|HugePages_Total|HugePages_Free|Hugepagesize):.*",
    r"/proc/self/status": r"(?:Cpus|Mems)_allowed_list:.*",
    rf"{_NODE}/node\d+/meminfo": r"Node \d+ (?:MemTotal|MemFree|HugePages_Total|HugePages_Free):.*",
}
# Of use to whoever looks at the capture, though the topology is not made of them.
_BESIDE = (
    "/proc/sys/kernel/osrelease",
    f"{CPU}/kernel_max", f"{CPU}/possible", f"{CPU}/present", f"{CPU}/offline", f"{CPU}/nohz_full",
    f"{CPU}/smt/active", f"{CPU}/smt/control",
    f"{_NODE}/possible", f"{_NODE}/has_cpu", f"{_NODE}/has_memory", f"{_NODE}/has_normal_memory",
    "/sys/fs/cgroup/cpuset.cpus.effective", "/sys/fs/cgroup/cpuset.mems.effective",
    "/sys/fs/cgroup/cpuset/cpuset.effective_cpus", "/sys/fs/cgroup/cpuset/cpuset.effective_mems",
)  # fmt: skip
_OF_CPU = ("topology/core_id", "topology/die_id", "topology/cluster_id", "acpi_cppc/highest_perf", "cpu_capacity",
           "cpufreq/cpuinfo_max_freq")  # fmt: skip
ABOUT = "about"  # the one key that is no path


def capture(read: Read, listdir: ListDir, about: str = "") -> dict[str, str]:
    """`read_topology` of the result is `read_topology` of the machine (a test says so)."""
    found: dict[str, str] = {}

    def keep(path: str) -> str:
        found[path] = _fit(path, read(path))
        return found[path]

    def keep_if_there(path: str) -> None:
        try:
            keep(path)
        except (OSError, ValueError):
            pass

    off = {item.cpu for item in read_topology(keep, listdir).withheld if item.why == "offline"}
    for path in _BESIDE:
        keep_if_there(path)
    for name, _ in names(listdir, CPU, r"cpu(\d+)"):
        for file in _OF_CPU:
            keep_if_there(f"{CPU}/{name}/{file}")
    for node, _ in names(listdir, _NODE, r"node(\d+)"):
        for cpu, number in names(listdir, f"{_NODE}/{node}", r"cpu(\d+)"):
            if number in off:  # that it is below its node's folder is what one wants to know
                found[f"{_NODE}/{node}/{cpu}/online"] = ""
                keep_if_there(f"{_NODE}/{node}/{cpu}/online")
    if about:
        found[ABOUT] = about
    return dict(sorted(found.items()))


def _fit(path: str, text: str) -> str:
    for pattern, lines in _LINES.items():
        if re.fullmatch(pattern, path):
            kept = dict.fromkeys(line for line in text.splitlines() if re.fullmatch(lines, line))
            return "".join(f"{line}\n" for line in kept)
    return text.rstrip("\0")


class Captured:
    """A capture as a machine: `read` and `listdir` for `read_topology`. Folders are what the paths imply."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self._folders: dict[str, set[str]] = {}
        for path in files:
            parts = path.split("/")
            for end in range(1, len(parts)):
                self._folders.setdefault("/".join(parts[:end]), set()).add(parts[end])

    def read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def listdir(self, folder: str) -> Sequence[str]:
        try:
            return sorted(self._folders[folder])
        except KeyError:
            raise FileNotFoundError(folder) from None
