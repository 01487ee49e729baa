"""One guest from start to end: QEMU as our child, its output passed on as it comes, its result unpacked.

QEMU dies with the thread that started it (PR_SET_PDEATHSIG, by setpriv), whatever ends us.
"""

from __future__ import annotations

import os
import select
import subprocess
import tarfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vm import cache, image, machine, tree

NO_RESULT, TIMED_OUT = 125, 124  # as timeout(1) and env(1) number them
KERNEL_PARAMETERS = (
    "console=ttyS0", "panic=-1", "oops=panic", "quiet", "loglevel=4", "mitigations=off", "nokaslr",
    "psi=1", "tsc=reliable", "cryptomgr.notests", "random.trust_cpu=on",
    "init_on_alloc=0",  # a seventh of the emulated CPU time, measured
)  # fmt: skip
TRIAL_S = 8.0
_LAST_LINES = 15


@dataclass(frozen=True)
class Order:
    """What one guest shall do. *boots*: how often it may start, the first time included."""

    machine: machine.Machine
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    boots: int = 1
    results: Path | None = None  # where what the command left in /opt/jobs-out goes


@dataclass(frozen=True)
class Outcome:
    """*why* says what the rig has to say where the command has no status of its own.

    *seconds* of the clock grow with what else the host does, those of *cpu_s* hardly.
    """

    status: int
    seconds: float
    cpu_s: float
    why: str = ""


def run(order: Order, out: BinaryIO, err: BinaryIO) -> Outcome:
    """Boots a guest when fewer than two run on this host, runs the command in it, hands back how it ended."""
    with image.in_use() as built, cache.slot(), cache.run_folder() as folder:
        start = time.monotonic()
        tree.write_disk(folder / "tree.tar", order.command, _environment(order))
        how = _accelerator(built)
        with _Output(out) as outs, _Output(err) as errs:
            arguments = [*_qemu(built, order, how, folder), *outs.arguments("out"), *errs.arguments("err")]
            timed_out, cpu_s = _wait_for(arguments, folder, order.timeout_s, (outs.write_fd, errs.write_fd))
        status = _unpack_result(folder / "result.tar", order.results)
        seconds = time.monotonic() - start
        if status is not None:
            return Outcome(status, seconds, cpu_s)
        last = [*outs.last, *errs.last, *_tail(folder / "console"), *_tail(folder / "qemu")]
        said = "; it printed last:\n  " + "\n  ".join(last) if last else "; it printed nothing"
        if timed_out:
            return Outcome(TIMED_OUT, seconds, cpu_s, f"the time of {order.timeout_s:.0f} s ran out{said}")
        return Outcome(NO_RESULT, seconds, cpu_s, f"the guest ended without a result{said}")


def _environment(order: Order) -> dict[str, str]:
    base = {
        "JOBS_VM_BOOTS": str(order.boots),
        "JOBS_VM_INIT": order.machine.init,
        "JOBS_VM_CGROUP": order.machine.cgroup,
        "JOBS_TEST_REQUIRE": ",".join(machine.promises(order.machine)),
        "PYTEST_ADDOPTS": "--color=no -p no:cacheprovider",
    }
    return {**base, **order.environment}


def _wait_for(arguments: Sequence[str], folder: Path, timeout_s: float, fds: tuple[int, ...]) -> tuple[bool, float]:
    """Whether the time ran out, and the CPU time that QEMU took."""
    with open(folder / "qemu", "wb") as said:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=fds)
    pidfd = os.pidfd_open(process.pid)
    try:
        ended = select.select([pidfd], [], [], timeout_s)[0]
        return not ended, _cpu_s(process.pid)
    finally:
        os.close(pidfd)
        process.kill()
        process.wait()


