"""A life under one configuration, day by day: the library's own rules, cycle, line-up and verdicts; only fits are looked up.

Each day begins at 00:30 local time with yesterday's truth known. The check comes first, then the forecasts of the whole day.
"""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.frontier_fits import Fit, Fits
from benchmarks.frontier_streams import Stream
from demand_maint.config import Config
from demand_maint.core.cycle import (
    Agenda,
    Discard,
    Enter,
    Evaluate,
    Promote,
    Promoted,
    Rollback,
    Settle,
    Standing,
    Train,
    maintenance_cycle,
)
from demand_maint.core.doubt import UsualHours, doubts, feed_window
from demand_maint.core.feed import FeedDays, feed_state
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import assess
from demand_maint.core.ledger import DriftSeen, LedgerFacts, MaintenanceLedger, Settled, Started
from demand_maint.core.lineup import LineUp
from demand_maint.core.metrics import HourlySums
from demand_maint.core.policy import Candidate, Situation, decide
from demand_maint.core.promotion import candidate_verdict, metadata_verdict, probation_verdict
from demand_maint.core.records import MaturedBatch
from demand_maint.core.roster import (
    after_discard,
    after_enter,
    after_promotion,
    after_settling,
    first_line_up,
    versions_of,
)
from demand_maint.core.row_state import joined_batches
from demand_maint.core.serving import Mixer, ServingSnapshot
from demand_maint.core.versions import Commit
from demand_maint.core.view import DAY, HOUR

__all__ = ["Life"]

HALF_HOUR = 1800.0


class View:
    """What judging sees."""

    def __init__(self, stream: Stream) -> None:
        self.sums, self.feed, self.places, self.grid = HourlySums(), FeedSums(), stream.places, stream.grid
        self.newest: float | None = None


