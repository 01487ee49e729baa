"""The JSON Schema: the one in the docs is this one, and it agrees with the checks about real specs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jobs import specfile

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").rglob("*.toml"))
VALIDATOR = jsonschema.Draft202012Validator(specfile.json_schema())


def valid(spec: dict[str, Any]) -> bool:
    return bool(VALIDATOR.is_valid(spec))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(specfile.json_schema())


def test_the_schema_in_the_docs_is_current() -> None:
    written = json.loads((ROOT / "docs" / "reference" / "spec.schema.json").read_text())
    assert written == specfile.json_schema(), "run scripts/reference"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    text = path.read_text()
    specfile.parse(text, file=str(path), folder=str(path.parent))
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))] == []


GOOD: dict[str, Any] = {"name": "a", "command": ["true"]}


@pytest.mark.parametrize(
    "more",
    [
        {"time_limit": "1h30m"}, {"time_limit": 90}, {"run_as": 0}, {"run_as": "1000"},
        {"resources": {"memory": "4GiB", "io": {"read": "100MiB/s"}, "hugepages": {"2MiB": 64}, "cpus": 0.25}},
        {"resources": {"memory": 1 << 30}}, {"placement": {"numa": [0, 1]}}, {"env": {"A": "b"}},
        {"network": {"publish": ["8080:80/tcp"], "rate": "100mbit", "priority_class": "realtime"}},
        {"mounts": [{"source": "a", "target": "/b", "mode": "rw"}]}, {"stop": {"grace": "30s"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_checks_accept_the_schema_accepts(more: dict[str, Any]) -> None:
    assert valid(GOOD | more)


@pytest.mark.parametrize(
    "more",
    [
        {"comand": []}, {"script": "x"}, {"priority": 101}, {"priority": "high"}, {"resources": {"cpus": 0}},
        {"resources": {"cpu": 1}}, {"network": {"mode": "brigde"}}, {"network": {"publish": ["80"]}},
        {"mounts": [{"source": "a"}]}, {"env": {"A": 1}}, {"time_limit": "soon"}, {"resources": {"memory": "much"}},
        {"run_as": "0x0"}, {"name": "a/b"}, {"version": 2}, {"network": {"rate": "100MB"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_schema_refuses(more: dict[str, Any]) -> None:
    assert not valid(GOOD | more)
