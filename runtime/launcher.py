"""The launcher: one thread that makes containers and runs errands for jobsd, and keeps the children. Launcher side.

Started as `command(state_dir, run_dir)`: `python3 -I -S -c 'import sys; sys.path.insert(0, ROOT); from runtime.launcher
import main; main()' STATE_DIR RUN_DIR`. -I -S keep the environment and site-packages out; run by path it would shadow
standard modules with ours, and `-m` does not find the package. No policy, no database.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from runtime import errand, exitrecord, faultpoint, handover, messages, monitor, process, seed, session, slot, warmth
from runtime import syscalls as sc
from runtime.channel import Channel, close_all
from runtime.children import Errand, Execution, Member, SlotChild, Spare, complain
from runtime.messages import Answer, Deposed, Hello, Malformed, Refusal, Ticket, Welcome
from runtime.sequence import OutOfOrder

TICKET_S = 30.0
GUESTS = 64  # connections to exec.sock that have not shown their ticket yet
GUESTS_OF_ONE = 8  # of them, of one user but root
GUEST_S = 5.0  # within which the ticket must come
BACKLOG = 128
SPARES = 2  # monitors made ahead: two clones and their page faults are off a start's way
IDLE_S = 0.05  # without a message: a start under way needs the CPUs more than its successors need spares
_WITH_PAYLOAD = (messages.Create, messages.OpenExec, messages.Helper, messages.OpenAs)


class _Ticket(NamedTuple):
    execution_id: str
    orders_fd: int
    uid: int
    until: float  # monotonic


class Launcher:
    """Sockets, children and what each waits for. One instance, one thread; every method returns soon."""

    def __init__(self, state_dir: str, run_dir: str, handed_over: int = -1) -> None:
        """`handed_over`: descriptor from an earlier launcher in this very process, runtime/handover.py."""
        self._command = command(state_dir, run_dir)
        self.spool = f"{state_dir}/spool"
        os.makedirs(self.spool, 0o700, exist_ok=True)
        os.makedirs(run_dir, 0o711, exist_ok=True)
        self.seed = seed.make()
        self._warmth = warmth.start()
        self.executions: dict[str, Execution] = {}
        self.spares: list[Spare] = []
        self.epoch = -1
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._clients: dict[int, Channel] = {}
        self._guests: dict[int, tuple[Channel, float]] = {}  # and until when it may stay silent
        self._tickets: dict[str, _Ticket] = {}
        self.errands = 0
        self._upgrading = False
        self.sockets: dict[str, socket.socket] = {}
        if handed_over >= 0:
            handover.take(self, handed_over)
        self._listen(f"{run_dir}/launcher.sock", 0o600, self._accept_client)
        self._listen(f"{run_dir}/exec.sock", 0o666, self._accept_guest)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────────

    def serve(self) -> None:
        while True:
            happened = self._epoll.poll(None if len(self.spares) >= SPARES else IDLE_S)
            if not happened:
                self._make_spare()
            for fd, events in happened:
                handler = self._handlers.get(fd)
                if handler is None:
                    continue  # closed by an earlier event of this round
                if events & select.EPOLLHUP and fd in self._clients:
                    self._drop_client(fd)  # unread: a dead daemon's request must not run later
                else:
                    handler()
            if self._upgrading and not self.errands and handover.is_quiet(self):
                self._upgrade()

    def upgrade_on_hangup(self) -> None:
        """On SIGHUP becomes the launcher that is on disk now, as soon as nobody waits for an answer."""
        woken, wakes = socket.socketpair()
        woken.setblocking(False)
        wakes.setblocking(False)
        self.watch(woken.fileno(), lambda: woken.recv(64))
        signal.signal(signal.SIGHUP, lambda *_: self._wish_upgrade())
        signal.set_wakeup_fd(wakes.detach())

    def _wish_upgrade(self) -> None:
        self._upgrading = True

    def _upgrade(self) -> None:
        self._upgrading = False
        warmth.stop(*self._warmth)
        for spare in tuple(self.spares):
            spare.hand_out().close()  # it ends
            process.reap(spare.child.pidfd)
        try:
            handover.become(self, self._command)
        except OSError as error:
            complain(f"goes on as it is: {error}")
            self._warmth = warmth.start()

    def watch(self, fd: int, handler: Callable[[], object]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def _listen(self, path: str, mode: int, accept: Callable[[socket.socket], None]) -> None:
        if path not in self.sockets:
            self.sockets[path] = _bound(path, mode)
        listening = self.sockets[path]
        self.watch(listening.fileno(), lambda: accept(listening))

    # ── jobsd ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept_client(self, listening: socket.socket) -> None:
        channel = _accept(listening)
        if channel is None:
            return
        if _peer_uid(channel) != 0:
            channel.close()
            return
        self._clients[channel.fileno()] = channel
        self.watch(channel.fileno(), lambda: self._on_client(channel))

    def _drop_client(self, fd: int) -> None:
        self.unwatch(fd)
        self._clients.pop(fd).close()

    def _on_client(self, channel: Channel) -> None:
        try:
            message, fds = channel.receive()
        except BlockingIOError:
            return
        except (Malformed, OSError) as error:
            complain(f"a client is dropped: {error}")
            message, fds = None, []
        if message is None:
            self._drop_client(channel.fileno())
            return
        if isinstance(message, Hello):
            self._on_hello(channel, message)
            return
        warmth.touch(self._warmth[0])
        kind, request = type(message), getattr(message, "request", 0)
        verb = self._verbs().get(kind)
        if verb is None:
            close_all(fds)
            self._drop_client(channel.fileno())
            return
        try:
            if not fds and kind in _WITH_PAYLOAD:
                raise OSError(errno.EINVAL, "no payload")
            verb(channel, message, fds)
        except OSError as error:
            path = error.filename if isinstance(error.filename, str) else ""
            self.reply(channel, Refusal(request, kind.__name__.lower(), error.errno or errno.EIO, path))
        finally:
            close_all(fds)

    def reply(self, channel: Channel, message: messages.Message, fds: tuple[int, ...] = ()) -> None:
        """To a client that may be gone, or so slow that it is dropped."""
        if channel.fileno() not in self._clients:
            return
        try:
            channel.send(message, fds)
        except OSError as error:
            complain(f"a client is dropped: {error}")
            self._drop_client(channel.fileno())

    def _verbs(self) -> dict[type, Callable[..., None]]:
        return {
            messages.Slot: self._on_slot,
            messages.Create: self._on_create,
            messages.Go: self._on_go,
            messages.Abandon: self._on_abandon,
            messages.OpenExec: self._on_open_exec,
            messages.Helper: self._on_helper,
            messages.OpenAs: self._on_open_as,
        }

    def _on_hello(self, channel: Channel, hello: Hello) -> None:
        if hello.epoch < self.epoch:
            self.reply(channel, Deposed(self.epoch))
            return
        self.epoch = hello.epoch
        for fd in [fd for fd in self._clients if fd != channel.fileno()]:
            self._drop_client(fd)
        self.reply(channel, Welcome(tuple(sorted(self.executions))))

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_slot(self, channel: Channel, wanted: messages.Slot, fds: list[int]) -> None:
        ours, theirs = Channel.pair()
        child = process.spawn("jobs:slot", lambda: slot.child(theirs, wanted.network), (theirs.fileno(),))
        theirs.close()
        SlotChild(self, child, ours, channel, wanted)

    def _on_helper(self, channel: Channel, wanted: messages.Helper, fds: list[int]) -> None:
        ours, theirs = Channel.pair()
        body = lambda: errand.helper(theirs, fds[0], tuple(fds[1:]))  # noqa: E731
        child = process.spawn("jobs:errand", body, (theirs.fileno(), *fds))
        theirs.close()
        Errand(self, child, ours, channel, wanted.request)

    def _on_open_as(self, channel: Channel, wanted: messages.OpenAs, fds: list[int]) -> None:
        ours, theirs = Channel.pair()
        child = process.spawn("jobs:errand", lambda: errand.open_as(theirs, fds[0]), (theirs.fileno(), fds[0]))
        theirs.close()
        Errand(self, child, ours, channel, wanted.request)

    def _on_create(self, channel: Channel, wanted: messages.Create, fds: list[int]) -> None:
        known = self.executions.get(wanted.execution_id)
        if known is not None:
            known.answer_create(channel, wanted.request)
            return
        if not _is_plain(wanted.execution_id):
            raise OSError(errno.EINVAL, "not an execution id", wanted.execution_id)
        try:
            marker = exitrecord.create_marker(f"{self.spool}/{wanted.execution_id}/started")
        except OSError as error:  # EEXIST: an earlier launcher started it; marker and record tell what became of it
            self.reply(channel, Refusal(wanted.request, "started", error.errno or errno.EIO, error.filename))
            return
        faultpoint.reach("launcher:marked")
        try:
            spare = self.spares[0] if self.spares else self._make_spare()
            control = spare.hand_out()
            control.send(messages.Begin(), [fds[0], marker, *fds[1:]])
        finally:
            os.close(marker)
        execution = Execution(self, spare.child, control, wanted.execution_id)
        self.executions[wanted.execution_id] = execution
        execution.answer_create(channel, wanted.request)
        faultpoint.reach("launcher:cloned")

    def _make_spare(self) -> Spare:
        ours, theirs = Channel.pair()
        child = process.spawn("jobs:spare", lambda: monitor.main(theirs, self.seed), (theirs.fileno(), self.seed))
        theirs.close()
        return Spare(self, child, ours)

    def _on_go(self, channel: Channel, wanted: messages.Go, fds: list[int]) -> None:
        self._execution(wanted.execution_id).go(channel, wanted.request)
        faultpoint.reach("launcher:gone")

    def _on_abandon(self, channel: Channel, wanted: messages.Abandon, fds: list[int]) -> None:
        known = self.executions.get(wanted.execution_id)
        if known is not None:
            try:
                known.abandon()
            except OutOfOrder as error:  # it runs: too late
                raise OSError(errno.EBUSY, str(error), wanted.execution_id) from error
        self.reply(channel, Answer(wanted.request, {}))

    def _on_open_exec(self, channel: Channel, wanted: messages.OpenExec, fds: list[int]) -> None:
        os.close(self._open_init(wanted.execution_id))
        self._forget_old_tickets()
        ticket = os.urandom(16).hex()
        until = time.monotonic() + TICKET_S
        self._tickets[ticket] = _Ticket(wanted.execution_id, os.dup(fds[0]), wanted.peer_uid, until)
        self.reply(channel, Answer(wanted.request, {"ticket": ticket}))

    def _execution(self, execution_id: str) -> Execution:
        known = self.executions.get(execution_id)
        if known is None:
            raise OSError(errno.ESRCH, "no such execution", execution_id)
        return known

    def _open_init(self, execution_id: str) -> int:
        """A pidfd of pid 1, the caller's; also of an execution that a launcher before this one started. OSError."""
        known = self.executions.get(execution_id)
        if known is not None:
            return os.dup(known.init())
        marker = exitrecord.read_marker(f"{self.spool}/{execution_id}/started") if _is_plain(execution_id) else None
        init = exitrecord.open_init(marker) if marker is not None else None
        if init is None:
            raise OSError(errno.ESRCH, "not running", execution_id)
        return init

    # ── exec.sock ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept_guest(self, listening: socket.socket) -> None:
        now = time.monotonic()
        for fd in [fd for fd, (_, until) in self._guests.items() if until < now]:
            self._close_guest(fd)
        channel = _accept(listening)
        if channel is None:
            return
        uid = _peer_uid(channel)
        same = sum(_peer_uid(guest) == uid for guest, _ in self._guests.values())
        if uid and (same >= GUESTS_OF_ONE or len(self._guests) >= GUESTS):
            channel.close()
            return
        fd = channel.fileno()
        self._guests[fd] = (channel, now + GUEST_S)
        self.watch(fd, lambda: self._on_guest(channel))

    def _close_guest(self, fd: int) -> None:
        self.unwatch(fd)
        self._guests.pop(fd)[0].close()

    def _on_guest(self, channel: Channel) -> None:
        try:
            message, fds = channel.receive()
            close_all(fds)
            if isinstance(message, Ticket):
                self._redeem(channel, message.ticket)
        except (Malformed, OSError) as error:
            complain(f"exec refused: {error}")
        self._close_guest(channel.fileno())

    def _redeem(self, channel: Channel, text: str) -> None:
        """Single use: taken out before anything else. The peer is who the kernel says it is."""
        self._forget_old_tickets()
        ticket = self._tickets.pop(text, None)
        if ticket is None:
            channel.send(messages.StepError("ticket", errno.ESTALE, ""))
            return
        try:
            if _peer_uid(channel) != ticket.uid:
                channel.send(messages.StepError("ticket", errno.EPERM, ""))
                return
            try:
                init = self._open_init(ticket.execution_id)
            except OSError as error:
                channel.send(messages.StepError("ticket", error.errno or errno.ESRCH, ticket.execution_id))
                return
            channel.sock.setblocking(True)
            keep = (channel.fileno(), ticket.orders_fd, init)
            child = process.spawn("jobs:agent", lambda: session.agent(channel, ticket.orders_fd, init), keep)
            os.close(init)
            Member(self, child)
        finally:
            os.close(ticket.orders_fd)

    def _forget_old_tickets(self) -> None:
        now = time.monotonic()
        for text in [text for text, ticket in self._tickets.items() if ticket.until < now]:
            os.close(self._tickets.pop(text).orders_fd)


