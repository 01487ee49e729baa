"""docs/tutorial.md, typed as it stands: every block of commands succeeds, with the ids that the text says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from installation import BIN, ROOT, Installation

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
# Setting up, an embedded daemon, and starting one are not repeated here: this installation stands for them.
NOT_HERE = ("scripts/setup", "jobs run", "jobsd")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.needs("cpus.2")
def test_the_tutorial(site: Installation, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "first.toml").write_text(blocks("toml")[0].replace("~/data", str(home / "data")))
    typed = [block for block in blocks("sh") if not any(word in block for word in NOT_HERE)]
    assert len(typed) >= 6
    for block in typed:
        done = subprocess.run(
            ["bash", "-ec", f'jobs() {{ "{BIN}/jobsctl" "$@"; }}\n{block}'],
            cwd=folder, env=site.environment({"HOME": str(home)}), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{site.logs()}"
    states = {job["name"]: job["state"] for job in site.jobs()}
    assert states == {"numeric": "completed", "compress": "completed", "sleeper": "cancelled", "first": "completed"}
    assert site.show(2)["exit_status"] == 0
