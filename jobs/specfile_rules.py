"""Rules between keys of a spec, looked at before single values are known to be right. Daemon only."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite
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
    return found + _of_placement(data) + _of_network(data.get("network"))


def _of_placement(data: Mapping[str, Any]) -> list[Found]:
    """Whole cores are for whole CPUs: fractions share theirs by definition."""
    placement, resources = data.get("placement"), data.get("resources")
    if not isinstance(placement, dict) or placement.get("cores") != "whole" or not isinstance(resources, dict):
        return []
    cpus = resources.get("cpus", 1)
    if not isinstance(cpus, float) or not isfinite(cpus) or cpus % 1 == 0:
        return []
    needs = f'"whole" needs a whole number of CPUs; resources.cpus is {cpus:g}'
    return [Found(("placement", "cores"), needs, f"drop cores, or write cpus = {ceil(cpus)}")]


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
