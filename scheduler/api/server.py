"""uvicorn on an already bound Unix socket, as one task of the daemon: no signal handlers, no process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from fastapi import FastAPI

from jobs.errors import HostError
from scheduler.api.peer import PeerProtocol

GRACE_S = 0.3  # at the end, for answers under way; then streams and long polls are cut, and clients come again
CUT_S = 2.0  # for what was cut to close its files


def bind(path: str) -> socket.socket:
    """Listens on `path`, for every user. Raises HostError when a daemon answers there already."""
    probe = socket.socket(socket.AF_UNIX)
    with probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        else:
            raise HostError(f"another jobsd answers on {path}", hint="stop it, or set JOBS_RUN_DIR to another folder")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    os.chmod(path, 0o666)  # noqa: S103 - who may do what is decided by the peer's identity, not by the file's mode
    sock.listen(1024)
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # signals are the daemon's
        yield


async def serve(
    app: FastAPI, sock: socket.socket, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Until cancelled. `task_status.started()` when requests are answered."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.state.background)
        await _answer(app, sock, task_status)


async def _answer(app: FastAPI, sock: socket.socket, task_status: TaskStatus[None]) -> None:
    config = uvicorn.Config(
        _quietly(app),
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
    )
    server = _Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    task_status.started()
    try:
        await server.main_loop()
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(server)
        sock.close()


async def _stop(server: uvicorn.Server) -> None:
    """Ours, because uvicorn's waits for streams, and tells of those it cancels as if they were bugs."""
    state = server.server_state
    for listener in server.servers:
        listener.close()
    for connection in list(state.connections):
        connection.shutdown()  # closes the idle ones
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=GRACE_S)
    for connection in list(state.connections):
        connection.transport.abort()
    for task in list(state.tasks):
        task.cancel()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=CUT_S)


def _quietly(app: Any) -> Any:
    """A request is cancelled only by `_stop`, when its connection is gone already."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            pass

    return answer
