"""Rules between keys of a spec, looked at before single values are known to be right. Daemon only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, isfinite
from typing import Any

from jobs.specfile_jobs import merged
from jobs.specfile_problems import Found
from jobs.units import parse_size, render_size


def of_keys(data: Mapping[str, Any]) -> list[Found]:
    """Which keys exclude or need one another."""
    found: list[Found] = []
    if "command" in data and "script" in data:
        found.append(Found(("script",), "both command and script are given; possible: one of them"))
    if "command" not in data and "script" not in data:
        found.append(
            Found((), "neither command nor script is given; needs one of them", 'for example command = ["true"]')
        )
    inside = _of_memory(data.get("resources")) + _of_placement(data)
    return found + _of_array(data) + inside + _of_network(data.get("network")) + _of_variants(data, inside)


def _of_variants(data: Mapping[str, Any], said: list[Found]) -> list[Found]:
    """Each with what it has from the spec; what is wrong there is not said again."""
    given = data.get("variant")
    return [
        replace(item, path=("variant", position, *item.path))
        for position, variant in enumerate(given if isinstance(given, list) else ())
        if isinstance(variant, dict)
        for whole in [merged(data, variant)]
        for item in _of_memory(whole.get("resources")) + _of_placement(whole)
        if item not in said
    ]


def _of_array(data: Mapping[str, Any]) -> list[Found]:
    depends = data.get("depends")
    if "array" in data or not isinstance(depends, dict) or not depends.get("aftercorr"):
        return []
    return [Found(("depends", "aftercorr"), "needs an array here too", "write afterok, or give array = …")]


def _of_memory(resources: object) -> list[Found]:
    """What is slowed down or protected lies below the limit. Sizes that are none are told of elsewhere."""
    if not isinstance(resources, dict):
        return []
    most = _bytes(resources.get("memory", "1GiB"))
    return [
        Found(
            ("resources", key),
            f"{given!r} is more than memory, which is {render_size(most)}",
            f"raise memory, or lower {key}",
        )
        for key in ("memory_high", "memory_min")
        if most and _bytes(given := resources.get(key, 0)) > most
    ]


def _bytes(given: object) -> int:
    """0 for what is no size."""
    try:
        return parse_size(given) if isinstance(given, str | int) else 0
    except ValueError:
        return 0


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
