"""Gathers what a decision rests on: health, ledger, facts of the commits, verdicts of live truth. Reads, and decides nothing."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from demand_maint._storage.ledger_file import LedgerFile
from demand_maint._storage.registry import Registry
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.core.cycle import Agenda, Standing
from demand_maint.core.ledger import LedgerFacts, MaintenanceLedger
from demand_maint.core.policy import Candidate, Decision, Situation
from demand_maint.core.promotion import candidate_verdict, probation_verdict, rollback_allowed
from demand_maint.core.sampling import holdout_days
from demand_maint.core.versions import Commit
from demand_maint.errors import NoChampionError
from demand_maint.model_monitor import ModelMonitor

__all__ = ["Assessor"]

DAY = 86400.0
HOUR = 3600


class Assessor:
    """Looks at one root, whose commits are those there were at first sight."""

    def __init__(
        self, monitor: ModelMonitor, registry: Registry, ledger_file: LedgerFile, config: Config, clock: Clock
    ) -> None:
        self.monitor, self.registry, self.config, self.clock = monitor, registry, config, clock
        self._ledger_file = ledger_file

    @cached_property
    def commits(self) -> Sequence[Commit]:
        """Every commit, oldest first.

        Raises
        ------
        NoChampionError
            There is none.
        """
        commits = self.registry.commits()
        if not commits:
            raise NoChampionError(str(self.registry.door.root))
        return commits

    def situation(self, ledger: MaintenanceLedger | None = None) -> Situation:
        """Everything the rules look at, as of now; `ledger` where it is known."""
        now, commits = self.clock.now(), self.commits
        head = commits[-1]
        facts = LedgerFacts.from_commits(commits)
        health = self.monitor.report(days=self.config.policy.window_days, details=True)
        ledger = self._ledger_file.load() if ledger is None else ledger
        last = ledger.attempts[-1] if ledger.attempts else None
        return Situation(
            health=health,
            now=now,
            policy=self.config.policy,
            ledger=ledger,
            facts=facts,
            new_rows=None if last is None or last.newest_row is None else self._rows_after(last.newest_row, now),
            candidates=tuple(
                Candidate(kind=entry.kind, entered_at=entry.entered_at, version=entry.version)
                for entry in head.line_up
                if entry.role == "candidate"
            ),
        )

    def agenda(self, decision: Decision, now: float, *, forced: bool) -> Agenda:
        """Everything the cycle needs to carry `decision` out."""
        commits = self.commits
        head = commits[-1]
        return Agenda(
            now=now,
            decision=decision,
            promotion=self.config.policy.promotion,
            live=self._live(now),
            # only a training has to know where the holdout begins
            holdout_since=None if decision.action.kind is None else self._holdout_since(head, now),
            forced=forced,
            matured_days=self.config.policy.matured_days,
            standings=self._standings(head, now),
            rollbacks_left=self._rollbacks_left(commits, now),
            advise=self.config.runtime.mode == "advise",
        )

    def _rows_after(self, newest: float, now: float) -> int:
        window = self.monitor.sums.window(int(newest // HOUR) + 1, int(now // HOUR) + 1)
        return int(window.n)

    def _live(self, now: float) -> bool:
        """Whether a line-up is being served, so that live truth can judge a challenger."""
        if self.config.serving.serve != "mixture":
            return False
        latest = self.monitor.line_up.latest
        return latest is not None and now - latest.at < 2 * DAY

    def _holdout_since(self, head: Commit, now: float) -> float | None:
        """Start of the newest days on which the champion predicted and the truth is in; ``None`` where there are too few."""
        policy, grid = self.config.policy, self.monitor.grid
        today = grid.day_of(now)
        days = np.arange(today - 4 * policy.matured_days - 14, today + 1, dtype=np.int64)
        edges = grid.day_start(np.append(days, today + 1)) // HOUR
        blocks = self.monitor.sums.blocks(edges, head.champion)
        found = holdout_days(
            days,
            blocks["predictions"].astype(np.int64),
            blocks["n"].astype(np.int64),
            before=today,
            wanted=policy.matured_days,
            coverage=policy.coverage,
        )
        return None if found is None else float(grid.day_start(np.array([found[0]]))[0])

    def _standings(self, head: Commit, now: float) -> tuple[Standing, ...]:
        grid, line_up, policy = self.monitor.grid, self.monitor.line_up, self.config.policy
        today, *since = grid.day(np.array([now, *(entry.entered_at for entry in head.line_up)])).tolist()
        standings: list[Standing] = []
        for entry, day in zip(head.line_up, since, strict=True):
            entered = day + 1
            if entry.role == "candidate":
                pairs = line_up.paired_days(head.champion, entry.version)
                verdict = candidate_verdict(
                    pairs, policy, entered_at=entry.entered_at, now=now, entered_day=entered, today=today
                )
            elif entry.role == "previous":
                pairs = line_up.paired_days(entry.version, head.champion)
                verdict = probation_verdict(pairs, policy, since_day=entered, today=today)
            else:
                continue
            expired = "expired" in verdict.reasons or (entry.until is not None and now >= entry.until)
            standings.append(
                Standing(version=entry.version, role=entry.role, kind=entry.kind, verdict=verdict, expired=expired)
            )
        return tuple(standings)

    def _rollbacks_left(self, commits: Sequence[Commit], now: float) -> int:
        automatic = [commit.at for commit in commits if commit.action == "rollback" and "probation" in commit.why]
        return 1 if rollback_allowed(automatic, now, self.config.policy) else 0
