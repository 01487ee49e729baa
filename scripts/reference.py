"""Makes the reference out of the code, so that it can't say anything else: `scripts/reference` writes it.

`documents()` is what the files must hold; tests/test_docs.py compares. The words stand in the code: descriptions of
spec keys in jobs/specfile_model.py, comments of settings and states beside them, help and docstrings of commands.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from config.generic import KEYS as GENERIC_KEYS
from config.generic import GenericSetting
from config.settings import TABLES, Settings
from jobs import errors, events, states
from jobs.cli import main as cli
from jobs.policyfile_model import Document as Policy
from jobs.record import FINAL, State
from jobs.specfile import json_schema
from jobs.specfile_schema import tidy
from scheduler.api.access import Access
from scheduler.api.app import create_app
from scheduler.api.parts import Parts

ROOT = Path(__file__).resolve().parent.parent
MADE = "<!-- Made by scripts/reference from {source}; do not edit. -->\n"


def documents() -> dict[str, str]:
    """Path below the root → text."""
    return {
        "docs/reference/spec.md": spec(),
        "docs/reference/spec.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "docs/reference/policy.md": policy(),
        "docs/reference/settings.md": settings(),
        "config/defaults.toml": defaults(),
        "docs/reference/commands.md": commands(),
        "docs/reference/states.md": state_table(),
        "docs/reference/errors.md": error_table(),
        "docs/reference/api.md": api(),
    }


# ── spec keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def spec() -> str:
    schema = json_schema()
    lines = [
        MADE.format(source="jobs/specfile_model.py"), "# The spec\n",
        "A job is described in TOML. Two keys are needed: `name`, and either `command` or `script`. "
        "Unknown keys are errors. For editors there is a [JSON Schema](spec.schema.json); "
        "[examples](../../examples/README.md) show the keys at work.\n",
        "Sizes are written `\"4GiB\"`, `\"512MiB\"` or as bytes; `K`, `M`, `G`, `T` alone are powers of 1024. "
        "Durations are `\"90s\"`, `\"15m\"`, `\"1h30m\"` or seconds. Rates of disks are `\"100MiB/s\"`, of the network "
        "`\"100mbit\"`.\n",
        "`jobs submit --set KEY=VALUE` replaces a single key: `--set resources.cpus=4`, `--set env.LEVEL=9`, "
        "`--set mounts.0.mode=rw`.\n",
        "A file may describe several jobs: a table `[[job]]` for each, and `[defaults]` with what they share. They are "
        "submitted together or not at all; `[depends]` says what comes before what.\n",
    ]  # fmt: skip
    for key, node in _spec_tables(schema, schema, ""):
        title = {"": "At the top", "mounts": "[[mounts]]", "variant": "[[variant]]"}.get(key, f"[{key}]")
        rows = [(name, field) for name, field in node["properties"].items() if not _table_of(schema, field)]
        lines += [f"## {title}\n", *(["| key | value | default | |", "|---|---|---|---|"] if rows else [])]
        lines += [] if rows else [node["description"]]
        for name, field in rows:
            needed = name in (node if key else schema["$defs"]["Job"]).get("required", ())
            default = "needed" if needed else _code(field["default"]) if "default" in field else "absent"
            lines.append(f"| `{name}` | {_kind(field)} | {default} | {_cell(field['description'])} |")
        lines.append("")
    return "\n".join(lines)


def policy() -> str:
    schema = tidy(Policy.model_json_schema(by_alias=True))
    lines = [
        MADE.format(source="jobs/policyfile_model.py"), "# The policy file\n",
        "What operators decide about queues, shares and reservations: `/etc/jobs/policy.toml`, or the file that the "
        "setting `policy_file` names. The daemon reads it at its start and at `jobs queue reload`; without it there is "
        "one open queue. Unknown keys are errors, and a file with an error changes nothing. "
        "[An example](../../config/policy.toml) has a bit of everything; "
        "[how to use it](../howto/queues.md).\n",
    ]  # fmt: skip
    for key, node in _policy_tables(schema, schema, ""):
        title = f"[{key}]" if key else "At the top"
        lines += [f"## {title}\n", "| key | value | default | |", "|---|---|---|---|"]
        for name, field in node["properties"].items():
            if not _table_of(schema, field):
                needed = name in node.get("required", ())
                default = "needed" if needed else _code(field["default"]) if "default" in field else "absent"
                lines.append(f"| `{name}` | {_kind(field)} | {default} | {_cell(field['description'])} |")
        lines.append("")
    return "\n".join(lines)


def _policy_tables(schema: dict[str, Any], node: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield key, node
    for name, field in node["properties"].items():
        if table := _table_of(schema, field):
            named = "additionalProperties" in field
            yield from _policy_tables(schema, table, f"{key}.{name}{'.NAME' if named else ''}".lstrip("."))


def _spec_tables(schema: dict[str, Any], node: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield key, node
    for name, field in node["properties"].items():
        if name in ("job", "defaults"):  # the same keys once more
            continue
        if table := _table_of(schema, field):
            yield from _spec_tables(schema, table, f"{key}.{name}".lstrip("."))


def _table_of(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any] | None:
    below = field.get("additionalProperties") or field.get("items") or {}
    reference = field.get("$ref") or (below.get("$ref") if isinstance(below, dict) else None)
    found: dict[str, Any] | None = schema["$defs"][reference.rpartition("/")[2]] if reference else None
    return found


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f'`"{word}"`' for word in field["enum"])
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    words = {"string": "string", "integer": "integer", "number": "number", "array": "list", "object": "table",
             "boolean": "`true` or `false`"}
    kind = field["type"] if isinstance(field["type"], list) else [field["type"]]
    text = " or ".join(words[word] for word in kind)
    if text == "list":
        of = field["items"]["type"]
        kinds = {"integer": "numbers", "string": "strings"}
        text += f" of {' or '.join(kinds[each] for each in ([of] if isinstance(of, str) else of))}"
    if "maximum" in field and len(kind) == 1:
        low = f"above {field['exclusiveMinimum']}" if "exclusiveMinimum" in field else str(field["minimum"])
        text += f", {low} to {field['maximum']}"
    return text


# ── settings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def setting_rows() -> list[tuple[str, Any, str]]:
    """(name, default, comment) in the order of the class."""
    source = inspect.getsource(Settings)
    comments = dict(re.findall(r"^    (\w+): \w+ = .*?  # (.*)$", source, re.MULTILINE))
    return [(field.name, field.default, comments[field.name]) for field in fields(Settings) if field.name not in TABLES]


def generic_rows() -> list[tuple[str, str]]:
    """(key of a table [generic.NAME], comment)."""
    source = inspect.getsource(GenericSetting)
    comments = dict(re.findall(r"^    (\w+): .* = .*?  # (.*)$", source, re.MULTILINE))
    return [(key, comments[key]) for key in GENERIC_KEYS]


def settings() -> str:
    lines = [
        MADE.format(source="config/settings.py"), "# Settings of jobsd and the launcher\n",
        "Defaults, then `/etc/jobs/jobs.toml` (or the file that `JOBS_CONFIG` names), then variables `JOBS_…`. "
        "A setting that does not exist is an error. `config/defaults.toml` is a file to start from.\n",
        "| setting | variable | default | |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, default, comment in setting_rows():
        lines.append(f"| `{name}` | `JOBS_{name.upper()}` | {_code(default)} | {_cell(comment)} |")
    lines += [
        "", "## [generic.NAME]\n",
        "A resource that jobs ask for by its name: [GPUs, licences](../howto/generic.md). Either `devices` or `count` "
        "is needed.\n",
        "| key | |", "|---|---|",
    ]  # fmt: skip
    lines += [f"| `{key}` | {_cell(comment)} |" for key, comment in generic_rows()]
    return "\n".join([*lines, ""])


def defaults() -> str:
    lines = [
        "# Settings of jobsd and the launcher, each with its default. Copy what you change to /etc/jobs/jobs.toml.",
        "# Made by scripts/reference from config/settings.py; do not edit.", "",
    ]  # fmt: skip
    for name, default, comment in setting_rows():
        lines += [f"# {comment}", f"{name} = {json.dumps(default)}", ""]
    lines += ["# resources that jobs ask for by name; docs/howto/generic.md", "# [generic.gpu]"]
    lines += ['# devices = ["/dev/nvidia0", "/dev/nvidia1"]', '# shared = ["/dev/nvidiactl", "/dev/nvidia-uvm"]', ""]
    lines += ["# [generic.licence_solver]", "# count = 5", ""]
    return "\n".join(lines)


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────


def commands() -> str:
    os.environ["JOBS_PROGRAM"] = "jobs"
    lines = [
        MADE.format(source="jobs/cli/"), "# Commands\n",
        "`jobs` and `jobsctl` are the same program. In an interactive shell `jobs` is a builtin: "
        "[how to reach this one](../howto/shell.md).\n",
        "Data goes to stdout, everything else to stderr. `--json` prints JSON. Exit codes: [errors](errors.md).\n",
    ]  # fmt: skip
    for title, names in cli.SECTIONS.items():
        lines.append(f"## {title}\n")
        for name in names:
            command = cli.load(name)
            for path, each in _with_subcommands(name, command):
                lines += [f"### jobs {path}\n", "```text", _help(path, each), "```\n"]
    return "\n".join(lines)


def _with_subcommands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _with_subcommands(f"{path} {name}", each)
    else:
        yield path, command


def _help(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"jobs {path}", terminal_width=100, max_content_width=100,
                            help_option_names=["-h", "--help"])  # fmt: skip
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


# ── states and errors ──────────────────────────────────────────────────────────────────────────────────────────────


def state_table() -> str:
    comments = dict(re.findall(r'^    \w+ = "(\w+)"(?:  # (.*))?$', inspect.getsource(State), re.MULTILINE))
    lines = [
        MADE.format(source="jobs/record.py and jobs/states.py"), "# States of a job\n", "| state | |", "|---|---|",
        *(f"| `{state}`{' (final)' if state in FINAL else ''} | {_cell(comments[state])} |" for state in State),
        "\n## What leads where\n",
        "Each arrow is an event; it is written to the journal before anything else sees it. "
        "An event that has no arrow from a state is refused and changes nothing.\n",
        "```mermaid", "stateDiagram-v2",
    ]  # fmt: skip
    lines += [f"    {before} --> {after}: {kind}" for before, kind, after in arrows()]
    lines += ["```\n", "## Events that leave the state as it is\n", "| state | events |", "|---|---|"]
    for state, row in states.TABLE.items():
        stay = ", ".join(f"`{event.kind}`" for event, after in row.items() if after is None)
        lines.append(f"| `{state}` | {stay} |")
    return "\n".join([*lines, ""])


def arrows() -> Iterator[tuple[str, str, str]]:
    """(from, event, to); an exit leads to one of several states, by its cause."""
    yield "[*]", "submitted", str(State.QUEUED)
    yield "[*]", "submitted on hold", str(State.HELD)
    for state, row in states.TABLE.items():
        for event, after in row.items():
            if event.kind == "exited":
                yield state, "exited, status 0", str(State.COMPLETED)
                yield state, "exited, another status", str(State.FAILED)
                yield state, "exited after a cancel", str(State.CANCELLED)
                yield state, "exited, time limit or deadline", str(State.TIMED_OUT)
                yield state, "exited, out of memory", str(State.OUT_OF_MEMORY)
                if events.Preempted in row:
                    yield state, "exited, to be queued again for a more urgent job", str(State.QUEUED)
                yield state, "exited, retry or checkpoint", str(State.QUEUED)
            elif event.kind == "lost":
                yield state, "lost", str(State.LOST)
                yield state, 'lost, on_lost = "requeue"', str(State.QUEUED)
            elif event.kind == "start_failed":
                yield state, "start_failed", str(State.FAILED)
                yield state, "start_failed, retry", str(State.QUEUED)
            elif event.kind == "cancel_requested" and after is not None:
                yield state, "cancel_requested", str(State.CANCELLED)
                yield state, "deadline", str(State.TIMED_OUT)
            elif after is not None:
                yield state, event.kind, str(after)


def error_table() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "")
    lines = [
        MADE.format(source="jobs/errors.py"), "# Errors and exit codes\n", "```text", tree, "```\n",
        "| code | exit code | HTTP status | |", "|---|---|---|---|",
    ]  # fmt: skip
    for error in _errors(errors.JobsError):
        said = re.search(rf"^[ │├└─]*{error.__name__} +(\S.*?)(?:  +exit \d+)?$", tree, re.MULTILINE)
        text = said[1] if said else inspect.cleandoc(error.__doc__ or "").partition("\n")[0]
        lines.append(f"| `{error.code}` | {error.exit_code} | {error.status} | {_cell(text)} |")
    return "\n".join([*lines, ""])


# ── the API ────────────────────────────────────────────────────────────────────────────────────────────────────────


def api() -> str:
    nothing: Any = None  # only the description is wanted; no route is called
    parts = Parts(*[nothing] * 7, Access(), *[nothing] * 6)
    description = create_app(parts).openapi()
    lines = [
        MADE.format(source="scheduler/api/"), "# The API\n",
        "HTTP with JSON on the Unix socket `/run/jobs/jobsd.sock`; the CLI uses nothing else. "
        "Who asks is what the kernel says of the peer: a user sees and steers their own jobs, "
        "root and members of the operators' group all. `GET /v1/openapi.json` is the whole description.\n",
        "```sh", "curl --unix-socket /run/jobs/jobsd.sock http://jobsd/v1/jobs", "```\n",
        "Every answer that is not 2xx is `{code, message, hint, problems}`; the codes are in [errors](errors.md). "
        "A submission carries a `request_id`: the same one again is the same submission.\n",
        "| method | path | | parameters and keys |", "|---|---|---|---|",
    ]  # fmt: skip
    for path, methods in description["paths"].items():
        for method, each in methods.items():
            names = ", ".join(f"`{name}`" for name in _inputs(description, each))
            lines.append(f"| {method.upper()} | `{path}` | {_cell(each['summary'])} | {names} |")
    return "\n".join([*lines, ""])


def _inputs(description: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    queries = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = description["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
    return [*queries, *schema.get("properties", ())]


def _errors(error: type[errors.JobsError]) -> Iterator[type[errors.JobsError]]:
    if error.__module__ == errors.__name__:
        yield error
        for each in error.__subclasses__():
            yield from _errors(each)


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").strip()


if __name__ == "__main__":
    for path, text in documents().items():
        (ROOT / path).write_text(text)
        print(path)
