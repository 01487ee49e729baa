"""The tree of errors, split by blame, and the exit codes of the CLI.

    JobsError
    ├── UserError            the request is wrong; the user can mend it          exit 2
    │   ├── SpecError        a key of a spec; names file, line, key, value
    │   ├── NoSuchJob        no such job, or not yours to see
    │   ├── NotAllowed       another user's job, or an operator's hold
    │   ├── WrongState       the verb does not apply to the job's state now
    │   │   └── ImageInUse   a running job has the image as its root
    │   ├── NoSuchImage      no image of that name on this host
    │   └── BadImage         an archive, its manifest or one member is refused; names archive and member
    ├── HostError            this host refused or lacks something               exit 3
    │   ├── StepFailed       a named set-up step failed with an errno on a path
    │   ├── Unsupported      a capability this host does not have
    │   └── LauncherGone     the launcher is not there or hung up
    ├── Unavailable          no daemon answers                                  exit 4
    ├── Conflict             another writer appended to the journal: deposed    exit 5
    └── Bug                  an invariant of ours is broken                     exit 70

`jobs wait`, `jobs run` and `jobs submit --follow` exit with the job's own status; 130 when it was cancelled before it
ran, 3 when it could not be started or was lost. `wait --timeout` exits with 124, an interrupted command with 130.
Messages are lower case without a full stop; `hint` says the next step.
"""

from __future__ import annotations

import os

EXIT_OK = 0
EXIT_USER = 2
EXIT_HOST = 3
EXIT_UNAVAILABLE = 4
EXIT_CONFLICT = 5
EXIT_BUG = 70


class JobsError(Exception):
    """An error with a next step. `code` is stable and documented in docs/reference/errors.md."""

    code = "error"
    exit_code = EXIT_BUG
    status = 500  # HTTP

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(JobsError):
    code = "user-error"
    exit_code = EXIT_USER
    status = 400


class SpecError(UserError):
    """One or more wrong keys of a spec; `problems` has one `Problem` each, in file order."""

    code = "bad-spec"
    status = 422

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class Problem:
    """file:line: key: what was given and what is possible."""

    def __init__(self, file: str, line: int, key: str, message: str, hint: str = "") -> None:
        self.file, self.line, self.key, self.message, self.hint = file, line, key, message, hint

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return f"{where}: {key}{self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class NoSuchJob(UserError):
    code = "no-such-job"
    status = 404


class NotAllowed(UserError):
    code = "not-allowed"
    status = 403


class WrongState(UserError):
    code = "wrong-state"
    status = 409


class ImageInUse(WrongState):
    code = "image-in-use"


class NoSuchImage(UserError):
    code = "no-such-image"
    status = 404


class BadImage(UserError):
    """`debian.tar: etc/x: its path leads through a symbolic link`."""

    code = "bad-image"
    status = 422


class HostError(JobsError):
    code = "host-error"
    exit_code = EXIT_HOST
    status = 500


class StepFailed(HostError):
    """A set-up step failed: `failed at step 'overlay' on /x: No space left on device`."""

    code = "step-failed"

    def __init__(self, step: str, errno: int, path: str = "", *, hint: str = "") -> None:
        where = f" on {path}" if path else ""
        why = os.strerror(errno) if errno else "unknown error"
        super().__init__(f"failed at step '{step}'{where}: {why}", hint=hint)
        self.step, self.errno, self.path = step, errno, path


class Unsupported(HostError):
    code = "unsupported"
    status = 501


class LauncherGone(HostError):
    code = "launcher-gone"
    status = 503


class Unavailable(JobsError):
    code = "unavailable"
    exit_code = EXIT_UNAVAILABLE
    status = 503


class Conflict(JobsError):
    code = "conflict"
    exit_code = EXIT_CONFLICT
    status = 503


class Bug(JobsError):
    code = "bug"
