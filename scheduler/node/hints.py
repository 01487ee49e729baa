"""What a user can do about a start that failed, by step and errno, where the bare error leaves one alone. Pure."""

from __future__ import annotations

import errno

_GONE = "a CPU or memory node went away since jobsd started: bring it back, or restart jobsd, which looks anew"
_HINTS = {
    ("bind", errno.EINVAL): (
        "files of this filesystem (overlay, NFS and the like) can't be shown as yours inside a job; "
        "put them on ext4, xfs, btrfs or tmpfs, or bring them along as an image"
    ),
    ("cgroup:cpuset", errno.EPROTO): _GONE,
    ("cgroup:cpuset", errno.EINVAL): _GONE,
    ("exec", errno.ENOENT): "the image has no such program on the job's PATH; see image.source and [env]",
    ("exec", errno.EACCES): "the job's user may not execute it; see run_as and the file's mode",
    ("workdir", errno.ENOENT): "the image has no such folder; see workdir, submit_dir and [[mounts]]",
    ("overlay", errno.ENOSPC): "the disk of the daemon's state folder is full",
}


def hint_for(step: str, number: int) -> str:
    """ "" where there is nothing to add."""
    return _HINTS.get((step, number), "")
