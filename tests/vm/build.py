"""Builds an image: Debian by mmdebstrap, the project's libraries, a kernel less hardware drivers, an initramfs."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vm.places import INSIDE, ROOT

# Beside what scripts/setup installs for the tests.
GUEST_PACKAGES = (
    "kmod", "systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "adduser", "criu", "numactl", "strace",
    "iputils-ping", "util-linux", "git", "bash-completion",
)  # fmt: skip
KERNEL_PACKAGE = "linux-image-amd64"
DISK_SIZE = "8G"
# Drivers of hardware that no virtual machine has: two thirds of the kernel package.
NOT_IN_A_GUEST = ("sound", "drivers/gpu", "drivers/media", "drivers/staging", "drivers/iio", "drivers/usb",
                  "drivers/scsi", "drivers/net/ethernet", "drivers/net/wireless")  # fmt: skip
# No fsync for each file, and no pages that nobody reads in a guest.
DPKG_OPTIONS = ("force-unsafe-io", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/doc/*",
                "path-exclude=/usr/share/locale/*")  # fmt: skip
EARLY_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")


_took: dict[str, float] = {}


class BuildFailed(Exception):
    """A step of the build failed; the message has the end of its output."""


def packages() -> list[str]:
    """Debian packages of the guest; those of the project are named in scripts/setup alone."""
    listed = subprocess.run([ROOT / "scripts/setup", "--packages", "test"], capture_output=True, text=True, check=True)
    return sorted({*listed.stdout.split(), *GUEST_PACKAGES})


def release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))


def build(work: Path) -> None:
    """Leaves `image/` in *work*; `image/steps` says how long each step took."""
    root, image = work / "root", work / "image"
    image.mkdir()
    _fetch_kernel(work)
    _fetch_libraries(work)
    _bootstrap(work, root)
    version = _unpack_kernel(work, root)
    (image / "vmlinux").write_bytes(_uncompressed((root / f"boot/vmlinuz-{version}").read_bytes()))
    _make_initramfs(work, root, version, image / "initramfs")
    _run("making the disk", ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", root, image / "root.img", DISK_SIZE])
    (image / "steps").write_text("".join(f"{seconds:6.1f} s  {step}\n" for step, seconds in _took.items()))


def _fetch_kernel(work: Path) -> None:
    _run("apt-get update", ["apt-get", "-qq", "update"])
    shown = _run("looking for the kernel", ["apt-cache", "depends", KERNEL_PACKAGE])
    names = [line.split()[-1] for line in shown.splitlines() if "Depends: linux-image-" in line]
    _run("downloading the kernel", ["apt-get", "-qq", "download", names[0]], folder=work)


def _fetch_libraries(work: Path) -> None:
    """With the host's pip and its settings; installed inside without a network, hashes checked again."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    lock = ROOT / "requirements.lock"
    _run("downloading the libraries", [*pip, "download", "--require-hashes", "-r", lock, "-d", work / "wheels"])
    shutil.copy(lock, work / "wheels/requirements.lock")
    project = work / "wheels/project"
    project.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, project)
    for name in ("jobs", "scheduler", "runtime", "netbridge", "config"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))


def _bootstrap(work: Path, root: Path) -> None:
    sources = [path for path in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources") if _lists(path)]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages())}"]
    command += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    hooks = [f"--customize-hook=copy-in {work / 'wheels'} /var/tmp", f"--customize-hook={INSIDE / 'customize'}"]
    _run("installing Debian", [*command, *hooks, release(), root, *sources])


def _lists(path: str) -> bool:
    place = Path(path)
    return place.exists() and any(line.startswith(("deb ", "Types:")) for line in place.read_text().splitlines())


def _unpack_kernel(work: Path, root: Path) -> str:
    """The kernel's version. Unpacked, not installed: no initramfs-tools, no boot loader."""
    [package] = work.glob("linux-image-*.deb")
    left_out = [f"--exclude=*/kernel/{path}" for path in NOT_IN_A_GUEST]
    archive = work / "kernel.tar"
    _run("unpacking the kernel", ["dpkg-deb", "--fsys-tarfile", package], output=archive)
    _run("unpacking the kernel", ["tar", "-x", "-f", archive, "-C", root, "--keep-directory-symlink", *left_out])
    version = next((root / "lib/modules").iterdir()).name
    _run("depmod", ["depmod", "-b", root, version])
    return version


def _uncompressed(kernel: bytes) -> bytes:
    """The ELF file in a bzImage: QEMU starts it 3 s sooner than the self-unpacking whole.

    Offsets: Documentation/arch/x86/boot.rst, setup_sects, payload_offset, payload_length (the last 4 bytes: a size).
    """
    sectors = kernel[0x1F1] or 4
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = kernel[start : start + length - 4]
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "-dc"], input=payload, capture_output=True, check=True).stdout
    return lzma.LZMADecompressor().decompress(payload)


def _make_initramfs(work: Path, root: Path, version: str, target: Path) -> None:
    early = work / "early"
    for name in ("lib", "proc", "dev", "new"):
        (early / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", early / "busybox")
    shutil.copy(INSIDE / "early", early / "init")
    (early / "init").chmod(0o755)
    wanted = ["modprobe", "-a", "-d", str(root), "-S", version, "--show-depends", *EARLY_MODULES]
    shown = _run("looking for modules", wanted).splitlines()
    files = list(dict.fromkeys(line.split()[1] for line in shown if line.startswith("insmod ")))
    for file in files:
        _copy_module(Path(file), early / "lib")
    (early / "modules").write_text("".join(Path(file).name.removesuffix(".xz") + "\n" for file in files))
    listing = "\n".join(str(path.relative_to(early)) for path in sorted(early.rglob("*")))
    _run("packing the initramfs", ["cpio", "--quiet", "-o", "-H", "newc"], folder=early, text=listing, output=target)


def _copy_module(file: Path, folder: Path) -> None:
    data = file.read_bytes()
    (folder / file.name.removesuffix(".xz")).write_bytes(lzma.decompress(data) if file.suffix == ".xz" else data)


def _run(
    step: str, command: Sequence[str | Path], folder: Path | None = None, text: str = "", output: Path | None = None
) -> str:
    """The command's output, or nothing where it goes to a file."""
    start = time.monotonic()
    with open(output or "/dev/null", "wb") as sink:
        done = subprocess.run(
            command,
            cwd=folder,
            input=text.encode(),
            stdout=sink if output else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            check=False,
        )
    if done.returncode:
        printed = ((done.stdout or b"") + done.stderr).decode(errors="replace").splitlines()
        raise BuildFailed(f"{step}: {command[0]} ended with {done.returncode}\n  " + "\n  ".join(printed[-30:]))
    _took[step] = _took.get(step, 0.0) + time.monotonic() - start
    return (done.stdout or b"").decode()


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
