"""The seed: a tiny mount namespace that every container is cloned from. Launcher side.

It holds an empty tmpfs, one unmasked procfs and one sysfs. Copying a mount namespace costs per mount, so the host's is
never copied; and `mount proc` in a user namespace is EPERM where no unmasked procfs is in sight.
docs/design/seed-namespace.md says why the launcher itself stays in the host's mount namespace.
"""

from __future__ import annotations

import os

from runtime import process
from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.detach import LAYERS, UPPER
from runtime.furnish import MOUNTED_ROOT
from runtime.messages import Done

MOST_LAYERS = 500  # OVL_MAX_STACK, fs/overlayfs/params.h


def make() -> int:
    """Descriptor of the namespace; it lives as long as somebody holds one. Needs the host's root."""
    ours, theirs = Channel.pair()
    child = process.spawn("jobs:seed", lambda: _build(theirs), (theirs.fileno(),))
    theirs.close()
    message, fds = ours.receive()
    ours.close()
    process.reap(child.pidfd)
    if not isinstance(message, Done):
        raise OSError("the seed namespace could not be made; the launcher's stderr says why")
    return fds[0]


def _build(channel: Channel) -> int:
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount("", "/", "", sc.MS_REC | sc.MS_PRIVATE)
    # Any folder serves as the place for a moment: the pivot makes it the root.
    sc.mount("jobs-seed", "/proc", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=755,size=4m")
    os.chdir("/proc")
    for folder in ("proc", "sys", MOUNTED_ROOT[1:], UPPER[1:], LAYERS[1:], f"{LAYERS[1:]}/mounted"):
        os.mkdir(folder, 0o755)
    for number in range(MOST_LAYERS):
        os.mkdir(f"{LAYERS[1:]}/{number}", 0o755)
    sc.mount("proc", "proc", "proc", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
    sc.mount("sysfs", "sys", "sysfs", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
    sc.pivot_root(".", ".")
    sc.umount2(".", sc.MNT_DETACH)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    channel.send(Done({}), [namespace])
    return 0
