"""Who has had how much of the machine, against what they are due: CPU-seconds that fade with a half-life. Pure.

Charged as executions freeze and end; what runs counts too whenever `step` brings the standings up to date. Between two
steps nothing moves: usage fades for all alike. Two levels: accounts among each other, users within their account.

The factor is 2^(-ratio), as Slurm's classic one is 2^(-usage/share) (slurm.schedmd.com/classic_fair_share.html). The
ratio here is what one got for its weight, over what all got for theirs (each counted by its use): 0 for a newcomer, 1
for whoever has what is due, more for who had more. So the shares of those who ask for nothing are not held free, and
the ratio of a user alone in an account is the account's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from jobs.events import Event, PolicyChanged, PolicyEvent
from jobs.policy import Policy
from jobs.record import Record, State
from scheduler.priority import POINT_MS

LEVELS = 256  # of the factor: a ratio of 1 that changes by 1 % moves nothing, or one level
LEAST_CPU_S = 1.0  # of all usage together; below it there is nothing to compare

Key = tuple[str, str]  # account, user


@dataclass(frozen=True, slots=True)
class Used:
    """So many CPU-seconds were left of the usage at that time (seconds since 1970)."""

    cpu_s: float = 0.0
    at: float = 0.0

    def later(self, at: float, half_life_s: float) -> Used:
        """A clock that was put back makes nothing fade, nor grow."""
        passed_s = at - self.at
        if passed_s <= 0:
            return self
        return Used(self.cpu_s * 0.5 ** (passed_s / half_life_s) if half_life_s else self.cpu_s, at)


def charged(used: Mapping[Key, Used], event: Event, before: Record | None, half_life_s: float) -> dict[Key, Used]:
    """What the event changes of `used`: by the running time that it reports and `before` did not know."""
    ran_s = getattr(event, "ran_s", None)
    if before is None or ran_s is None or ran_s <= before.ran_s:
        return {}
    key = before.account, before.user
    at: float = getattr(event, "at", 0.0)
    left = used.get(key, Used()).later(at, half_life_s)
    return {key: Used(left.cpu_s + (ran_s - before.ran_s) * cpus_of(before), left.at)}


def faded(used: Mapping[Key, Used], event: PolicyEvent, before: Policy) -> dict[Key, Used]:
    """What the event changes of `used`: a new half-life counts from now on."""
    if not isinstance(event, PolicyChanged) or event.policy.half_life_s == before.half_life_s:
        return {}
    return {key: each.later(event.at, before.half_life_s) for key, each in used.items()}


def cpus_of(record: Record) -> float:
    """What the current execution has, or had before it was frozen; threads kept idle for it too."""
    place = record.placement or record.home
    if place is None:
        return 0.0
    return float(len(place.cpus) + len(place.idle)) if place.exclusive else place.shares


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one user in one account. `part`: of all usage; `due`: of the machine, if all who have a standing compute."""

    account: str
    user: str
    account_weight: float
    weight: float
    cpu_s: float  # with what runs now, faded
    part: float
    due: float
    factor: float  # 0 to 1
    points_ms: int


@dataclass(frozen=True, slots=True)
class _Running:
    key: Key
    cpus: float
    ran_s: float  # charged already
    since: float  # wall clock


