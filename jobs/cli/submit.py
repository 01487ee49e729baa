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

MOST_TOLD = 20  # jobs of one submission, each with a line of its own


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
    many = len(accepted.jobs) > MOST_TOLD
    sizes = accepted.tasks or (0,) * len(accepted.jobs)
    for job, tasks in zip(accepted.jobs, sizes, strict=True) if not (as_json or follow or many) else ():
        follow_it = "wait for it with: {} wait" if tasks else "follow it with: {} logs -f"
        then = "start it with: {} release" if hold else follow_it
        what = f"array {job} of {tasks} task{'' if tasks == 1 else 's'}" if tasks else f"job {job}"
        say(f"submitted {what}; {then.format(program())} {job}")
    if many and not (as_json or follow):
        say(f"submitted {len(accepted.jobs)} jobs, {accepted.jobs[0]} to {accepted.jobs[-1]}")
    if not follow:
        return 0
    from jobs.cli.following import detach
    from jobs.cli.following import follow as follow_jobs

    say(f"submitted job {', '.join(map(str, accepted.jobs))}")
    return follow_jobs(client, accepted.jobs, detach)
