from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

EXAMPLES = """
jobs events --job 17
jobs events -f | jq -c 'select(.kind == "exited") | [.job, .status]'
jobs events --head                     the journal's last sequence number and hash
"""


def command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens next.")] = False,
    after: Annotated[int, typer.Option("--after", min=0, metavar="SEQ", help="Only later entries.")] = 0,
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Only of this job.")] = None,
    head: Annotated[bool, typer.Option("--head", help="Only where the journal ends now.")] = False,
) -> None:
    """Print what happened as JSON lines."""
    import json
    import sys
    from dataclasses import asdict

    from jobs.cli.connect import daemon
    from jobs.cli.terminal import data
    from jobs.errors import Unavailable

    client = daemon()
    if head:
        data(json.dumps(asdict(client.head())))
        return
    last = (after, 1 << 30)  # (seq, index) of the last one printed
    while True:
        try:
            for line in lines(client.events(after=after, job=job, follow=follow)):
                event = json.loads(line)
                if (event["seq"], event["index"]) > last:  # an entry may have been printed in part before
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                    last = (event["seq"], event["index"])
            return
        except Unavailable:
            if not follow:
                raise
            after = max(after, last[0] - 1)
            client.wait_until_back()


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines; a broken last one is left out."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
