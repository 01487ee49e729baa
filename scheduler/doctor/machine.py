"""CPUs, memory nodes, huge pages, limits, programs, the clock. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs import cpuset
from jobs.units import parse_size, render_size
from scheduler.doctor.facts import Facts
from scheduler.doctor.finding import JOBSD, Finding, ok
from scheduler.doctor.packages import install

if TYPE_CHECKING:
    from config.settings import Settings

_FILES_PER_JOB = 16  # sockets, pidfds, logs that are read, cgroup files being waited for
_MEASURED_CLOCK_S = 60.0  # files of a fresh installation may be a little ahead


def machine(facts: Facts, settings: Settings) -> Iterator[Finding]:
    core = facts.core
    yield from _cpus(facts)
    if core.memory_bytes and core.memory_bytes <= parse_size(settings.reserve_memory):
        yield Finding(
            "machine",
            "memory",
            "missing",
            f"{render_size(core.memory_bytes)}, and reserve_memory = {settings.reserve_memory}",
            "no job fits: nothing is left for jobs",
            "the setting reserve_memory",
        )
    reserved = {size: count for size, count in core.hugepages.items() if count}
    pages = ", ".join(f"{count} × {size}" for size, count in reserved.items()) or "none reserved"
    nodes = f"{len(core.nodes)} memory node{'s' * (len(core.nodes) != 1)}"
    if core.memory_only:
        nodes += f" ({', '.join(map(str, core.memory_only))} without CPUs)"
    yield ok("machine", "CPUs", f"{core.cpus} of {len(_numbers(core.online)) or core.cpus} online, {nodes}")
    yield ok("machine", "huge pages", pages)


def _cpus(facts: Facts) -> Iterator[Finding]:
    core = facts.core
    kept = set(_numbers(core.online)) - set(_numbers(core.allowed)) if core.allowed else set()
    if core.isolated:
        yield Finding(
            "machine",
            "isolated CPUs",
            "limited",
            f"kept free of everybody at boot: {core.isolated}",
            "jobs don't get them",
            "if they are meant for jobs: use_isolated_cpus = true in /etc/jobs/jobs.toml",
            "/sys/devices/system/cpu/isolated",
        )
    if kept:
        yield Finding(
            "machine",
            "CPUs",
            "limited",
            f"this process may use {core.allowed} of {core.online}",
            f"jobs don't get CPUs {cpuset.render(sorted(kept))}",
            "start it without taskset and AllowedCPUs=; a container: without --cpuset-cpus",
            "/proc/self/status",
        )
    if core.offline:
        yield Finding(
            "machine",
            "offline CPUs",
            "limited",
            f"offline: {core.offline}",
            "jobs don't get them; jobsd sees CPUs that come online when it starts",
            "if it is not meant so: echo 1 > /sys/devices/system/cpu/cpuN/online, then restart jobsd",
            "/sys/devices/system/cpu/offline",
        )


def _numbers(text: str) -> tuple[int, ...]:
    """Nothing for a file that somebody covered with another one."""
    try:
        return cpuset.parse(text)
    except ValueError:
        return ()


def limits(facts: Facts, settings: Settings) -> Iterator[Finding]:
    wanted = settings.max_jobs * _FILES_PER_JOB
    if 0 <= facts.open_files < wanted:
        fit = facts.open_files // _FILES_PER_JOB
        yield Finding(
            "limits",
            "open files",
            "limited",
            f"ulimit -n: {facts.open_files}",
            f"enough for about {fit} jobs at a time, where max_jobs = {settings.max_jobs}",
            "LimitNOFILE=65536 in the units (ours have it), or ulimit -n 65536 before jobsd and jobsd launcher",
        )
    if facts.clock_behind_s > _MEASURED_CLOCK_S:
        yield Finding(
            "limits",
            "clock",
            "limited",
            f"the clock is {facts.clock_behind_s / 3600:.1f} h before our own files were written",
            "times in jobs list and schedules are wrong; running times and limits are not",
            "timedatectl set-ntp true, or: date -s",
        )
    if not facts.zones:
        yield Finding(
            "limits",
            "time zones",
            "limited",
            "no /usr/share/zoneinfo",
            "times can be shown in UTC only",
            install(facts.family, "tzdata"),
        )


def programs(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if facts.init_program:
        yield ok("programs", "pid 1 of jobs", facts.init_program)
    else:
        given = f"the setting init = {settings.init!r} is no program" if settings.init else ""
        yield Finding(
            "programs",
            "pid 1 of jobs",
            "fatal",
            given or "neither catatonit nor tini-static is installed",
            "no job can start: that program reaps its orphans",
            'init = ""' if given else install(facts.family, "catatonit"),
            stops=(JOBSD,),
        )
    debugging = {name: facts.programs.get(name, "") for name in ("gdb", "py-spy", "criu")}
    have = ", ".join(name for name, path in debugging.items() if path) or "none"
    lack = ", ".join(name for name, path in debugging.items() if not path)
    yield ok("programs", "for debugging", have + (f"; not installed: {lack}" if lack else ""))
