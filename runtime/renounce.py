"""Steps by which a process becomes the job's: powers are given up one by one, then execve. Launcher side.

Done by the container's pid 1 and by every process that enters a running job. The order is the plan's.
"""

from __future__ import annotations

import base64
import errno
import os
import resource
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime import steps as s
from runtime import syscalls as sc
from runtime.context import Context
from runtime.process import default_signals


def limits(step: s.Limits, context: Context) -> None:
    for number, soft, hard in step.limits:
        most = resource.getrlimit(number)[1]
        allowed = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(number, (min(soft, allowed), allowed))


def affinity(step: s.Affinity, context: Context) -> None:
    os.sched_setaffinity(0, step.cpus or range(1024))  # bits of CPUs that do not exist are ignored


def interleave(step: s.Interleave, context: Context) -> None:
    """Static: a change of the cpuset's nodes changes what is gone round, not the wish (set_mempolicy(2))."""
    try:
        sc.set_mempolicy(sc.MPOL_INTERLEAVE | sc.MPOL_F_STATIC_NODES, step.nodes)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without NUMA has one node
            raise


def drop_bounding(step: s.DropBounding, context: Context) -> None:
    sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_CLEAR_ALL)
    with suppress(OSError):  # EINVAL: one beyond the last that this kernel knows
        for capability in range(sc.CAP_LAST_CAP + 1):
            sc.prctl(sc.PR_CAPBSET_DROP, capability)


def become_user(step: s.BecomeUser, context: Context) -> None:
    os.umask(0o022)
    os.setgroups(step.groups)
    os.setresgid(step.gid, step.gid, step.gid)
    os.setresuid(step.uid, step.uid, step.uid)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)  # until execve, nobody of the job may look into this process (CVE-2016-9962)


def drop_capabilities(step: s.DropCapabilities, context: Context) -> None:
    sc.capset_empty()


def no_new_privileges(step: s.NoNewPrivileges, context: Context) -> None:
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)


def keyring(step: s.Keyring, context: Context) -> None:
    try:
        sc.keyctl_join_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without keys has none to leak
            raise


def working_folder(step: s.WorkingFolder, context: Context) -> None:
    fd = sc.openat2(sc.AT_FDCWD, step.path, os.O_PATH | os.O_DIRECTORY, resolve=sc.RESOLVE_NO_MAGICLINKS)
    os.fchdir(fd)
    os.close(fd)


def find_program(step: s.FindProgram, context: Context) -> None:
    """Like execvp(3): EACCES when only files that may not be executed were found."""
    name = step.program
    places = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in step.search.split(":")]
    seen = errno.ENOENT
    for path in places:
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            seen = errno.EACCES if error.errno == errno.EACCES else seen
            continue
        if regular and os.access(path, os.X_OK):
            context.program = path
            return
        seen = errno.EACCES
    raise OSError(seen, os.strerror(seen), name)


def close_descriptors(step: s.CloseDescriptors, context: Context) -> None:
    """At execve, not before: the socket that tells of its success is among them."""
    sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)


def seccomp(step: s.Seccomp, context: Context) -> None:
    sc.seccomp_set_filter(base64.b64decode(step.program))


def execute(step: s.Execute, context: Context) -> None:
    default_signals()
    os.execve(step.path or context.program, step.argv, dict(step.env))


STEPS: dict[type, Callable[[Any, Context], None]] = {
    s.Limits: limits,
    s.Affinity: affinity,
    s.Interleave: interleave,
    s.DropBounding: drop_bounding,
    s.BecomeUser: become_user,
    s.DropCapabilities: drop_capabilities,
    s.NoNewPrivileges: no_new_privileges,
    s.Keyring: keyring,
    s.WorkingFolder: working_folder,
    s.FindProgram: find_program,
    s.CloseDescriptors: close_descriptors,
    s.Seccomp: seccomp,
    s.Execute: execute,
}
