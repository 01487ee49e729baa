"""The JSON Schema of a spec, for editors: made of the models, without what only pydantic cares about. Daemon only."""

from __future__ import annotations

from typing import Any

from jobs.spec import SPEC_VERSION
from jobs.specfile_model import Document


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12. Says less than the checks do: an editor's help, never the judge."""
    made = tidy(Document.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"jobs spec, version {SPEC_VERSION}",
        **{key: value for key, value in made.items() if key != "required"},
        "properties": made["properties"] | _several(),
        "$defs": made["$defs"] | {"Job": _a_job(made, "name"), "Defaults": _a_job(made)},
        "oneOf": [{"required": ["name", "command"]}, {"required": ["name", "script"]}, {"required": ["job"]}],
    }


def _several() -> dict[str, Any]:
    return {
        "defaults": {"$ref": "#/$defs/Defaults", "description": "What each [[job]] has that does not say otherwise."},
        "job": {
            "type": "array",
            "items": {"$ref": "#/$defs/Job"},
            "minItems": 1,
            "description": "Several jobs in one file, submitted together or not at all.",
        },
    }


def _a_job(made: dict[str, Any], *required: str) -> dict[str, Any]:
    properties = made["properties"]
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": list(required)}


def tidy(node: Any) -> Any:
    """TOML has no null: an optional key is absent. Titles only repeat the keys."""
    if isinstance(node, list):
        return [tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if choices and len(choices) < len(node["anyOf"]):
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        node = {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), **rest}
    return {
        key: {name: tidy(inner) for name, inner in value.items()} if key in ("properties", "$defs") else tidy(value)
        for key, value in node.items()
        if key != "title"
    }
