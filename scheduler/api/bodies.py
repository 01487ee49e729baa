"""Request bodies: read whole before a route sees them, bounded in size, time, and by user (docs/design/attacks.md T43).

A body that grows without end, or stops in the middle, costs at most `MOST_BODY_BYTES` for `BODY_S` seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from jobs.errors import Unavailable, UserError
from jobs.protocol import MOST_BODY_BYTES, Failure
from scheduler.api.replies import raw_reply

BODY_S = 30.0
MOST_OF_ONE_USER = 4 * MOST_BODY_BYTES  # bodies being read at the same time

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class TooLarge(Exception):
    """The body passed the limit."""


class TooSlow(Exception):
    """The body was not whole in time."""


class Hungup(Exception):
    """The peer went away before the body was whole."""


class BoundedBodies:
    """ASGI middleware."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.held: Counter[int] = Counter()  # uid → bytes being read or handled

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        uid, body = scope["state"]["peer"].uid, bytearray()
        try:
            with anyio.move_on_after(BODY_S) as patience:
                await self._read(uid, body, receive)
            if patience.cancelled_caught:
                raise TooSlow
            await self.app(scope, _replay(bytes(body), receive), send)
        except Hungup:
            return
        except TooLarge:
            await _refuse(send, 413, Failure(UserError.code, "request too large", "split it: at most 16 MiB at once"))
        except TooSlow:
            await _refuse(send, 408, Failure(Unavailable.code, "the request did not arrive in time", "try again"))
        finally:
            self._let_go(uid, len(body))

    async def _read(self, uid: int, body: bytearray, receive: Receive) -> None:
        """`body` and the user's count grow together, so that what is let go of is what was taken."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Hungup
            part = message.get("body", b"")
            body += part
            self.held[uid] += len(part)
            if len(body) > MOST_BODY_BYTES or self.held[uid] > MOST_OF_ONE_USER:
                raise TooLarge
            if not message.get("more_body", False):
                return

    def _let_go(self, uid: int, size: int) -> None:
        self.held[uid] -= size
        if self.held[uid] <= 0:
            del self.held[uid]


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()  # waits for the disconnect
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, body: Failure) -> None:
    for message in raw_reply(status, body):
        await send(message)
