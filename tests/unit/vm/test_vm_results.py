"""From what a guest reported to the table: nothing that failed, or did not run, counts as passed."""

from __future__ import annotations

from pathlib import Path

from vm.guest import Outcome
from vm.results import Result, as_json, line, read_result, table

JUNIT = """<testsuites><testsuite>
<testcase classname="a" name="one"/>
<testcase classname="a" name="two"><failure message="wrong">text</failure></testcase>
<testcase classname="a" name="three"><error message="in the fixture"/></testcase>
<testcase classname="a" name="four"><skipped message="needs numa.2: one node"/></testcase>
<testcase classname="a" name="five"/>
<testcase classname="a" name="five"><error message="at teardown"/></testcase>
</testsuite></testsuites>"""


def read(folder: Path, text: str, status: int = 0, why: str = "") -> Result:
    junit = folder / "junit.xml"
    junit.write_text(text)
    return read_result("net", "v2x1", Outcome(status, 12.4, 8.0, why), [junit])


def test_a_test_that_failed_at_teardown_did_not_pass(tmp_path: Path) -> None:
    result = read(tmp_path, JUNIT, status=1)
    assert (result.run, result.passed, result.failed) == (4, 1, ("a.two", "a.three", "a.five"))
    assert result.skipped == ("needs numa.2: one node",)
    assert not result.good


def test_boots_are_one_run(tmp_path: Path) -> None:
    """Skipped in the first and passed in the second is passed; failed in either is failed."""
    case = '<testsuites><testcase classname="a" name="{}">{}</testcase></testsuites>'
    texts = [case.format("x", '<skipped message="later"/>'), case.format("x", ""), case.format("y", "<failure/>")]
    files = [tmp_path / f"junit-{number}.xml" for number in (1, 2, 3)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    result = read_result("systemd", "systemd", Outcome(1, 1.0, 1.0), files)
    assert (result.passed, result.failed, result.skipped) == (1, ("a.y",), ())


def test_a_status_that_no_test_explains_is_trouble(tmp_path: Path) -> None:
    one = '<testsuites><testsuite><testcase classname="a" name="one"/></testsuite></testsuites>'
    assert read(tmp_path, one).good
    assert read(tmp_path, one, status=3).trouble == "pytest ended with status 3"


def test_a_guest_without_a_report_is_trouble(tmp_path: Path) -> None:
    missing = read_result("net", "v2x1", Outcome(124, 5.0, 4.0, "the time of 5 s ran out; it printed\n  x"), [])
    assert missing.trouble == "the time of 5 s ran out; it printed"
    assert read(tmp_path, "<testsuites>", status=1).trouble.startswith("no JUnit file")


def test_no_test_is_no_success(tmp_path: Path) -> None:
    assert read(tmp_path, "<testsuites/>").trouble == "no test ran"
    only_skips = '<testsuites><testcase classname="a" name="b"><skipped message="needs x: y"/></testcase></testsuites>'
    assert read(tmp_path, only_skips).trouble == "no test ran"


def test_a_command_counts_by_its_status() -> None:
    assert read_result("demo", "systemd", Outcome(0, 1.0, 1.0), None).good
    assert read_result("demo", "systemd", Outcome(3, 1.0, 1.0), None).trouble == "ended with status 3"


def test_the_table() -> None:
    results = [
        Result("cgroups", "v2x1", passed=50, skipped=("needs numa.2: one node",) * 2, seconds=61.0),
        Result("cgroups", "v1x1", passed=49, failed=("kernel.test_x",), seconds=70.4),
        Result("net", "v2x1", trouble="the time of 5 s ran out", seconds=5.0),
    ]
    assert table(results).splitlines() == [
        "passed/skipped/failed  v1x1    v2x1",
        "net                    -       0/0/0!",
        "                               5 s",
        "cgroups                49/0/1  50/2/0",
        "                       70 s    61 s",
        "",
        "skipped:",
        "    2 × needs numa.2: one node  [v2x1]",
        "",
        "failed:",
        "  v1x1 kernel.test_x",
        "  v2x1 net: the time of 5 s ran out",
        "",
        "100 tests ran in 3 guests: 99 passed, 1 failed; 2 skipped; 0 s of CPU; 1 guests in trouble",
    ]
    assert [row["good"] for row in as_json(results)["results"]] == [True, False, False]
    assert "cgroup2.memory" in as_json(results)["cells"]["v2x1"]["promises"]


def test_one_line_for_one_run() -> None:
    assert line(Result("net", "v2x1", passed=3, seconds=9.6, cpu_s=7.0)) == "v2x1 net: 3 passed in 10 s (7 s of CPU)"
