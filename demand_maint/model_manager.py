"""HybridModelManager: looks at the champion, decides, and carries the decision out; the blocking driver of the cycle.

::

    python -m demand_maint.model_manager --status | --update | --fine-tune | --full-retrain
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
from msgspec import structs

from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.ledger_file import LedgerFile
from demand_maint._storage.lock import MaintainerLock, process_identity
from demand_maint.assessment import Assessor
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.cycle import (
    Cycle,
    CycleResult,
    Discard,
    Enter,
    Failed,
    Promote,
    Promoted,
    Step,
    Train,
    maintenance_cycle,
)
from demand_maint.core.health import HealthReport
from demand_maint.core.ledger import Checked, DriftSeen, LedgerEvent, MaintenanceLedger, Settled, Started
from demand_maint.core.outcome_words import outcome_lines
from demand_maint.core.policy import (
    RULES,
    Action,
    Decision,
    Rule,
    Situation,
    decide,
    should_fine_tune,
    should_full_retrain,
)
from demand_maint.core.status_words import status_lines
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import DemandMaintError, LostRaceError
from demand_maint.exit_codes import BUSY, DONE, EPILOG, REFUSED, STATUS_CODES, exit_code, sentence
from demand_maint.model_monitor import ModelMonitor
from demand_maint.standard_output import ready_output

if TYPE_CHECKING:
    from demand_maint._training.pool import WorkerPool
    from demand_maint.gather import Gather
    from demand_maint.maintenance import OnProgress, StepPerformer

__all__ = ["HybridModelManager", "main"]

DAY = 86400.0
Force = Literal["fine-tune", "full-retrain"]
#: Ends of a cycle after which nothing is there that was not there before.
_QUIET = frozenset({"no_action", "blocked", "advised"})
_FORCED: dict[str, Action] = {"fine-tune": Action.FINE_TUNE, "full-retrain": Action.FULL_RETRAIN}


class HybridModelManager:
    """Decides between waiting, a fine-tune and a full retrain, and sees it through to the champion.

    Parameters
    ----------
    root
        Folder of the project.
    full_retrain_interval_days, fine_tune_interval_days
        Over the configuration's (90 and 7).
    monitor, pool, lock
        Collaborators somebody else holds already; the manager makes its own otherwise, and closes only those.
    gather
        Where the rows of trainings come from; gathered in this process otherwise.
    rules
        The table of rules; a user may put rules of their own in front.
    who
        Written into commits.

    Examples
    --------
    ::

        manager = HybridModelManager(full_retrain_interval_days=90, fine_tune_interval_days=7)
        result = manager.update_model()
        print(result["status"], result["reason"])
    """

    def __init__(
        self,
        root: str | Path = ".",
        full_retrain_interval_days: float | None = None,
        fine_tune_interval_days: float | None = None,
        config: Config | None = None,
        clock: Clock | None = None,
        *,
        monitor: ModelMonitor | None = None,
        pool: "WorkerPool | None" = None,
        lock: MaintainerLock | None = None,
        gather: "Gather | None" = None,
        rules: Sequence[Rule] = RULES,
        who: str = "",
    ) -> None:
        self.root = Path(root).absolute()
        self.config = _with_intervals(config or load_config(root), full_retrain_interval_days, fine_tune_interval_days)
        self.clock = clock or SystemClock()
        self.deployer = ModelDeployer(root, self.config, self.clock)
        self.registry = self.deployer.registry
        self.rules = tuple(rules)
        self.who = who or process_identity()
        door = self.registry.door
        self.decisions = DecisionJournal(door, self.clock)
        self._ledger_file = LedgerFile(door)
        self._lock = lock or MaintainerLock(door, who=self.who)
        self._own_lock = lock is None
        self._monitor, self._own_monitor = monitor, monitor is None
        self._pool, self._own_pool = pool, pool is None
        self._gather = gather
        self._performer: StepPerformer | None = None
        self._decision: Decision | None = None
        self._health: HealthReport | None = None
        self._retained_at: float | None = None

    # parts

    @property
    def monitor(self) -> ModelMonitor:
        """The monitor; opened at first use."""
        if self._monitor is None:
            self._monitor = ModelMonitor(self.root, self.config, self.clock, lock=self._lock)
        return self._monitor

    @property
    def pool(self) -> "WorkerPool":
        """Where trainings run."""
        if self._pool is None:
            from demand_maint._training.pool import WorkerPool  # noqa: PLC0415  # looking at a root trains nothing

            self._pool = WorkerPool(self.config.runtime.worker_slots, grace=self.config.runtime.grace_seconds)
        return self._pool

    @property
    def assessed(self) -> HealthReport | None:
        """The health that the newest cycle began with."""
        return self._health

    def close(self) -> None:
        """Let go of what this manager opened."""
        if self._own_pool and self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._own_monitor and self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._own_lock:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # looking

    @property
    def _assessor(self) -> Assessor:
        return Assessor(self.monitor, self.registry, self._ledger_file, self.config, self.clock)

    def situation(self) -> Situation:
        """Everything the rules look at, as of now."""
        return self._assessor.situation()

    def should_full_retrain(self) -> tuple[bool, str]:
        """Whether a full retrain is due now, and why or why not."""
        return should_full_retrain(self.situation(), self.rules)

    def should_fine_tune(self) -> tuple[bool, str]:
        """Whether a fine-tune is due now, and why or why not."""
        return should_fine_tune(self.situation(), self.rules)

    def status(self) -> dict[str, Any]:
        """Tell what serves, how it does, what was tried and what the next check would decide; changes nothing."""
        found: dict[str, Any] = {"deployment": self.deployer.status()}
        if self.registry.head() is None:
            return found | {"status": "no_champion", "decision": None, "health": None, "maintenance": None}
        situation = self.situation()
        decision = decide(situation, self.rules)
        ledger = situation.ledger
        return found | {
            "status": situation.health.status,
            "health": situation.health.as_dict(details=True),
            "decision": decision.as_record(situation.now),
            "maintenance": {
                "last_check_at": ledger.last_check_at,
                "attempts": [structs.asdict(attempt) for attempt in ledger.attempts[-10:]],
                "trainings_this_week": ledger.trainings_since(situation.now - 7 * DAY),
                "cooldown_until": ledger.cooldown_until(self.config.policy),
                "last_full_retrain_at": situation.facts.last_full_retrain_at,
                "last_update_at": situation.facts.last_update_at,
                "fine_tunes": situation.facts.fine_tunes,
            },
        }

    # acting

    def update_model(self, force: Force | None = None, *, on_progress: "OnProgress | None" = None) -> dict[str, Any]:
        """Check, decide, and see it through; blocks until done.

        Parameters
        ----------
        force
            ``"fine-tune"`` or ``"full-retrain"`` trains without asking the rules; the challenger still has to earn its place.
        on_progress
            Called as ``on_progress(trees_done, trees_in_all)`` while a child trains.

        Returns
        -------
        dict
            ``status`` (a key of `demand_maint.core.cycle.STATUSES`), ``action``, ``rule``, ``reason``, ``verdict``, ``version``
            and ``health``.

        Raises
        ------
        NoChampionError
            There is no model to maintain.
        MaintainerBusyError
            Another process maintains this root.
        """
        took = not self._lock.held
        if took:
            self._lock.acquire()
        try:
            cycle = self.begin(force)
            answer: Any = None
            while True:
                try:
                    step = cycle.send(answer)
                except StopIteration as stop:
                    return self.finish(stop.value)
                answer = self.perform(step, on_progress)
        finally:
            if took and self._own_lock:
                self._lock.release()

    def begin(self, force: str | None = None) -> Cycle:
        """Assess and decide; the cycle whose steps the caller has to have carried out."""
        if force is not None and force not in _FORCED:
            raise ValueError(f"force is {force!r}; it can be 'fine-tune', 'full-retrain' or None.")
        assessor = self._assessor
        assessor.commits  # noqa: B018 - without a champion nothing is touched
        self.monitor.drain()
        now = self.clock.now()
        before = self._ledger_file.load()
        situation = assessor.situation(before.recovered(now))
        health = situation.health
        ledger = situation.ledger.after(DriftSeen(drifting=health.status in {"degraded", "critical"}), now)
        self._keep(ledger, before)
        situation = structs.replace(situation, ledger=ledger)
        self.monitor.watch_feed(always=True)
        decision = _forced(force, situation) if force is not None else decide(situation, self.rules)
        self.decisions.append(decision.as_record(now))
        self._decision, self._health = decision, health
        agenda = assessor.agenda(decision, now, forced=force is not None)
        return self._remembered(maintenance_cycle(agenda), forced=force is not None)

    def perform(self, step: Step, on_progress: "OnProgress | None" = None) -> Any:
        """Carry out one step of a cycle; blocks."""
        if self._performer is None:
            from demand_maint.gather import gather_here  # noqa: PLC0415  # looking at a root trains nothing
            from demand_maint.maintenance import StepPerformer  # noqa: PLC0415  # as above

            self._performer = StepPerformer(
                self.monitor,
                self.deployer,
                self.pool,
                self._gather or gather_here(self.root, self.config, self.clock, self.monitor, self.registry),
                root=self.root,
                config=self.config,
                clock=self.clock,
                who=self.who,
            )
        return self._performer.perform(step, on_progress)

    def finish(self, result: CycleResult) -> dict[str, Any]:
        """Keep what a cycle came to, and say it as the dict users see."""
        now = self.clock.now()
        self._ledger(Checked())
        verdict = None if result.verdict is None else msgspec.to_builtins(result.verdict)
        told: dict[str, Any] = {
            "status": result.status,
            "action": result.action,
            "rule": result.rule,
            "reason": result.reason,
            "verdict": verdict,
            "version": result.version,
        }
        self.decisions.append({"type": "result", "at": now, **told})
        if self._lock.held:
            self._rebaseline()
            if result.status not in _QUIET or self._retained_at is None or abs(now - self._retained_at) >= DAY:
                self.deployer.retain(self._lock)
                self._retained_at = now
        health = None if self._health is None else self._health.as_dict(details=True)
        return {**told, "checked_at": now, "health": health}

    def rollback(self, why: str = "") -> tuple[bool, str]:
        """Restore the champion before this one."""
        return self.deployer.rollback(who=self.who, why=why)

    # inside

    def _remembered(self, cycle: Cycle, *, forced: bool) -> Cycle:
        """Pass a cycle's steps on, and note in the ledger what begins and what came of it."""
        answer: Any = None
        while True:
            try:
                step = cycle.send(answer)
            except StopIteration as stop:
                result: CycleResult = stop.value
                return result
            if isinstance(step, Train):
                rule = "force" if forced else (self._decision.rule if self._decision else "")
                self._ledger(Started(kind=step.kind, rule=rule, newest_row=self.monitor.newest, forced=forced))
            try:
                answer = yield step
            except GeneratorExit:
                if isinstance(step, Train):
                    self._ledger(Settled(kind=step.kind, outcome="cancelled", reason="the driver stopped"))
                raise
            event = _settles(step, answer)
            if event is not None:
                self._ledger(event)

    def _ledger(self, event: LedgerEvent) -> None:
        before = self._ledger_file.load()
        self._keep(before.after(event, self.clock.now()), before)

    def _keep(self, ledger: MaintenanceLedger, before: MaintenanceLedger) -> None:
        if ledger != before:
            self._ledger_file.save(ledger)

    def _rebaseline(self) -> None:
        """Commit the baseline that the champion's first days made, or that calm weeks under it have moved."""
        baseline, head = self.monitor.due_baseline(), self.registry.head()
        if baseline is None or head is None:
            return
        with suppress(LostRaceError):  # of a champion that serves no longer there is nothing to keep
            self.registry.commit(
                "rebaseline",
                champion=head.champion,
                base=head.base,
                baseline=baseline,
                who=self.who,
                why="its first days" if baseline.source == "first_days" else "four calm weeks",
                expect=head.number,
            )


