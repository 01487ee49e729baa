"""Rules between keys of a spec, looked at before single values are known to be right. Daemon only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.specfile_problems import Found


def of_keys(data: Mapping[str, Any]) -> list[Found]:
    """Which keys exclude or need one another."""
    found: list[Found] = []
    if "command" in data and "script" in data:
        found.append(Found(("script",), "both command and script are given; possible: one of them"))
    if "command" not in data and "script" not in data:
        found.append(
            Found((), "neither command nor script is given; needs one of them", 'for example command = ["true"]')
        )
    return found + _of_network(data.get("network"))


def _of_network(network: object) -> list[Found]:
    if not isinstance(network, dict):
        return []
    mode = network.get("mode", "bridge")
    if mode not in ("host", "none"):
        return []
    return [
        Found(("network", key), f'needs mode = "bridge"; mode is "{mode}"', f"drop {key}, or the mode")
        for key in ("publish", "rate")
        if network.get(key)
    ]