def _cpu_s(pid: int) -> float:
    """Of a process that is not yet waited for: utime and stime of proc(5), the 12th and 13th field past the name."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _qemu(built: image.Image, order: Order, how: str, folder: Path) -> list[str]:
    parameters = [*KERNEL_PARAMETERS, *machine.kernel_parameters(order.machine)]
    return [
        *_base(built, how, parameters),
        *([] if order.boots > 1 else ["-no-reboot"]),
        *machine.hardware_arguments(order.machine),
        *_disk("root", built.disk, "snapshot=on,cache=unsafe"),
        *_disk("tree", folder / "tree.tar", "readonly=on"),
        *("-serial", f"file:{folder / 'console'}"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"file,id=result,path={folder / 'result.tar'}"),
        *("-device", "virtserialport,chardev=result,name=jobs_result"),
    ]


def _base(built: image.Image, how: str, parameters: Sequence[str]) -> list[str]:
    accelerator, cpu = ("kvm", "host") if how == "kvm" else ("tcg,thread=multi,tb-size=512", "max,vendor=GenuineIntel")
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-accel", accelerator, "-cpu", cpu),
        *("-kernel", str(built.kernel), "-initrd", str(built.initramfs), "-append", " ".join(parameters)),
    ]


def _disk(name: str, file: Path, how: str) -> list[str]:
    drive = f"file={file},format=raw,if=none,id={name},{how}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name}"]


def _accelerator(built: image.Image) -> str:
    """`kvm` where a trial boot under it succeeds, once in each boot of this host: /dev/kvm alone proves nothing."""
    wanted = os.environ.get("JOBS_VM_ACCEL")
    if wanted in ("kvm", "tcg"):
        return wanted
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = cache.folder() / f"accelerator-{boot}"
    with cache.locked("accelerator"):
        if not note.exists():
            for old in cache.folder().glob("accelerator-*-*"):
                old.unlink()
            note.write_text("kvm" if _kvm_boots(built) else "tcg")
    return note.read_text()


def _kvm_boots(built: image.Image) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    arguments = [*_base(built, "kvm", [*KERNEL_PARAMETERS, "jobs_vm.trial"]), "-m", "512", "-serial", "stdio"]
    try:
        tried = subprocess.run(
            [*arguments, "-no-reboot"], stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return b"trial-boot-ok" in tried.stdout


class _Output:
    """One stream of the guest: QEMU writes into our pipe, a thread passes it on and keeps the last lines."""

    def __init__(self, sink: BinaryIO) -> None:
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self._sink = sink
        self._read_fd, self.write_fd = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._closing = ExitStack()

    def arguments(self, name: str) -> list[str]:
        """A port of the guest named `jobs_out` or `jobs_err`."""
        number = {"out": 1, "err": 2}[name]
        return [
            *("-add-fd", f"fd={self.write_fd},set={number}"),
            *("-chardev", f"file,id={name},path=/dev/fdset/{number},append=on"),
            *("-device", f"virtserialport,chardev={name},name=jobs_{name}"),
        ]

    def __enter__(self) -> _Output:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.write_fd)  # QEMU has gone by now, so the thread reads the end
        self._thread.join()
        os.close(self._read_fd)

    def _pass_on(self) -> None:
        rest = b""
        while chunk := os.read(self._read_fd, 65536):
            self._sink.write(chunk)
            self._sink.flush()
            *lines, rest = (rest + chunk).split(b"\n")
            self.last.extend(line.decode(errors="replace") for line in lines)
            rest = rest[-4096:]
        if rest:
            self.last.append(rest.decode(errors="replace"))


def _unpack_result(archive: Path, target: Path | None) -> int | None:
    """The command's status, or None where the guest gave none."""
    try:
        with tarfile.open(archive) as result:
            file = result.extractfile("var/lib/jobs-vm/status")
            status = int(file.read()) if file else None
            for member in result.getmembers() if target else ():
                content = result.extractfile(member) if member.isfile() else None
                if content and target and member.name.startswith("opt/jobs-out/"):
                    path = target / member.name.removeprefix("opt/jobs-out/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
            return status
    except (tarfile.TarError, OSError, KeyError, ValueError):
        return None


def _tail(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