def _with_intervals(config: Config, full: float | None, tune: float | None) -> Config:
    policy = config.policy
    if full is not None:
        policy = structs.replace(policy, full_retrain_interval_days=full)
    if tune is not None:
        policy = structs.replace(policy, fine_tune_interval_days=tune)
    return structs.replace(config, policy=policy)


def _forced(force: str, situation: Situation) -> Decision:
    action = _FORCED[force]
    return Decision(
        action=action,
        proposed=action,
        rule="force",
        reason=f"an operator asked for a {force.replace('-', ' ')}",
        evidence=situation.health.evidence(),
    )


def _settles(step: Step, answer: Any) -> LedgerEvent | None:
    match step:
        case Train() if isinstance(answer, Failed):
            return Settled(kind=step.kind, outcome="failed", reason=answer.reason)
        case Enter():
            return Settled(kind=step.kind, outcome="entered", version=answer)
        case Promote() if isinstance(answer, Promoted):
            return Settled(kind=step.kind, outcome="accepted", version=answer.version)
        case Discard():
            reason = ", ".join(step.verdict.reasons)
            return Settled(
                kind=step.kind,
                outcome="expired" if step.expired else "rejected",
                reason=reason,
                version=step.version,
            )
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Maintain from the command line; exit codes as those of ``demand-maint``."""
    ready_output()
    parser = argparse.ArgumentParser(
        prog="python -m demand_maint.model_manager", description="Maintain the model.", epilog=EPILOG
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--status", action="store_true", help="tell how things are")
    what.add_argument("--update", action="store_true", help="fine-tune or retrain as needed")
    what.add_argument("--fine-tune", action="store_true", help="fine-tune now")
    what.add_argument("--full-retrain", action="store_true", help="retrain now")
    parser.add_argument("--root", default=".", help="folder of the project (default: here)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    force: Force | None = "fine-tune" if arguments.fine_tune else "full-retrain" if arguments.full_retrain else None
    try:
        with HybridModelManager(arguments.root, who="operator" if force else "") as manager:
            answer = manager.status() if arguments.status else manager.update_model(force)
    except (DemandMaintError, OSError) as error:
        code = exit_code(error)
        status = "busy" if code == BUSY else "refused" if code == REFUSED else "failed"
        return _tell(arguments, {"status": status, "error": sentence(error)}, [sentence(error)], code)
    if arguments.status:
        return _tell(arguments, answer, status_lines(answer), DONE)
    return _tell(arguments, answer, outcome_lines(answer), STATUS_CODES.get(str(answer["status"]), DONE))


def _tell(arguments: argparse.Namespace, answer: dict[str, Any], lines: Iterable[str], code: int) -> int:
    if arguments.json:
        sys.stdout.write(json.dumps(answer, default=str) + "\n")
    else:
        stream = sys.stderr if "error" in answer else sys.stdout
        stream.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
