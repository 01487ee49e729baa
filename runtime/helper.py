"""What others need from the launcher, as protocols: the daemon itself starts no process. Signatures only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol


class HelperResult(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


class HelperRunner(Protocol):
    """`Launcher.helper`: runs `argv` as root with `fds` as 3, 4, 5 … and returns when it has ended."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        fds: Sequence[int] = (),
        env: Mapping[str, str] = ...,
        stdin: bytes = b"",
        timeout_s: float = 300,
    ) -> HelperResult: ...


MapMaker = Callable[[str, str], Awaitable[int]]  # `Launcher.idmap_userns`: (uid_map, gid_map) → user namespace fd
