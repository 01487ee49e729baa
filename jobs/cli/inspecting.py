from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, complete_jobs

if TYPE_CHECKING:
    from jobs.inspection import Snapshot

EXAMPLES = """
jobs inspect 17
jobs inspect 17 --save before.json
jobs inspect --diff before.json after.json
"""


def command(
    what: Annotated[list[str], typer.Argument(metavar="JOB", help="Id of a job that runs or is frozen; with --diff "
                                              "two saved files.", autocompletion=complete_jobs)],
    save: Annotated[str, typer.Option(metavar="FILE", help="Write it as JSON, to share or to compare.")] = "",
    diff: Annotated[bool, typer.Option("--diff", help="What moved between two saved looks.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Look inside a running or frozen job: what each thread waits for, files, memory. The job does not notice."""
    import json
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data, json_data, look, say, write_file
    from jobs.errors import UserError
    from jobs.render_inspect import difference, page

    if diff:
        if len(what) != 2:
            raise UserError("--diff needs two files", hint="jobs inspect 17 --save before.json makes one")
        data(difference(_saved(what[0]), _saved(what[1]), look()))
        return
    if len(what) != 1:
        raise UserError("one job at a time", hint="see your jobs with: jobs list")
    seen = daemon().inspect(what[0])
    if save:
        write_file(save, json.dumps(asdict(seen), indent=1) + "\n")
        say(f"saved what was seen of job {seen.job} to {save}")
    elif as_json:
        json_data(asdict(seen))
    else:
        data(page(seen, look()))


def _saved(path: str) -> Snapshot:
    """Raises UserError for what is no file of --save."""
    import json

    from jobs.errors import UserError
    from jobs.inspection import Snapshot, from_json

    try:
        with open(path, encoding="utf-8") as file:
            return from_json(Snapshot, json.load(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not what jobs inspect --save wrote", hint="jobs inspect 17 --save FILE") from error
