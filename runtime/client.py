"""jobsd's side of the launcher: each verb is one request and one answer, matched by number. Async, asyncio under anyio.

Answers are read by a callback of the event loop, so there is no task of ours that could outlive anybody. A cancelled
request's late answer is dropped and its descriptors closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import anyio

from jobs.errors import LauncherGone, StepFailed
from runtime import messages, process
from runtime.channel import Channel, close_all
from runtime.errand import HelperOrder, OpenOrder
from runtime.messages import Answer, Deposed, Hello, Malformed, Message, Refusal, Welcome


class Slot(NamedTuple):
    """Descriptors; -1 without a network. Closing them drops the slot."""

    userns: int
    netns: int
    netlink: int  # a NETLINK_ROUTE socket opened inside the network namespace


class Created(NamedTuple):
    monitor_pid: int
    monitor_pidfd: int  # the caller's
    init_pid: int


class HelperResult(NamedTuple):
    """`status`: exit code, 128 + signal, or 124 when its time was up. At most 1 MiB of each stream is kept."""

    status: int
    stdout: bytes
    stderr: bytes


class _Waiter:
    """One request that is under way."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.answer: Message | None = None
        self.fds: list[int] = []


class Launcher:
    """One connection. Every verb raises LauncherGone when it ends first: what was done is then not known."""

    def __init__(self, channel: Channel) -> None:
        self.inventory: tuple[str, ...] = ()
        self.lost = anyio.Event()
        self._channel = channel
        self._waiters: dict[int, _Waiter] = {}
        self._last_request = 0

    @classmethod
    async def connect(cls, path: str, epoch: int) -> Launcher:
        """Says Hello. Raises OSError when nobody listens, LauncherGone when a newer epoch is being served."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        launcher = cls(Channel(sock))
        try:
            await asyncio.get_running_loop().sock_connect(sock, path)
            launcher._channel.send(Hello(epoch))
            await anyio.wait_readable(sock)
            message, _ = launcher._channel.receive()
            if isinstance(message, Deposed):
                raise LauncherGone(f"the launcher at {path} serves epoch {message.epoch}; ours is {epoch}")
            if not isinstance(message, Welcome):
                raise LauncherGone(f"the launcher at {path} hung up", hint="see the launcher's log")
        except BaseException:
            sock.close()
            raise
        launcher.inventory = message.inventory
        asyncio.get_running_loop().add_reader(sock, launcher._on_readable)
        return launcher

    def close(self) -> None:
        """Safe to repeat."""
        if not self.lost.is_set():
            asyncio.get_running_loop().remove_reader(self._channel.sock)
            self._channel.close()
            self.lost.set()
            for waiter in self._waiters.values():
                waiter.event.set()

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def slot(self, *, uid_map: str, gid_map: str, network: bool) -> Slot:
        """A fresh user namespace with these maps and, with `network`, a network namespace owned by it. StepFailed."""
        _, fds = await self._call(lambda number: messages.Slot(number, uid_map, gid_map, network))
        return Slot(*fds) if network else Slot(fds[0], -1, -1)

    async def idmap_userns(self, uid_map: str, gid_map: str) -> int:
        """Descriptor of a user namespace with these maps, for mount_setattr(MOUNT_ATTR_IDMAP)."""
        return (await self.slot(uid_map=uid_map, gid_map=gid_map, network=False)).userns

    async def create(self, execution_id: str, plan: bytes, fds: Sequence[int]) -> Created:
        """The container exists and waits for go. Asked again while it lives: the first result.

        Raises StepFailed; step "started" with EEXIST: an earlier launcher started it, marker and record say the rest.
        """
        plan_fd = process.memfd_of("plan", plan)
        try:
            values, answered = await self._call(lambda number: messages.Create(number, execution_id), (plan_fd, *fds))
        finally:
            os.close(plan_fd)
        return Created(values["monitor_pid"], answered[0], values["init_pid"])

    async def go(self, execution_id: str) -> None:
        """Returns when execve of the reaper succeeded. Raises StepFailed."""
        await self._call(lambda number: messages.Go(number, execution_id))

    async def abandon(self, execution_id: str) -> None:
        """The container will never go. Safe to repeat; StepFailed with EBUSY when it was told to go."""
        await self._call(lambda number: messages.Abandon(number, execution_id))

    async def open_exec(self, execution_id: str, request: bytes, peer_uid: int) -> str:
        """A ticket for exec.sock, valid once, 30 s, for that uid. `request`: runtime.plan.exec_request. StepFailed."""
        request_fd = process.memfd_of("exec", request)
        try:
            values, _ = await self._call(
                lambda number: messages.OpenExec(number, execution_id, peer_uid), (request_fd,)
            )
        finally:
            os.close(request_fd)
        return str(values["ticket"])

    async def helper(
        self,
        argv: Sequence[str],
        *,
        fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float = 300,
    ) -> HelperResult:
        """Runs a program as the host's root with `fds` as 3, 4, 5 … StepFailed when it cannot be executed."""
        extra = [process.memfd_of("stdin", stdin)] if stdin else []
        order = HelperOrder(list(argv), dict(env or _HELPER_ENV), len(fds) if extra else -1, timeout_s)
        order_fd = process.memfd_of("order", order.to_bytes())
        try:
            values, outputs = await self._call(messages.Helper, (order_fd, *fds, *extra))
        finally:
            close_all([order_fd, *extra])
        try:
            return HelperResult(values["status"], process.read_all(outputs[0]), process.read_all(outputs[1]))
        finally:
            close_all(outputs)

    async def open_as(self, uid: int, gid: int, groups: Sequence[int], path: str, flags: int) -> int:
        """Opened with that user's rights alone. Raises OSError(errno, text, path) when they do not suffice."""
        order_fd = process.memfd_of("order", OpenOrder(uid, gid, list(groups), path, flags).to_bytes())
        try:
            _, fds = await self._call(messages.OpenAs, (order_fd,))
        except StepFailed as error:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        finally:
            os.close(order_fd)
        return fds[0]

    # ── requests and answers ────────────────────────────────────────────────────────────────────────────────────────

    async def _call(self, make: Callable[[int], Message], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        self._last_request += 1
        number, waiter = self._last_request, _Waiter()
        self._waiters[number] = waiter
        try:
            await self._send(make(number), fds)
            await waiter.event.wait()
        except BaseException:
            close_all(waiter.fds)
            raise
        finally:
            del self._waiters[number]
        if isinstance(waiter.answer, Answer):
            return waiter.answer.values, waiter.fds
        close_all(waiter.fds)
        if isinstance(waiter.answer, Refusal):
            raise StepFailed(waiter.answer.step, waiter.answer.errno, waiter.answer.path)
        raise LauncherGone("the launcher hung up before it answered", hint="see the launcher's log")

    async def _send(self, message: Message, fds: Sequence[int]) -> None:
        while not self.lost.is_set():
            try:
                self._channel.send(message, fds)
                return
            except BlockingIOError:
                await anyio.wait_writable(self._channel.sock)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    break
                raise
        self.close()
        raise LauncherGone("the launcher hung up", hint="see the launcher's log")

    def _on_readable(self) -> None:
        try:
            message, fds = self._channel.receive()
        except BlockingIOError:
            return
        except (Malformed, OSError):
            message, fds = None, []
        if message is None:
            self.close()
            return
        waiter = self._waiters.get(getattr(message, "request", 0))
        if waiter is None:
            close_all(fds)  # whoever asked was cancelled
            return
        waiter.answer, waiter.fds = message, fds
        waiter.event.set()


_HELPER_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
