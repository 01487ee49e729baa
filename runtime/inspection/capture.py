"""Looks at the processes of a job through /proc, frozen or not, without touching them: files and memory are read only.

It blocks: call it in a thread. A process that goes away meanwhile is left out. The limits keep a job that has a
hundred thousand descriptors from filling the daemon's memory; what they cut is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobs.inspection import File, Lock, Process, Socket, Thread
from runtime.inspection import calls, procfs
from runtime.seccomp import call_name

MOST_PROCESSES = 512
MOST_THREADS = 4096  # in all
MOST_FILES = 1024  # of each process
MOST_REGIONS = 64  # of each process, the largest
MOST_TEXT = 1 << 20  # of one file of /proc
SECRETS = ("TOKEN", "SECRET", "PASSW", "CREDENTIAL", "PRIVATE", "APIKEY", "_KEY", "COOKIE")
HIDDEN = "(hidden)"
_TICKS = os.sysconf("SC_CLK_TCK")


class Capture:
    """`pids`: of the host. `environment`: with the variables, those that look like secrets hidden."""

    def __init__(self, pids: Sequence[int], *, environment: bool, proc: str = "/proc") -> None:
        self._proc, self._environment = proc, environment
        self._pids = list(pids)
        self._threads_left = MOST_THREADS
        self._sockets: dict[str, Mapping[int, Socket]] = {}  # by network namespace
        self.missing: list[str] = []

    def processes(self) -> tuple[Process, ...]:
        """By their number in the job."""
        if len(self._pids) > MOST_PROCESSES:
            self.missing.append(f"{len(self._pids) - MOST_PROCESSES} of {len(self._pids)} processes: too many to show")
        numbers: dict[int, int] = {}
        found = []
        for pid in sorted(self._pids)[:MOST_PROCESSES]:
            try:
                process = self._process(pid)
            except (OSError, ValueError, LookupError):
                continue  # it has ended
            numbers[pid] = process.pid
            found.append(process)
        found = [replace(each, parent=numbers.get(each.parent, 0)) for each in found]
        return tuple(sorted(self._with_locks(found, numbers), key=lambda each: each.pid))

    # ── one process ─────────────────────────────────────────────────────────────────────────────────────────────

    def _process(self, pid: int) -> Process:
        fields = procfs.status(self._text(f"{pid}/status"))
        files = self._files(pid)
        mappings = procfs.maps(self._text(f"{pid}/maps", missing="")) if fields["State"][0] != "Z" else []
        context = calls.Context({file.fd: file for file in files}, self._peek(pid))
        threads = self._threads(pid, context, mappings)
        known = {thread.tid for thread in threads}
        return Process(
            pid=procfs.own_number(fields, "NSpid"),
            host_pid=pid,
            parent=int(fields["PPid"]),
            argv=_words(self._text(f"{pid}/cmdline", missing="")) or (f"[{fields['Name']}]",),
            program=self._link(f"{pid}/exe"),
            folder=self._link(f"{pid}/cwd"),
            uid=int(fields["Uid"].split()[0]),
            threads=tuple(replace(each, mutex_owner=0) if each.mutex_owner not in known else each for each in threads),
            files=files,
            memory=tuple(procfs.numa_maps(self._text(f"{pid}/numa_maps", missing=""))[:MOST_REGIONS]),
            environment=_masked(self._text(f"{pid}/environ", missing="")) if self._environment else None,
        )

    def _threads(self, pid: int, context: calls.Context, mappings: list[procfs.Mapping]) -> tuple[Thread, ...]:
        found = []
        tids = sorted(map(int, os.listdir(f"{self._proc}/{pid}/task")))
        if len(tids) > self._threads_left:
            self.missing.append(f"{len(tids) - self._threads_left} threads of a process: too many to show")
        for tid in tids[: self._threads_left]:
            try:
                found.append(self._thread(f"{pid}/task/{tid}", tid, context, mappings))
            except (OSError, ValueError, LookupError):
                continue
        self._threads_left -= len(found)
        return tuple(found)

    def _thread(self, at: str, tid: int, context: calls.Context, mappings: list[procfs.Mapping]) -> Thread:
        stat = procfs.stat(self._text(f"{at}/stat"))
        fields = procfs.status(self._text(f"{at}/status"))
        raw = procfs.syscall(self._text(f"{at}/syscall", missing=""))
        call = None
        if raw is not None and raw.number is not None:
            call = calls.decode(call_name(raw.number), raw.arguments, context)
        channel = self._text(f"{at}/wchan", missing="")
        return Thread(
            tid=procfs.own_number(fields, "NSpid"),
            host_tid=tid,
            name=stat.name,
            state=procfs.STATES.get(stat.state, stat.state),
            wait_channel="" if channel == "0" else channel,
            call=call,
            stack_pointer=raw.stack_pointer if raw else 0,
            program_counter=raw.program_counter if raw else 0,
            where=procfs.place_of(raw.program_counter, mappings) if raw else "",
            cpu=stat.cpu,
            cpu_s=stat.ticks / _TICKS,
            switches=sum(
                int(fields.get(name, 0)) for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
            ),
            kernel_stack=tuple(line.partition("] ")[2] for line in self._text(f"{at}/stack", missing="").splitlines()),
            mutex_owner=calls.mutex_owner(call, context.peek) if call is not None else 0,
        )

    def _files(self, pid: int) -> tuple[File, ...]:
        try:
            numbers = sorted(map(int, os.listdir(f"{self._proc}/{pid}/fd")))
        except OSError:
            return ()
        if len(numbers) > MOST_FILES:
            self.missing.append(
                f"{len(numbers) - MOST_FILES} of {len(numbers)} descriptors of a process: too many to show"
            )
        found = []
        for fd in numbers[:MOST_FILES]:
            try:
                target = self._link(f"{pid}/fd/{fd}")
                offset, mode = procfs.fdinfo(self._text(f"{pid}/fdinfo/{fd}"))
            except (OSError, ValueError):
                continue
            socket = self._socket(pid, int(target[8:-1])) if target.startswith("socket:[") else None
            found.append(File(fd, target, mode, offset, socket))
        return tuple(found)

    def _socket(self, pid: int, inode: int) -> Socket | None:
        namespace = self._link(f"{pid}/ns/net")
        if namespace not in self._sockets:
            tables: dict[int, Socket] = {}
            for kind in ("tcp", "tcp6", "udp", "udp6"):
                tables |= procfs.inet_sockets(self._text(f"{pid}/net/{kind}", missing=""), kind)
            self._sockets[namespace] = tables | procfs.unix_sockets(self._text(f"{pid}/net/unix", missing=""))
        return self._sockets[namespace].get(inode)

    # ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _with_locks(self, processes: list[Process], numbers: Mapping[int, int]) -> list[Process]:
        by_pid: dict[int, list[Lock]] = {}
        for lock in procfs.locks(self._text("locks", missing="")):
            if lock.pid in numbers:
                found = Lock(numbers[lock.pid], lock.kind, lock.mode, self._path_of(lock), lock.waiting)
                by_pid.setdefault(lock.pid, []).append(found)
        return [replace(each, locks=tuple(by_pid.get(each.host_pid, ()))) for each in processes]

    def _path_of(self, lock: procfs.RawLock) -> str:
        """The path by which the process has the file open; else its inode."""
        try:
            for fd in os.listdir(f"{self._proc}/{lock.pid}/fd"):
                if os.stat(f"{self._proc}/{lock.pid}/fd/{fd}").st_ino == lock.file[2]:
                    return self._link(f"{lock.pid}/fd/{fd}")
        except OSError:
            pass
        return f"inode {lock.file[2]}"

    # ── files ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, path: str, missing: str | None = None) -> str:
        """Raises OSError, or is `missing` where that is given."""
        try:
            with open(f"{self._proc}/{path}", "rb") as file:
                return file.read(MOST_TEXT).decode(errors="replace")
        except OSError:
            if missing is None:
                raise
            return missing

    def _link(self, path: str) -> str:
        try:
            return os.fsdecode(os.readlink(os.fsencode(f"{self._proc}/{path}"))).encode(errors="replace").decode()
        except OSError:
            return ""

    def _peek(self, pid: int) -> calls.Peek:
        def peek(address: int, size: int) -> bytes:
            try:
                fd = os.open(f"{self._proc}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return b""
            try:
                return os.pread(fd, size, address)
            except (OSError, OverflowError):
                return b""
            finally:
                os.close(fd)

        return peek


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.rstrip("\0").split("\0")) if text.strip("\0") else ()


def _masked(text: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in text.split("\0") if "=" in word)
    return {
        name: HIDDEN if value and any(secret in name.upper() for secret in SECRETS) else value
        for name, _, value in pairs
    }
