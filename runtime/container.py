"""From the monitor to pid 1 of a job: two processes, stage by stage, until execve. Launcher side.

`jobs:enter` prepares detached mounts and joins the job's groups with the host's power, enters the slot's namespaces and
makes pid 1 as its *sibling* (CLONE_PARENT), so that the monitor is pid 1's parent. `jobs:container` fills its root,
waits for go, gives up every power and becomes the reaper. Privileges of each stage: runtime/README.md.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from runtime import faultpoint, process
from runtime import syscalls as sc
from runtime.channel import Channel
from runtime.context import Context
from runtime.messages import Begin, Proceed, Ready, StepError
from runtime.perform import StepFailure, failure, perform
from runtime.process import Child
from runtime.steps import Stages, stages_from_json

# The slot already gave user and network.
NAMESPACES = (
    sc.CLONE_NEWPID | sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS | sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME
)


class Output(NamedTuple):
    """Write ends of the job's pipes."""

    stdout: int
    stderr: int


def start(channel: Channel, seed: int) -> Child:
    """Called by the monitor, ahead of its job; the child is `jobs:enter`. `channel` is the container's end."""
    return process.spawn("jobs:enter", lambda: _enter(channel, seed), (channel.fileno(), seed))


def _enter(channel: Channel, seed: int) -> int:
    message, fds = channel.receive()
    if not isinstance(message, Begin):  # end of file: there will be no job
        return 0
    plan_fd, stdout, stderr, *named = fds
    stages = stages_from_json(process.read_all(plan_fd))
    os.close(plan_fd)
    context = Context(named, seed)
    try:
        _reset_oom_score()
        host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        perform(stages.prepare, context)
        sc.setns(host, sc.CLONE_NEWNS)  # the overlay was made in a namespace that nobody needs any more
        os.close(host)
        faultpoint.reach("container:prepared")
        perform(stages.enter, context)
        if _clone(channel):
            return 0
    except StepFailure as failed:
        channel.send(StepError(failed.step, failed.errno, failed.path))
        return 1
    return _container(stages, context, channel, Output(stdout, stderr))


def _clone(channel: Channel) -> int:
    try:
        return process.clone_as_sibling(NAMESPACES, channel)
    except OSError as error:
        raise failure("clone", error) from error


def _reset_oom_score() -> None:
    """The launcher may be protected; its jobs are not. The kernel may refuse a change to the worse for us."""
    with suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def _container(stages: Stages, context: Context, channel: Channel, output: Output) -> int:
    """Returns only when it did not become the job's program."""
    sc.set_process_name("jobs:container")
    try:
        os.setsid()
        perform(stages.container, context)
        channel.send(Ready(os.getpid()))
        message, _ = channel.receive()
        if not isinstance(message, Proceed):  # end of file: whoever could have said it is dead
            return 1
        os.dup2(output.stdout, 1)
        os.dup2(output.stderr, 2)
        process.null_stdio(0)  # the job's own /dev/null
        perform(stages.drop, context)
    except StepFailure as failed:
        channel.send(StepError(failed.step, failed.errno, failed.path))
    return 1