@dataclass(slots=True)
class FairShare:
    """`used` is the read model's; the points are those of the last step, and no fact."""

    policy: Policy
    used: dict[Key, Used] = field(default_factory=dict)
    running: dict[int, _Running] = field(default_factory=dict)
    stepped_at: float = field(default=-inf, compare=False)
    _points_ms: dict[Key, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, policy: Policy, used: Mapping[Key, Used]) -> FairShare:
        """Rebuilt, as after a restart; `see` the live records next."""
        return cls(policy, dict(used))

    def apply(self, event: Event, before: Record | None, after: Record) -> None:
        """Called once for each committed event, in the journal's order."""
        self.used.update(charged(self.used, event, before, self.policy.half_life_s))
        self.see(after)

    def charge_until(self, event: PolicyEvent) -> None:
        """Before the policy changes: what was used fades by the old half-life until now."""
        self.used.update(faded(self.used, event, self.policy))

    def set_policy(self, policy: Policy) -> None:
        """The next step is due at once."""
        self.policy, self.stepped_at = policy, -inf

    def see(self, record: Record) -> None:
        """Whether it runs, and since when."""
        if record.state is State.RUNNING:
            key = record.account, record.user
            self.running[record.job] = _Running(key, cpus_of(record), record.ran_s, record.running_since)
        else:
            self.running.pop(record.job, None)

    # ── standings ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def next_step_at(self) -> float:
        """Wall clock; in the past when a step is due."""
        return self.stepped_at + self.policy.step_s

    @property
    def moves(self) -> bool:
        """Whether the next step may change something: usage fades for all alike, so only while something runs."""
        return bool(self.running) and self.policy.share_points > 0

    def step(self, now: float, ran_s: Mapping[int, float]) -> frozenset[Key]:
        """Brings the points up to date; whose points changed. `ran_s`: of running jobs by id, where the node was asked;
        else the wall clock is believed."""
        fresh = {(each.account, each.user): each.points_ms for each in self.standings(now, ran_s)}
        most = self._most_ms
        moved = {key for key in {*fresh, *self._points_ms} if fresh.get(key, most) != self.points_ms(*key)}
        self._points_ms, self.stepped_at = fresh, now
        return frozenset(moved)

    def points_ms(self, account: str, user: str) -> int:
        """What the standing adds to the priority, as of the last step. A newcomer has most."""
        return self._points_ms.get((account, user), self._most_ms)

    @property
    def _most_ms(self) -> int:
        return round(self.policy.share_points * POINT_MS)

    def standings(self, now: float, ran_s: Mapping[int, float]) -> list[Standing]:
        """Of all who have a share or used something, by account and user."""
        cpu_s = {key: self.used[key].later(now, self.policy.half_life_s).cpu_s for key in sorted(self.used)}
        for job in sorted(self.running):
            each = self.running[job]
            more_s = ran_s.get(job, each.ran_s + max(0.0, now - each.since)) - each.ran_s
            cpu_s[each.key] = cpu_s.get(each.key, 0.0) + max(0.0, more_s) * each.cpus
        weights = {(share.account, share.user): share.weight for share in self.policy.shares}
        keys = sorted({*cpu_s, *(key for key in weights if key[1])})
        return self._compared({key: cpu_s.get(key, 0.0) for key in keys}, weights)

    def _compared(self, cpu_s: Mapping[Key, float], weights: Mapping[Key, float]) -> list[Standing]:
        within: dict[str, dict[str, float]] = {}
        for (account, user), amount in cpu_s.items():
            within.setdefault(account, {})[user] = amount
        of_account = {account: weights.get((account, ""), 1.0) for account in within}
        total_s = sum(cpu_s.values())
        accounts = ratios({account: sum(users.values()) for account, users in within.items()}, of_account)
        found = []
        for account, users in within.items():
            of_user = {user: weights.get((account, user), 1.0) for user in users}
            inside = ratios(users, of_user)
            for user, amount in users.items():
                # Half is the account's own: newcomers of an account that had much do not start before all others.
                ratio = accounts[account] * (1.0 + inside[user]) / 2.0
                factor = 0.5**ratio
                found.append(Standing(
                    account, user, of_account[account], of_user[user], amount,
                    part=amount / total_s if total_s else 0.0,
                    due=of_account[account] / sum(of_account.values()) * of_user[user] / sum(of_user.values()),
                    factor=factor, points_ms=round(round(factor * LEVELS) * self._most_ms / LEVELS),
                ))  # fmt: skip
        return found


def ratios(amounts: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """What each got for its weight over the mean of that, each counted by its amount. All 0 while nobody got anything;
    alone: 1."""
    total = sum(amounts.values())
    if total < LEAST_CPU_S:
        return dict.fromkeys(amounts, 0.0)
    for_weight = {name: amount / total / weights[name] for name, amount in amounts.items()}
    mean = sum(each * amounts[name] / total for name, each in for_weight.items())
    return {name: each / mean for name, each in for_weight.items()}
