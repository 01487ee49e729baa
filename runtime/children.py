"""The launcher's children, each with what it was asked and whom to answer. Launcher side.

A child ends exactly once: its pidfd is readable, its last messages are read, it is reaped, whoever waits is answered.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Protocol

from runtime import process, sequence, slot
from runtime.channel import Channel, close_all
from runtime.messages import (
    Answer,
    Done,
    GiveUp,
    Malformed,
    Mapped,
    Message,
    Proceed,
    Ready,
    Refusal,
    Running,
    Slot,
    StepError,
    Unshared,
)
from runtime.process import Child
from runtime.sequence import OutOfOrder, Sequence

_WARNING = "<4>" if "JOURNAL_STREAM" in os.environ else ""  # sd-daemon(3)


def complain(text: str) -> None:
    """To the journal of the launcher's service."""
    os.write(2, f"{_WARNING}launcher: {text}\n".encode())


class Keeper(Protocol):
    """What a child needs of the launcher."""

    executions: dict[str, Execution]
    spares: list[Spare]
    errands: int  # under way

    def watch(self, fd: int, handler: Callable[[], object]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def reply(self, channel: Channel, message: Message, fds: tuple[int, ...] = ()) -> None: ...


class Member:
    """A child that is only reaped."""

    def __init__(self, keeper: Keeper, child: Child, control: Channel | None = None) -> None:
        self.keeper, self.child, self.control = keeper, child, control
        keeper.watch(child.pidfd, self._on_end)
        if control is not None:
            control.sock.setblocking(False)
            keeper.watch(control.fileno(), self._on_control)

    def on_message(self, message: Message, fds: list[int]) -> None:
        """One legal message of the child. The descriptors are closed afterwards."""

    def on_end(self, status: int) -> None:
        """After the last message, and after it was reaped. `status`: exit code, or 128 + signal."""

    def kill(self) -> None:
        signal.pidfd_send_signal(self.child.pidfd, signal.SIGKILL)

    def hang_up(self) -> None:
        if self.control is not None:
            self.keeper.unwatch(self.control.fileno())
            self.control.close()
            self.control = None

    def _on_control(self) -> bool:
        """One message; False when there is none. A child that says what it may not say is ended."""
        if self.control is None:
            return False
        try:
            message, fds = self.control.receive()
        except BlockingIOError:
            return False
        except (Malformed, OSError):
            message, fds = None, []
        if message is None:
            self.hang_up()
            return False
        try:
            self.on_message(message, fds)
        except OutOfOrder:
            self.kill()
        finally:
            close_all(fds)
        return True

    def _on_end(self) -> None:
        if os.waitid(os.P_PIDFD, self.child.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return  # the event was for a descriptor of the same number, closed in this very round
        while self._on_control():  # what it said last counts
            pass
        self.hang_up()
        self.keeper.unwatch(self.child.pidfd)
        self.on_end(process.reap(self.child.pidfd))


class Spare(Member):
    """A monitor, and its `jobs:enter`, made ahead of a job."""

    def __init__(self, keeper: Keeper, child: Child, control: Channel) -> None:
        super().__init__(keeper, child, control)
        keeper.spares.append(self)

    def hand_out(self) -> Channel:
        """Its control channel; nobody watches it any more."""
        self.keeper.spares.remove(self)
        self.keeper.unwatch(self.child.pidfd)
        assert self.control is not None
        self.keeper.unwatch(self.control.fileno())
        return self.control

    def on_end(self, status: int) -> None:
        complain(f"a spare monitor ended with status {status}")
        self.keeper.spares.remove(self)


class Errand(Member):
    """A helper or an opened file: answers once."""

    table = sequence.ERRAND

    def __init__(self, keeper: Keeper, child: Child, control: Channel, client: Channel, request: int) -> None:
        self._client, self._request = client, request
        self.sequence = Sequence(self.table)
        keeper.errands += 1
        super().__init__(keeper, child, control)

    def on_message(self, message: Message, fds: list[int]) -> None:
        self.sequence.follow(message)
        if isinstance(message, Done):
            self.keeper.reply(self._client, Answer(self._request, message.values), tuple(fds))
        elif isinstance(message, StepError):
            self.keeper.reply(self._client, Refusal(self._request, *message))

    def on_end(self, status: int) -> None:
        self.keeper.errands -= 1
        if self.sequence.state != "ended":
            complain(f"an errand ended with status {status} before it answered")
            self.keeper.reply(self._client, Refusal(self._request, "errand", errno.ESRCH, ""))


class SlotChild(Errand):
    """Waits for its id maps, which only the host's root may write."""

    table = sequence.SLOT

    def __init__(self, keeper: Keeper, child: Child, control: Channel, client: Channel, wanted: Slot) -> None:
        self._wanted = wanted
        super().__init__(keeper, child, control, client, wanted.request)

    def on_message(self, message: Message, fds: list[int]) -> None:
        if not isinstance(message, Unshared):
            super().on_message(message, fds)
            return
        self.sequence.follow(message)
        try:
            slot.write_maps(self.child.pid, self._wanted.uid_map, self._wanted.gid_map)
        except OSError as error:
            self.sequence.state = "ended"
            refusal = Refusal(self._wanted.request, "id-map", error.errno or errno.EIO, str(error.filename or ""))
            self.keeper.reply(self._client, refusal)
            self.kill()
            return
        self.sequence.follow(Mapped())
        if self.control is not None:
            self.control.send(Mapped())


class Execution(Member):
    """One monitor. Its first result is given again to whoever asks again."""

    def __init__(self, keeper: Keeper, child: Child, control: Channel | None, execution_id: str) -> None:
        self.execution_id = execution_id
        self.sequence = Sequence(sequence.LAUNCH)
        self.init_process: tuple[int, int] | None = None  # pid and pidfd of pid 1
        self.failure: StepError | None = None
        self._waiting_created: list[tuple[Channel, int]] = []
        self._waiting_running: list[tuple[Channel, int]] = []
        super().__init__(keeper, child, control)

    def answer_create(self, client: Channel, request: int) -> None:
        if self.init_process is not None:
            values = {"monitor_pid": self.child.pid, "init_pid": self.init_process[0]}
            self.keeper.reply(client, Answer(request, values), (self.child.pidfd,))
        elif self.failure is not None:
            self.keeper.reply(client, Refusal(request, *self.failure))
        else:
            self._waiting_created.append((client, request))

    def go(self, client: Channel, request: int) -> None:
        """Raises OSError when it is too early, or nothing is there to go."""
        if self.failure is not None:
            self.keeper.reply(client, Refusal(request, *self.failure))
        elif self.sequence.state == "running":
            self.keeper.reply(client, Answer(request, {}))
        elif self.sequence.state == "going":
            self._waiting_running.append((client, request))
        else:
            try:
                self.sequence.follow(Proceed())
            except OutOfOrder as error:
                raise OSError(errno.EINVAL, str(error), self.execution_id) from error
            self._waiting_running.append((client, request))
            if self.control is not None:
                self.control.send(Proceed())

    def abandon(self) -> None:
        """Safe to repeat. Raises OutOfOrder when it has been told to go."""
        if self.sequence.state == "ended":
            return
        if self.sequence.state == "cloned":
            self.kill()  # the container's own socket tells it
            self.sequence.state = "ended"
            return
        self.sequence.follow(GiveUp())
        if self.control is not None:
            self.control.send(GiveUp())

    def init(self) -> int:
        """pidfd of pid 1. Raises OSError when there is none to enter."""
        if self.init_process is None or self.sequence.state != "running":
            raise OSError(errno.ESRCH, "not running", self.execution_id)
        return self.init_process[1]

    def on_message(self, message: Message, fds: list[int]) -> None:
        if self.sequence.state == "ended":
            return  # the failure that follows a GiveUp
        self.sequence.follow(message)
        if isinstance(message, Ready):
            self.init_process = (message.init_pid, os.dup(fds[0]))
            waiting, self._waiting_created = self._waiting_created, []
            for client, request in waiting:
                self.answer_create(client, request)
        elif isinstance(message, Running):
            waiting, self._waiting_running = self._waiting_running, []
            for client, request in waiting:
                self.keeper.reply(client, Answer(request, {}))
        elif isinstance(message, StepError):
            self._fail(message)

    def _fail(self, failure: StepError) -> None:
        self.failure = failure
        waiting = self._waiting_created + self._waiting_running
        self._waiting_created, self._waiting_running = [], []
        for client, request in waiting:
            self.keeper.reply(client, Refusal(request, *failure))

    def on_end(self, status: int) -> None:
        if status:
            complain(f"the monitor of {self.execution_id} ended with status {status}")
        self._fail(self.failure or StepError("monitor", errno.ESRCH, self.execution_id))
        if self.init_process is not None:
            os.close(self.init_process[1])
        del self.keeper.executions[self.execution_id]
