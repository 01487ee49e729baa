"""Where the daemon is, and a client for it."""

from __future__ import annotations

import os

from jobs.cli.terminal import say
from jobs.client import Client

PATIENCE_S = 60.0  # for a daemon that was there and restarts


def socket_path() -> str:
    """$JOBS_SOCKET, else by the settings. Raises config.settings.BadSetting."""
    if chosen := os.environ.get("JOBS_SOCKET"):
        return chosen
    from config.settings import Settings, load

    try:
        return load().socket
    except PermissionError:  # the settings file is not for everybody
        return Settings().socket


def daemon() -> Client:
    return Client(socket_path(), patience_s=PATIENCE_S, on_wait=lambda: say("the daemon went away; waiting for it …"))
