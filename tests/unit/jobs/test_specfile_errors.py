"""Bad specs: the exact text of each error. Adding a key: add its mistakes to tests/data/bad_specs.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import specfile
from jobs.errors import EXIT_USER, SpecError

CASES = Path(__file__).parents[2] / "data" / "bad_specs.txt"
GOOD = 'name = "a"\ncommand = ["true"]\n'
WITH_MOUNT = GOOD + '[[mounts]]\nsource = "/a"\ntarget = "/b"\n'
KEY_OF_50 = "a" + ".a" * 50 + "=1"


def cases() -> list[tuple[str, str, str]]:
    """(name, spec, error) of each block."""
    blocks = CASES.read_text().split("=== ")[1:]
    parts = [(block.partition("\n")[0], *block.partition("\n")[2].split("---\n")) for block in blocks]
    return [(name, text, error.removesuffix("\n")) for name, text, error in parts]


def refusal(text: str, *sets: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        specfile.parse(text, file="t.toml", folder="/home/u", sets=sets)
    return caught.value


@pytest.mark.parametrize(("text", "error"), [case[1:] for case in cases()], ids=[case[0] for case in cases()])
def test_text_of_the_error(text: str, error: str) -> None:
    refused = refusal(text)
    assert str(refused) == error
    assert refused.exit_code == EXIT_USER


def test_there_are_more_than_sixty() -> None:
    assert len({name for name, _, _ in cases()}) >= 120


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "\ufeff" + GOOD,
            "t.toml:1: begins with a byte order mark; needs plain UTF-8\n  hint: save it as UTF-8 without BOM",
        ),
        (GOOD + "# \udc80", "t.toml:3: not UTF-8; needs a text file in UTF-8"),
        (GOOD + "#" * (1 << 20), "t.toml: 1048606 bytes are too many for a spec; at most 1048576"),
        (GOOD + "priority = " + "1" * 5000, "t.toml:3: not a spec: holds an integer of thousands of digits"),
        (GOOD + "a" + ".a" * 40 + " = 1", "t.toml:3: not a spec: nested deeper than 32 levels"),
        (GOOD + "a = " + "[" * 5000, "t.toml:3: not a spec: nested deeper than 32 levels"),
        (GOOD + "a = " + "{a=" * 5000, "t.toml:3: not a spec: nested deeper than 32 levels"),
        (GOOD + "[" + "a." * 5000 + "a]", "t.toml:3: not a spec: nested deeper than 32 levels"),
        (
            'name = "a"\ncommand = ["' + "x" * 140000 + '"]',
            "t.toml:2: command[0]: 140000 bytes are too long; at most 131071",
        ),
        (GOOD + '[env]\nA = "' + "s" * 131000 + '"', "t.toml:4: env.A: 131000 bytes are too long; at most 130047"),
        (
            "",
            't.toml:1: neither command nor script is given; needs one of them\n  hint: for example command = ["true"]\n'
            "t.toml:1: name: is missing: name of the job; other jobs of the same user reach it by this name",
        ),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else None,
)
def test_too_large_for_the_table(text: str, error: str) -> None:
    assert str(refusal(text)) == error


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["priority"], "--set: 'priority' is not key=value\n  hint: for example: --set resources.cpus=4"),
        (["=5"], "--set: '=5' is not key=value\n  hint: for example: --set resources.cpus=4"),
        (["a\udc80=5"], "--set: 'a\\udc80=5' is not UTF-8\n  hint: for example: --set resources.cpus=4"),
        (["priority=200"], "--set: priority: 200 is out of range; needs an integer from 0 to 100"),
        (["priority=high"], "--set: priority: 'high' is a string; needs an integer from 0 to 100"),
        (["name.x=1"], "--set: name.x: 'x' is not possible below a string; needs a table"),
        (["mounts.0.mode=rx"], "--set: mounts[0].mode: 'rx' is not possible; possible: ro, rw"),
        (["mounts.7.mode=ro"], "--set: mounts[7].mode: 7 is not an element; the list has 1, numbered from 0"),
        (["mounts.x.mode=ro"], "--set: mounts.x.mode: 'x' is not an element; the list has 1, numbered from 0"),
        (
            ["resources.cpu=2"],
            "--set: resources.cpu: unknown key; possible here: "
            "cpu_weight, cpus, devices, generic, hugepages, io, memory, memory_high, memory_min, pids, swap\n"
            "  hint: did you mean 'cpus'?",
        ),
        (
            ["network.mode=brigde", "priority=-1"],
            "--set: network.mode: 'brigde' is not possible; possible: bridge, host, none\n"
            "  hint: did you mean 'bridge'?\n"
            "--set: priority: -1 is out of range; needs an integer from 0 to 100",
        ),
        (["env.A=1\0"], "--set: env.A: holds a NUL character; the kernel ends strings there"),
        (["command=true"], "--set: command: true is a boolean; needs a list of strings"),
        (
            [KEY_OF_50],
            f"--set: '{KEY_OF_50[:56]}… is nested deeper than 32 levels\n  hint: for example: --set resources.cpus=4",
        ),
        (
            ["network.mode=none", 'network.publish=["80:80"]'],
            '--set: network.publish: needs mode = "bridge"; mode is "none"\n  hint: drop publish, or the mode',
        ),
    ],
)
def test_errors_of_set(options: list[str], error: str) -> None:
    assert str(refusal(WITH_MOUNT, *options)) == error


def test_problems_come_in_the_order_of_the_file_then_of_the_options() -> None:
    text = '[network]\nmode = "x"\n[resources]\npids = 0\ncpus = 0\n[image]\nsource = ""\n'
    refused = refusal(text, "priority=101", "run_as=x")
    lines = [problem.line for problem in refused.problems]
    assert lines[:-2] == sorted(lines[:-2])
    assert [problem.key for problem in refused.problems[-2:]] == ["priority", "run_as"]
    assert {problem.key for problem in refused.problems} >= {
        "network.mode",
        "resources.pids",
        "resources.cpus",
        "image.source",
    }


@pytest.mark.parametrize("value", ['"s3cret\\u0000"', "['s3cret']", "{ s3cret = 1 }", '"s3cret' + "x" * 131000 + '"'])
def test_values_of_variables_are_never_repeated(value: str) -> None:
    assert "s3cret" not in str(refusal(GOOD + f"[env]\nA = {value}\n"))


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 500_000 + " = 1",
        "a." * 500_000,
        "[" * 1_000_000,
        "a = " + "'" * 1_000_000,
        "a = '''" + "''x" * 300_000,
    ],
    ids=["parts", "unfinished", "brackets", "quotes", "long-string"],
)
def test_a_hostile_spec_is_refused_in_linear_time(text: str) -> None:
    """Without the check of depth tomllib takes hours for the first: quadratic in the parts of a key. Nothing is timed
    here; a scanner that backtracks would simply not come back."""
    refusal(text)
