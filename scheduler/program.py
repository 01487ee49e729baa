"""The program `jobsd`. Imports only what the subcommand needs: the launcher starts without the daemon's libraries.

jobsd                      serve until SIGTERM or SIGINT
jobsd launcher             become the launcher (a service of its own)
jobsd doctor               what this host offers and lacks; --json, --all
jobsd topology             its CPUs, memory and caches; --svg, --json, --from, --capture FILE
jobsd run-embedded … SPEC  a launcher and a daemon for one `jobs run`, in a folder of their own
"""

from __future__ import annotations

import os
import sys

from config.settings import BadSetting, Settings, load
from jobs.errors import EXIT_USER, JobsError


def main() -> None:
    verb, *rest = sys.argv[1:] or [""]
    try:
        settings = _settings(for_anybody=verb in ("doctor", "topology"))
        match verb:
            case "":
                _serve(settings)
            case "launcher":
                from scheduler import embedded

                embedded.become_launcher(settings)
            case "doctor":
                from scheduler.doctor import command

                sys.exit(command.run(settings, rest))
            case "topology":
                from scheduler import topology_command

                sys.exit(topology_command.run(settings, rest))
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


def _settings(*, for_anybody: bool) -> Settings:
    """Raises BadSetting. Who may not read the file looks at the host with the defaults."""
    try:
        return load()
    except PermissionError:
        if not for_anybody:
            raise
        return Settings()


def _serve(settings: Settings) -> None:
    """Raises JobsError when the daemon could not start, or had to stop."""
    import anyio

    from scheduler import service
    from scheduler.daemon import serve_until_signalled
    from scheduler.doctor.refusing import refuse

    refuse(settings)
    service.set_up_logging()
    os.umask(0o022)  # whatever it was started with: the roots of containers are made here, and jobs must get into them
    try:
        anyio.run(serve_until_signalled, settings)
    except BaseExceptionGroup as group:
        known = [error for error in _leaves(group) if isinstance(error, JobsError)]
        if not known:
            service.explain_a_bug(group)
            raise
        raise known[0] from group


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _complain(message: str, hint: str, code: int) -> int:
    from scheduler import service

    service.complain(message, hint)
    return code


if __name__ == "__main__":
    main()
