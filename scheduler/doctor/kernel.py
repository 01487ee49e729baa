"""The kernel: its age, its system calls, namespaces and ids; and the rights of whoever asks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scheduler.doctor.facts import Facts
from scheduler.doctor.finding import JOBSD, LAUNCHER, Finding, ok

if TYPE_CHECKING:
    from config.settings import Settings

OLDEST = (5, 12)  # mount_setattr(2): every mount of a job goes through it
_MACHINES = ("x86_64", "aarch64")  # whose system call numbers runtime/syscalls.py knows
# What a kernel before this version lacks, where no try tells.
_SINCE = (
    ((5, 14), "the processes of a job are killed one by one, not by one word (cgroup.kill)"),
    ((5, 15), "net_cls and net_prio are not mounted: that would stop all matching by v2 group (Cilium, nft socket)"),
    ((5, 19), "no memory peak of jobs on cgroup v2 (memory.peak)"),
)
# Capability → whom its lack stops, and what it is for.
_NEEDED = {
    "sys_admin": ((JOBSD, LAUNCHER), "namespaces, mounts and groups"),
    "net_admin": ((JOBSD,), "bridge, addresses and nftables"),
    "setuid": ((LAUNCHER,), "the id maps of jobs"),
    "setgid": ((LAUNCHER,), "the id maps of jobs"),
    "chown": ((JOBSD, LAUNCHER), "giving folders to the ids of jobs"),
    "dac_override": ((JOBSD, LAUNCHER), "reaching what belongs to the ids of jobs"),
    "kill": ((JOBSD,), "ending jobs"),
}
_ALL_EIGHT = ("pid", "net", "ipc", "mnt", "uts", "user", "cgroup", "time")
_CALLS = ("clone3", "openat2", "close_range", "pidfd_getfd", "open_tree", "fsopen", "mount_setattr")
_UNFILTERED = "run the container with --security-opt seccomp=unconfined (docker, podman)"
_UNMASKED = "--security-opt unmask=ALL (podman), --security-opt systempaths=unconfined (docker)"


def privileges(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if facts.uid != 0:
        yield _plain_user(facts)
        return
    if facts.own_users:
        yield Finding(
            "privileges",
            "user namespace",
            "fatal",
            "root of a user namespace, not of the host",
            "no job can start: what each writes goes to an ext4 of its own, which only the host's root may mount",
            "start jobsd on the host itself; as a container: not rootless, and with --userns=host",
            "/proc/self/uid_map",
            (JOBSD, LAUNCHER),
        )
        return
    lacking = [name for name in _NEEDED if name not in facts.capabilities]
    if lacking:
        stops = tuple(part for part in (JOBSD, LAUNCHER) if any(part in _NEEDED[name][0] for name in lacking))
        yield Finding(
            "privileges",
            "capabilities",
            "fatal",
            f"root without {', '.join(f'CAP_{name.upper()}' for name in lacking)}",
            f"no job can start: needed for {'; '.join(dict.fromkeys(_NEEDED[name][1] for name in lacking))}",
            _give_back(facts, lacking),
            "/proc/self/status",
            stops,
        )
    elif "sys_resource" not in facts.capabilities:
        yield Finding(
            "privileges",
            "CAP_SYS_RESOURCE",
            "limited",
            "root without CAP_SYS_RESOURCE",
            f"no job gets a higher ulimit than the launcher has: {facts.open_files} open files, where 524288 are usual",
            _give_back(facts, ["sys_resource"]),
            "/proc/self/status",
        )
    else:
        yield ok("privileges", "root", "root with all capabilities that are needed")


def _plain_user(facts: Facts) -> Finding:
    if facts.asked_by == "doctor":
        return Finding(
            "privileges",
            "root",
            "limited",
            f"asked by uid {facts.uid}",
            "what only root may try was not tried, so this is half of the picture",
            "sudo jobsctl doctor",
        )
    return Finding(
        "privileges",
        "root",
        "fatal",
        f"started by uid {facts.uid}",
        "no job can start: it makes namespaces, groups and links for other users",
        f"sudo jobsd{' launcher' if facts.asked_by == 'launcher' else ''}",
        stops=(JOBSD, LAUNCHER),
    )


def _give_back(facts: Facts, names: list[str]) -> str:
    listed = " ".join(f"--cap-add {name.upper()}" for name in names)
    if facts.container:
        return f"a container needs {listed} (docker, podman), or --privileged"
    return "start it outside of this sandbox; in a systemd unit, CapabilityBoundingSet= must not leave them out"


def kernel(facts: Facts, settings: Settings) -> Iterator[Finding]:
    version = _version(facts)
    yield version
    if version.state != "fatal":  # else that is why
        yield _calls(facts)


def _version(facts: Facts) -> Finding:
    seen, short = f"Linux {facts.kernel} {facts.machine}".strip(), f"{facts.version[0]}.{facts.version[1]}"
    if facts.machine and facts.machine not in _MACHINES:
        costs = "no job can start: the numbers of its system calls are not in runtime/syscalls.py"
        return Finding("kernel", "machine", "fatal", seen, costs, f"one of: {', '.join(_MACHINES)}", stops=(LAUNCHER,))
    if (0, 0) < facts.version < OLDEST:
        return Finding(
            "kernel",
            "version",
            "fatal",
            seen,
            "no job can start: their roots are made by calls that came with Linux 5.12 (mount_setattr)",
            "a newer kernel: linux-image-amd64 of bullseye-backports (Debian 11), linux-generic-hwe-20.04 (Ubuntu)",
            stops=(LAUNCHER,),
        )
    lacks = [what for since, what in _SINCE if (0, 0) < facts.version < since and _matters(what, facts)]
    if lacks:
        return Finding("kernel", "version", "limited", f"Linux {short}", "; ".join(lacks), "Linux 5.19 or later")
    return ok("kernel", "version", seen)


def _matters(what: str, facts: Facts) -> bool:
    memory = facts.caps.controllers.get("memory")
    if "memory.peak" in what:
        return memory is not None and memory.version == 2
    if "cgroup.kill" in what:
        return bool(facts.caps.unified)
    return bool({"net_cls", "net_prio"} & set(facts.compiled))


def _calls(facts: Facts) -> Finding:
    refused = [name for name in _CALLS if facts.tried(f"call:{name}") is False]
    if refused:
        said = facts.said(f"call:{refused[0]}")
        filtered = facts.version >= OLDEST
        return Finding(
            "kernel",
            "system calls",
            "fatal",
            f"{', '.join(refused)}: {said}",
            "no job can start: a filter of system calls is in the way" if filtered else "no job can start",
            _UNFILTERED if filtered else "Linux 5.12 or later",
            stops=(LAUNCHER,),
        )
    known = [name for name in _CALLS if facts.tried(f"call:{name}")]
    if len(known) < len(_CALLS):
        return Finding("kernel", "system calls", "unknown", facts.untold)
    return ok("kernel", "system calls", f"{len(known)} of {len(_CALLS)}")


def namespaces(facts: Facts, settings: Settings) -> Iterator[Finding]:
    shown = facts.caps.namespaces  # empty: /proc/self/ns is masked, or not for the eyes of who asks
    absent = [kind for kind in _ALL_EIGHT if shown and kind not in shown]
    refused = [kind for kind in _ALL_EIGHT if facts.tried(f"namespace:{kind}") is False]
    if absent:
        yield Finding(
            "namespaces",
            "kinds",
            "fatal",
            f"the kernel has none of: {', '.join(absent)}",
            "no job can start: a container is made of all eight",
            "a kernel with " + " ".join(f"CONFIG_{_config(kind)}_NS=y" for kind in absent),
            "/proc/self/ns",
            (LAUNCHER,),
        )
    elif refused:
        said = facts.said(f"namespace:{refused[0]}")
        yield Finding(
            "namespaces",
            "kinds",
            "fatal",
            f"{', '.join(refused)}: {said}",
            "no job can start: a container is made of all eight",
            _more_namespaces(facts, refused[0], said),
            stops=(LAUNCHER,),
        )
    elif all(facts.tried(f"namespace:{kind}") for kind in _ALL_EIGHT):
        yield ok("namespaces", "kinds", "8 of 8")
    else:
        yield Finding("namespaces", "kinds", "unknown", facts.untold)
    yield from _ids(facts, settings)
    yield from _fresh_views(facts)
    yield from _how_many(facts, settings)


def _config(kind: str) -> str:
    return {"mnt": "MNT", "cgroup": "CGROUPS"}.get(kind, kind.upper())


def _more_namespaces(facts: Facts, kind: str, said: str) -> str:
    name = f"user.max_{kind}_namespaces"
    if said.startswith("ENOSPC"):
        now = facts.sysctls.get(name.replace(".", "/"), "")
        return f"sysctl -w {name}=15000" + (f" (is {now})" if now else "")
    return _UNFILTERED if facts.container else "nothing here: another program's filter or policy refuses it"


def _ids(facts: Facts, settings: Settings) -> Iterator[Finding]:
    worked = facts.tried("id-map")
    last = settings.id_first + settings.id_blocks * 66560 - 1
    if worked is False:
        yield Finding(
            "namespaces",
            "ids of jobs",
            "fatal",
            f"ids from {settings.id_first} on can't be mapped: {facts.said('id-map')}",
            "no job can start: each runs under a block of 65536 ids of its own",
            "the setting id_first, to a range that is in /proc/self/uid_map; a container must be given one",
            "/proc/self/uid_map",
            (LAUNCHER,),
        )
        return
    clashes = [f"{first}–{first + count - 1}" for first, count in facts.subordinate
               if first <= last and settings.id_first < first + count]  # fmt: skip
    clashes += [f"account {uid}" for uid in facts.accounts]
    if clashes:
        yield Finding(
            "namespaces",
            "ids of jobs",
            "limited",
            f"{', '.join(clashes[:3])} are among those for jobs, {settings.id_first}–{last}",
            "files and processes of a job and of that user or container would be the same owner's",
            "the setting id_first, to a free range; or other lines in /etc/subuid and /etc/subgid",
            "/etc/subuid",
        )
    elif worked:
        yield ok("namespaces", "ids of jobs", f"{settings.id_blocks} blocks from {settings.id_first}, taken by nobody")


def _fresh_views(facts: Facts) -> Iterator[Finding]:
    for fstype in ("proc", "sysfs"):
        if facts.tried(f"mount:{fstype}") is False:
            yield Finding(
                "namespaces",
                f"own {fstype}",
                "fatal",
                f"a new {fstype} can't be mounted: {facts.said(f'mount:{fstype}')}",
                "no job can start: parts of it are masked here, and then the kernel gives nobody a whole one",
                f"no Protect…= in the launcher's unit; a container needs {_UNMASKED}",
                stops=(LAUNCHER,),
            )


def _how_many(facts: Facts, settings: Settings) -> Iterator[Finding]:
    for kind in ("user", "net", "mnt"):
        most = facts.sysctls.get(f"user/max_{kind}_namespaces", "")
        if most.isdigit() and 0 < int(most) < settings.max_jobs:
            yield Finding(
                "namespaces",
                "how many",
                "limited",
                f"user.max_{kind}_namespaces = {most}",
                f"at most {most} jobs at a time, where max_jobs = {settings.max_jobs}",
                f"sysctl -w user.max_{kind}_namespaces={max(15000, settings.max_jobs * 4)}",
                f"/proc/sys/user/max_{kind}_namespaces",
            )
