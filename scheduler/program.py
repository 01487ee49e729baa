"""The program `jobsd`. Imports only what the subcommand needs: the launcher starts without the daemon's libraries.

    jobsd                      serve until SIGTERM or SIGINT
    jobsd launcher             become the launcher (a service of its own)
    jobsd run-embedded … SPEC  a launcher and a daemon for one `jobs run`, in a folder of their own
"""

from __future__ import annotations

import logging
import os
import sys

from config.settings import BadSetting, Settings, load
from jobs.errors import EXIT_USER, HostError, JobsError


def main() -> None:
    verb, *rest = sys.argv[1:] or [""]
    try:
        settings = load()
        match verb:
            case "":
                _serve(settings)
            case "launcher":
                from scheduler import embedded

                embedded.become_launcher(settings)
            case "run-embedded":
                from scheduler import embedded

                sys.exit(embedded.run(rest))
            case _:
                print((__doc__ or "").strip(), file=sys.stderr)  # noqa: T201
                sys.exit(0 if verb in ("--help", "-h", "help") else EXIT_USER)
    except BadSetting as error:
        sys.exit(_complain(str(error), "", EXIT_USER))
    except JobsError as error:
        sys.exit(_complain(error.message, error.hint, error.exit_code))


def _serve(settings: Settings) -> None:
    """Raises JobsError when the daemon could not start, or had to stop."""
    if os.geteuid() != 0:
        raise HostError("jobsd needs root: it makes namespaces, groups and links for other users", hint="sudo jobsd")
    import anyio

    from scheduler.daemon import serve_until_signalled

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    try:
        anyio.run(serve_until_signalled, settings)
    except BaseExceptionGroup as group:
        known = [error for error in _leaves(group) if isinstance(error, JobsError)]
        if not known:
            raise
        raise known[0] from group


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _complain(message: str, hint: str, code: int) -> int:
    print(f"jobsd: {message}" + (f"\n  hint: {hint}" if hint else ""), file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
