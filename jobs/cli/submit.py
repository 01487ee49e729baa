from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.arguments import AsJson, Sets

EXAMPLES = """
jobs submit examples/hello.toml
jobs submit --follow --set resources.cpus=2 encode.toml
jobs submit a.toml b.toml              all or none of them
generate-spec | jobs submit -
"""


def command(
    files: Annotated[list[str], typer.Argument(metavar="SPEC…", help="TOML files; - is stdin.", show_default=False)],
    sets: Sets = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show output and progress; Ctrl-C detaches.")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="Do not start before `jobs release`.")] = False,
    as_json: AsJson = False,
) -> int:
    """Submit jobs to the queue.

    With --follow the exit status is the job's own.
    """
    from jobs.cli.connect import daemon
    from jobs.cli.specs import read_specs
    from jobs.cli.terminal import json_data, program, say

    client = daemon()
    accepted = client.submit(read_specs(files, sets or []), hold=hold)
    if as_json:
        json_data([{"job": job, "name": name} for job, name in zip(accepted.jobs, accepted.names, strict=True)])
    for job in accepted.jobs if not (as_json or follow) else ():
        then = f"start it with: {program()} release" if hold else f"follow it with: {program()} logs -f"
        say(f"submitted job {job}; {then} {job}")
    if not follow:
        return 0
    from jobs.cli.following import detach
    from jobs.cli.following import follow as follow_jobs

    say(f"submitted job {', '.join(map(str, accepted.jobs))}")
    return follow_jobs(client, accepted.jobs, detach)