class Life:
    """Lives through a stream; afterwards `served` and `champion` hold what was forecast, `cpu` what the fits took."""

    def __init__(self, stream: Stream, fits: Fits, config: Config) -> None:
        self.stream, self.fits, self.config = stream, fits, config
        self.view = View(stream)
        self.line_up = LineUp(stream.grid, config.serving, calibrate=config.policy.calibrate)
        self.ledger = MaintenanceLedger()
        self.cpu = 0.0
        self.seconds = 0.0
        self.happened: Counter[str] = Counter()
        self.log: list[tuple[int, str, str, str]] = []
        self.served = np.full(len(stream.slot), np.nan)
        self.champion = np.full(len(stream.slot), np.nan)
        # forecasts of each seat of the line-up, by role and calibration; the champion's where a seat is empty
        self.members: dict[str, NDArray[np.float64]] = {}
        first = fits.full(stream.first_day)
        self.fit: dict[int, Fit] = {1: first}
        self.base_of: dict[int, int] = {1: 1}
        self.commits = [
            Commit(number=1, action="init", at=self._now(stream.first_day), champion=1, base=1,
                   line_up=first_line_up(1, self._now(stream.first_day)), baseline=first.metadata.baseline)
        ]  # fmt: skip
        self.snapshot: ServingSnapshot | None = None
        self.pending: MaturedBatch | None = None
        self.known: list[MaturedBatch] = []

    def live(self) -> "Life":
        """From the first day to the last."""
        for day in range(self.stream.first_day, self.stream.last_day):
            now = self._now(day)
            if self.pending is not None:
                self._learn(self.pending)
            self._check(day, now)
            self._watch_feed(now)
            self._publish(now)
            self._predict(day)
        return self

    def _now(self, day: int) -> float:
        return float(self.stream.grid.day_start(np.array([day]))[0]) + HALF_HOUR

    @property
    def head(self) -> Commit:
        """Newest commit."""
        return self.commits[-1]

    # a day

    def _learn(self, rows: MaturedBatch) -> None:
        self.view.sums.add(rows)
        self.view.sums.count_predictions(rows.place, rows.slot, rows.version)
        self.view.feed.add(rows.place, rows.slot, rows.actual, np.zeros(len(rows), dtype=bool))
        self.view.feed.count("expected", rows.place, rows.slot)
        self.view.newest = float(rows.slot.max())
        self.line_up.update(rows)
        self.known.append(rows)

    def _watch_feed(self, now: float) -> None:
        """Leave out of weights and levels what the feed does not vouch for, as the monitor does."""
        view, grid = self.view, self.stream.grid
        days = FeedDays(view, now)
        if view.newest is None or not len(days):
            return
        end = int(view.newest // HOUR) + 1
        begin = int(grid.day_start(grid.day(np.array([(end - 1) * HOUR])))[0]) // HOUR
        usual = UsualHours(view, begin - feed_window(DAY // grid.step), begin + 26, days.typical)
        state = feed_state(view, now, self.config.horizon_seconds, days)
        doubt = doubts(view, usual, state, end, codes={place: code for code, place in enumerate(view.places)})
        self.happened["days with truth in doubt"] += bool(doubt.since)
        self.happened["days with faults"] += bool(doubt.faults)
        self.line_up.suspend(doubt, self._known_rows)

    def _known_rows(self, first: int, end: int) -> MaturedBatch:
        rows = joined_batches([rows for rows in self.known if rows.slot[0] < end and rows.slot[-1] >= first])
        return rows or self.known[-1].take(np.zeros(0, dtype=np.intp))

    def _publish(self, now: float) -> None:
        if self.config.serving.serve != "mixture":
            return
        versions = versions_of(self.head, now)
        metadata = {version: self.fit[version].metadata for version in versions}
        self.line_up.seat(versions, metadata, at=now, places=self.stream.places)
        made = self.line_up.snapshot(now, self.stream.places)
        self.snapshot = made or self.snapshot

    def _predict(self, day: int) -> None:
        stream, snapshot = self.stream, self.snapshot
        rows = stream.rows(day, day + 1)
        own = self.fit[self.head.champion].raw[rows].astype(np.float64)
        n = len(own)
        members, served, number = np.zeros((n, 0), dtype=np.float32), own, 0
        if snapshot is not None:
            values = [self.fit[v].raw[rows] if v else stream.naive[rows].astype(np.float32) for v in snapshot.columns]
            members, number = np.stack(values, axis=1), snapshot.number
            served = Mixer(snapshot).mix(stream.place[rows], members)
        self.served[rows], self.champion[rows] = served, own
        self._note_members(rows, members)
        self.pending = MaturedBatch(
            place=stream.place[rows].astype(np.uint32), slot=stream.slot[rows],
            version=np.full(n, self.head.champion, dtype=np.uint16), predicted=own, served=served,
            actual=stream.actual[rows], naive=stream.naive[rows], members=members,
            snapshot=np.full(n, number, dtype=np.uint32), observed_at=np.full(n, self._now(day + 1)),
        ) if n else None  # fmt: skip

    def _note_members(self, rows: slice, raw: NDArray[np.float32]) -> None:
        """Keep what each seat forecast, to be judged in hindsight."""
        own, snapshot = self.champion[rows], self.snapshot
        naive = self.stream.naive[rows]
        found = {"seasonal naive": np.where(np.isfinite(naive), naive, own), "champion": own}
        if snapshot is not None:
            roles = {entry.version: entry.role for entry in self.head.line_up} | {self.head.champion: "champion"}
            code = self.stream.place[rows]
            for column, version in enumerate(snapshot.columns):
                role = roles.get(version, "base") if version else None
                if role is not None:
                    found[role] = raw[:, column].astype(np.float64)
                    found[f"{role}, calibrated"] = found[role] * snapshot.levels[code, column]
        for role in ("champion", "base", "candidate", "previous"):
            for name in (role, f"{role}, calibrated"):
                found.setdefault(name, found.get(name.replace(role, "champion"), own))
        for name, values in found.items():
            self.members.setdefault(name, np.full(len(self.stream.slot), np.nan))[rows] = values

    # a check

    def _check(self, day: int, now: float) -> None:
        facts = LedgerFacts.from_commits(self.commits)
        health = assess(
            self.view, self.head.baseline, now, self.config, champion=self.head.champion, since=facts.promoted_at
        )
        self.ledger = self.ledger.after(DriftSeen(health.status in {"degraded", "critical"}), now)
        candidates = tuple(
            Candidate(kind=entry.kind, entered_at=entry.entered_at, version=entry.version)
            for entry in self.head.line_up
            if entry.role == "candidate"
        )
        decision = decide(
            Situation(
                health=health,
                now=now,
                policy=self.config.policy,
                ledger=self.ledger,
                facts=facts,
                candidates=candidates,
            )
        )
        agenda = Agenda(
            now=now, decision=decision, promotion=self.config.policy.promotion,
            live=self.config.serving.serve == "mixture", standings=self._standings(now),
        )  # fmt: skip
        cycle, answer = maintenance_cycle(agenda), None
        while True:
            try:
                step = cycle.send(answer)
            except StopIteration as stop:
                self.happened[stop.value.status] += 1
                if stop.value.status not in {"no_action", "blocked"}:
                    verdict = stop.value.verdict
                    why = (
                        f"{verdict.verdict} {verdict.relative or 0:+.3f} ({verdict.low or 0:+.3f}..{verdict.high or 0:+.3f}) {verdict.days} d"
                        if verdict
                        else ""
                    )
                    self.log.append((day, stop.value.status, stop.value.rule, why))
                return
            if isinstance(step, Train):
                self.ledger = self.ledger.after(Started(kind=step.kind, rule=decision.rule), now)
            answer = self._perform(step, day, now)
            event = _settles(step, answer)
            if event is not None:
                self.ledger = self.ledger.after(event, now)

    def _standings(self, now: float) -> tuple[Standing, ...]:
        policy, head, found = self.config.policy, self.head, []
        today = self.line_up.day_of(now)
        for entry in head.line_up:
            since = self.line_up.day_of(entry.entered_at)
            if entry.role == "candidate":
                pairs = self.line_up.paired_days(head.champion, entry.version)
                verdict = candidate_verdict(
                    pairs, policy, entered_at=entry.entered_at, now=now, entered_day=since, today=today
                )
            elif entry.role == "previous":
                pairs = self.line_up.paired_days(entry.version, head.champion)
                verdict = probation_verdict(pairs, policy, since_day=since, today=today)
            else:
                continue
            expired = "expired" in verdict.reasons or (entry.until is not None and now >= entry.until)
            found.append(
                Standing(version=entry.version, role=entry.role, kind=entry.kind, verdict=verdict, expired=expired)
            )
        return tuple(found)

    def _perform(self, step: Any, day: int, now: float) -> Any:
        match step:
            case Train():
                chained = self.config.policy.chain_fine_tunes
                base = self.fit[self.head.champion if chained else self.head.base]
                fit = (
                    self.fits.full(day, measured=step.measured)
                    if step.kind == "full"
                    else self.fits.fine_tune(base, day, measured=step.measured)
                )
                self.cpu += fit.cpu + fit.measured_cpu
                self.happened[f"{step.kind} fits"] += 1
                return fit
            case Evaluate():
                champion = self.fit[self.head.champion].metadata.metrics.get("mae")
                return metadata_verdict(champion, step.challenger.metadata.metrics.get("mae"), self.config.policy)
            case Enter():
                version = self._register(step.challenger, step.kind)
                self._commit(
                    "enter",
                    subject=version,
                    line_up=after_enter(self.head, version, step.kind, now, step.replaces),
                    at=now,
                )
                return version
            case Promote():
                version = step.version or self._register(step.challenger, step.kind)
                base = version if step.kind == "full" else self.head.base
                base = version if step.kind == "full" else self.base_of[version]
                roster = after_promotion(self.head, version, base, now, self.config.policy.probation_days)
                tunes = self.head.fine_tunes + 1 if step.kind == "fine_tune" and base == self.head.base else 0
                self._commit("promote", champion=version, base=base, line_up=roster, fine_tunes=tunes, at=now,
                             baseline=self.fit[version].metadata.baseline)  # fmt: skip
                return Promoted(version=version)
            case Discard():
                if step.version is not None:
                    self._commit("discard", line_up=after_discard(self.head, step.version), at=now)
            case Settle():
                self._commit("settle", line_up=after_settling(self.head), at=now)
            case Rollback():
                before = next(c for c in reversed(self.commits) if c.champion != self.head.champion)
                self._commit("rollback", champion=before.champion, base=before.base, at=now, baseline=before.baseline,
                             line_up=first_line_up(before.champion, now), fine_tunes=before.fine_tunes)  # fmt: skip
                return before.champion
        return None

    def _register(self, fit: Fit, kind: str) -> int:
        version = len(self.fit) + 1
        self.fit[version] = fit
        self.base_of[version] = version if kind == "full" else self.head.base
        return version

    def _commit(self, action: Any, **changes: Any) -> None:
        fresh = {"number": self.head.number + 1, "action": action} | changes
        self.commits.append(msgspec.structs.replace(self.head, **fresh))


def _settles(step: Any, answer: Any) -> Settled | None:
    match step:
        case Enter():
            return Settled(kind=step.kind, outcome="entered", version=answer)
        case Promote():
            return Settled(kind=step.kind, outcome="accepted", version=answer.version)
        case Discard():
            return Settled(kind=step.kind, outcome="expired" if step.expired else "rejected", version=step.version)
    return None
