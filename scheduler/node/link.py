"""The connection to the launcher, made again whenever it was lost: both may be killed and restarted at any time."""

from __future__ import annotations

import logging

import anyio

from jobs.errors import LauncherGone
from runtime.client import Launcher

log = logging.getLogger("jobs.node")

PATIENCE_S = 20.0  # systemd restarts the launcher within a second; nobody waits longer than this for it


class LauncherLink:
    """`get` waits for a living connection. The launcher drops connections of an older `epoch` unread."""

    def __init__(self, path: str, epoch: int) -> None:
        self._path, self._epoch = path, epoch
        self._launcher: Launcher | None = None
        self._connected = anyio.Event()

    async def run(self) -> None:
        """Connects and reconnects until cancelled."""
        delay_s = 0.02
        while True:
            try:
                self._launcher = await Launcher.connect(self._path, self._epoch)
            except (OSError, LauncherGone) as error:
                if isinstance(error, LauncherGone) and delay_s > 0.5:
                    log.warning("%s", error)
                log.debug("no launcher at %s yet: %s", self._path, error)
                await anyio.sleep(delay_s)
                delay_s = min(1.0, delay_s * 2)
                continue
            delay_s = 0.02
            self._connected.set()
            await self._launcher.lost.wait()
            log.warning("the launcher at %s hung up; reconnecting", self._path)
            self._launcher, self._connected = None, anyio.Event()

    async def back(self) -> None:
        """Waits for a launcher, for as long as it takes: a start that has begun nothing loses nothing by waiting."""
        if self._launcher is None:
            log.warning("a start waits: no launcher answers at %s", self._path)
            await self._connected.wait()

    async def get(self) -> Launcher:
        """Raises LauncherGone after PATIENCE_S without one."""
        if self._launcher is None:
            with anyio.move_on_after(PATIENCE_S):
                await self._connected.wait()
        if self._launcher is None:
            raise LauncherGone(
                f"no launcher answers at {self._path}",
                hint="start it: jobsd launcher, or systemctl start jobs-launcher",
            )
        return self._launcher