def _bound(path: str, mode: int) -> socket.socket:
    """Ends the program when another launcher answers there: two would share one spool and neither could be reached."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, suppress(FileNotFoundError):
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise SystemExit(f"launcher: another launcher answers on {path}; stop it, or use another run_dir")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o777 & ~mode)
    listening.bind(path)
    os.umask(before)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _accept(listening: socket.socket) -> Channel | None:
    try:
        sock, _ = listening.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    sock.setblocking(False)
    return Channel(sock)


def _peer_uid(channel: Channel) -> int:
    """SO_PEERCRED: whoever called connect(2), as the kernel saw it; unix(7)."""
    packed = channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", packed)[1])


def _is_plain(execution_id: str) -> bool:
    return execution_id.replace(".", "").isalnum() and execution_id.isascii() and not execution_id.startswith(".")


def _tell_ready() -> None:
    """sd_notify(3) where systemd waits for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1) if address.startswith("@") else address)


def command(state_dir: str, run_dir: str, python: str = sys.executable) -> list[str]:
    """The exact command line of a launcher."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.insert(0, {root!r}); from runtime.launcher import main; main()"
    return [python, "-I", "-S", "-c", code, state_dir, run_dir]


def main() -> None:
    state_dir, run_dir, *handed_over = sys.argv[1:]
    sc.set_process_name("jobs:launcher")
    process.reset_signals()
    os.umask(0o022)
    os.chdir("/")
    launcher = Launcher(state_dir, run_dir, *map(int, handed_over))
    launcher.upgrade_on_hangup()
    gc.collect()
    gc.freeze()  # clones share these pages for as long as nobody counts their objects
    gc.disable()
    _tell_ready()
    launcher.serve()
