"""The legal order of messages in each conversation, as tables; an illegal message raises and changes nothing. Pure.

Read a row as: in this state, this message is legal and leads there. What is not in a table must not be acted upon.
"""

from __future__ import annotations

from runtime import messages as m

Table = dict[str, dict[type, str]]

# Launcher and the monitor of one execution, seen from the launcher, after Begin.
LAUNCH: Table = {
    "cloned": {m.Ready: "waiting", m.StepError: "ended"},  # the monitor builds the container
    "waiting": {m.Proceed: "going", m.GiveUp: "ended", m.StepError: "ended"},  # the container waits for go
    "going": {m.Running: "running", m.StepError: "ended"},  # privileges are dropped, execve
    "running": {},  # nothing more is said; the exit record tells the rest
    "ended": {},
}

# Monitor and container, seen from the monitor, after Begin. End of file after Proceed means that execve succeeded.
CONTAINER: Table = {
    "cloned": {m.Born: "born", m.StepError: "ended"},
    "born": {m.Ready: "waiting", m.StepError: "ended"},
    "waiting": {m.Proceed: "going"},
    "going": {m.StepError: "ended"},
    "ended": {},
}

# Launcher and a slot, seen from the launcher.
SLOT: Table = {
    "cloned": {m.Unshared: "unmapped", m.StepError: "ended"},
    "unmapped": {m.Mapped: "mapped"},
    "mapped": {m.Done: "ended", m.StepError: "ended"},
    "ended": {},
}

# Launcher and whoever does one thing and answers once (helper, open_as).
ERRAND: Table = {"cloned": {m.Done: "ended", m.StepError: "ended"}, "ended": {}}


class OutOfOrder(Exception):
    """A message that its conversation does not allow now."""


class Sequence:
    """Where one conversation stands."""

    def __init__(self, table: Table, state: str = "cloned") -> None:
        self._table, self.state = table, state

    def follow(self, message: object) -> None:
        """Raises OutOfOrder; the state is then unchanged."""
        following = self._table[self.state].get(type(message))
        if following is None:
            raise OutOfOrder(f"{type(message).__name__} in state {self.state!r}")
        self.state = following
