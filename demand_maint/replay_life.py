"""One policy's life over a history: the real monitor, line-up, rules and trainings, on a clock that is moved by hand.

Time goes in turns of `refresh` seconds. A turn is what a live process does in that time, in its order: the truth that has become
known is logged, drained, the serving state renewed, a check made where one is due, and the rows whose time has come predicted
and journalled. Nothing here decides anything.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from demand_maint._storage.disk import Disk
from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.serving_store import serving_store
from demand_maint._training.in_place import InPlacePool
from demand_maint.clock import StoppedClock, SystemClock
from demand_maint.config import Config
from demand_maint.core.replay_policy import ReplayPolicy
from demand_maint.core.replay_result import PolicyResult, score
from demand_maint.core.report_data import Story
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.versions import ModelMetadata
from demand_maint.model_handle import ModelHandle
from demand_maint.model_manager import HybridModelManager
from demand_maint.model_monitor import ModelMonitor
from demand_maint.replay_table import AheadModel, AheadModels, ReplayTable, place_codes
from demand_maint.report import story_of

__all__ = ["FirstChampion", "Life", "LifeEvent", "ScratchDisk"]

DAY = 86400.0
HELPED_DAYS = 14
QUIET = frozenset({"no_action", "blocked", "advised"})

Floats = NDArray[np.float64]


class FirstChampion(Struct, frozen=True):
    """What every policy starts from: the model's bytes and its metadata."""

    model: bytes
    metadata: ModelMetadata


class LifeEvent(Struct, frozen=True, kw_only=True):
    """Something a policy did or met, as it happens; `result` is the dict of `HybridModelManager.update_model` where one is behind it."""

    policy: str
    at: float
    kind: str
    text: str
    result: dict[str, Any] = {}


class ReplayClock(StoppedClock):
    """Stands still until it is moved, and never goes back."""

    __slots__ = ()

    def move(self, to: float) -> None:
        """Let it be `to`."""
        self._now = max(self._now, to)


class ScratchDisk(Disk):
    """A disk that promises nothing for a power loss: a replay's root is made again sooner than it is rescued."""

    def sync(self, descriptor: int) -> None:
        """Do nothing."""

    def sync_dir(self, path: str) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Counts:
    checks: int = 0
    attempts: int = 0
    fine_tunes: int = 0
    full_retrains: int = 0
    deployed: int = 0
    rejected: int = 0
    failed: int = 0
    rollbacks: int = 0
    false_alarms: int = 0
    drift_episodes: int = 0
    troubled: bool = False


@dataclass(slots=True)
class Life:
    """Lives one policy.

    Parameters
    ----------
    table
        The rows, with features.
    config
        With the policy's settings laid over it.
    root
        Folder for this life.
    kept
        Whether somebody will look at it afterwards: it is an ordinary root then, sealed and saved, and served values can be
        explained as in a live one.
    label_delay
        Seconds after a slot is over until its truth is known; the configured horizon includes it.
    refresh
        Seconds between turns; a live process renews its serving state once an hour.
    training
        False decides only: what the rules ask for is told, nothing is fitted.
    tell
        Called with each `LifeEvent`.
    finale
        Called with the policy's name and its manager when the history is over, before the story is told.
    stop
        Set it to end the life at the next turn.
    """

    table: ReplayTable
    policy: ReplayPolicy
    config: Config
    root: Path
    first: FirstChampion | None
    kept: bool = False
    label_delay: float = 0.0
    refresh: float = 21600.0
    tell: Callable[[LifeEvent], None] | None = None
    finale: Callable[[str, HybridModelManager], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    done: float = 0.0
    snapshots: list[ServingSnapshot] = field(default_factory=list)
    story: Story | None = None
    served: Floats = field(init=False)
    pool: InPlacePool = field(default_factory=InPlacePool)
    _counts: _Counts = field(default_factory=_Counts)
    _cpu: float = 0.0
    _began: float | None = None
    _ended: float | None = None

    def seconds(self, now: float) -> float:
        """Wall seconds lived so far; `now` on the monotonic clock."""
        return 0.0 if self._began is None else (now if self._ended is None else self._ended) - self._began

    def run(self) -> PolicyResult:
        """Live from the table's start to its end, or until stopped."""
        stopwatch = SystemClock()
        self._began = began = stopwatch.monotonic()
        self._cpu = time.thread_time()
        self.served = np.full(len(self.table), np.nan)
        if not self.policy.models or self.first is None:
            self.served[:] = self.table.naive
            self.done = 1.0
            return self._result(None, stopwatch.monotonic() - began)
        clock = ReplayClock(self.table.start - math.ceil(self.lead / self.refresh) * self.refresh)
        with _Parts(self, clock, self.first) as parts:
            until = self._live(parts, clock)
            # a finale may change the champion; the page tells how things stood when the history was over
            health = parts.monitor.report(self.config.policy.window_days, details=True)
            if self.finale is not None and until is None:
                self.finale(self.policy.name, parts.manager)
            self.story = story_of(parts.manager, self.policy.name, snapshots=self.snapshots, health=health)
        return self._result(until, stopwatch.monotonic() - began)

    def _live(self, parts: "_Parts", clock: ReplayClock) -> float | None:
        """Take every turn; return where it was stopped, ``None`` where it came to the end."""
        table, step = self.table, self.config.step_seconds
        slots = table.slot.astype(np.float64)  # as the moments that are looked for among them
        known_at = slots + step + self.label_delay
        interval = self.config.runtime.interval_hours * 3600
        now, told, asked = clock.now(), 0, 0
        next_check = table.start
        span = table.end + self.label_delay - now
        begin = now
        while now <= table.end + self.label_delay:
            if self.stop.is_set():
                return now
            clock.move(now)
            upto = int(known_at.searchsorted(now, side="right"))
            if upto > told:
                parts.learn(told, upto)
                told = upto
            parts.renew()
            if next_check <= now < table.end:
                self._check(parts, now)
                next_check += interval * max(1, round((now - next_check) // interval + 1))
            end = int(slots.searchsorted(now + self.refresh + self.lead, side="left"))
            if end > asked:
                self.served[asked:end] = parts.predict(asked, end)
                asked = end
            now += self.refresh
            self.done = min((now - begin) / span, 1.0)
        return None

    @property
    def lead(self) -> float:
        """Seconds before its slot that a row is predicted: as soon as the newest truth its features may use has come in."""
        return max(self.config.horizon_seconds - self.config.step_seconds - self.label_delay, 0.0)

    def _check(self, parts: "_Parts", now: float) -> None:
        counts = self._counts
        counts.checks += 1
        before = parts.handle.version
        result = parts.manager.update_model()
        status = result["status"]
        troubled = (result.get("health") or {}).get("status") in {"degraded", "critical"}
        if troubled and not counts.troubled:
            counts.drift_episodes += 1
            self._tell(now, "drift", _drift_words(result["health"]), result)
        counts.troubled = troubled
        if status in QUIET:
            return
        trained = result["action"] in {"fine_tune", "full_retrain"}
        counts.deployed += status == "deployed"
        counts.rejected += status in {"rejected", "vetoed"}
        counts.failed += status == "failed"
        counts.rollbacks += status == "rolled_back"
        version = result["version"]
        if trained:
            counts.attempts += 1
        if trained and status != "failed":
            counts.fine_tunes += result["action"] == "fine_tune"
            counts.full_retrains += result["action"] == "full_retrain"
            counts.false_alarms += version is None or not parts.better(version, before, now)
        self._tell(now, status, f"{result['rule']}: {result['reason']}", result)
        parts.renew()

    def _tell(self, now: float, kind: str, text: str, result: dict[str, Any]) -> None:
        if self.tell is not None:
            self.tell(LifeEvent(policy=self.policy.name, at=now, kind=kind, text=text, result=result))

    def _result(self, until: float | None, wall: float) -> PolicyResult:
        self._ended = (self._began or 0.0) + wall
        names, codes = place_codes(self.table.place)
        # what the history's end left unknown is left out for every policy alike
        found = score(self.served, self.table.actual, self.table.naive, codes, names)
        counts = self._counts
        return PolicyResult(
            policy=self.policy.name,
            text=self.policy.text,
            n=found.n,
            mae=found.mae,
            mase=found.mase,
            bias=found.bias,
            worst_places=found.worst_places,
            training_cpu_seconds=self.pool.cpu_seconds,
            training_wall_seconds=self.pool.wall_seconds,
            fine_tunes=counts.fine_tunes,
            full_retrains=counts.full_retrains,
            attempts=counts.attempts,
            rejected=counts.rejected,
            rollbacks=counts.rollbacks,
            false_alarms=counts.false_alarms,
            deployed=counts.deployed,
            failed=counts.failed,
            checks=counts.checks,
            drift_episodes=counts.drift_episodes,
            wall_seconds=wall,
            cpu_seconds=time.thread_time() - self._cpu,
            complete=until is None,
            until=until,
            root=str(self.root) if self.policy.models else None,
        )


class _Parts:
    """The parts of a live process, put together on a root of their own."""

    def __init__(self, life: Life, clock: ReplayClock, first: FirstChampion) -> None:
        self.life, self.clock = life, clock
        self.table = life.table
        config, root = life.config, life.root
        door = Door(root, ScratchDisk())
        # the monitor's is taken at the end only: sealing and saving at every turn is for those who could lose something
        self.lock = MaintainerLock(door, who="replay", clock=clock)
        self._for_life = MaintainerLock(door, who="replay", clock=clock)
        with ModelMonitor(root, config, clock) as founder:  # as `demand-maint init` does, which is another process
            founder.import_history(self.table.before.select("place_id", "timestamp", "actual"))
        # a disk that promises nothing need not be asked for it every half minute
        unsynced = structs.replace(config, monitor=structs.replace(config.monitor, fsync_seconds=math.inf))
        self.monitor = ModelMonitor(root, unsynced, clock, lock=self.lock)
        self.manager = HybridModelManager(
            root,
            config=config,
            clock=clock,
            monitor=self.monitor,
            pool=life.pool,
            lock=self._for_life,
            who="replay",
        )
        self.registry = self.manager.registry
        self.ahead = AheadModels(self.table)
        self._codes: NDArray[np.uint32] | None = None
        self.handle = ModelHandle(
            self.registry,
            config=config,
            clock=clock,
            journal=self.monitor.journal,
            # what was served is explained from these; nobody asks that of a root that goes
            snapshots=serving_store(door) if life.kept else None,
            naive=self._naive,
            load=self.ahead.load,
        )
        self._unsync()
        self._for_life.acquire()
        self._found(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.manager.close()
        self._for_life.release()
        try:
            if self.life.kept:
                self.lock.acquire()
            self.monitor.close()
        finally:
            self.lock.release()

    def _unsync(self) -> None:
        disk = ScratchDisk()
        for owner in (self.registry, self.monitor, self.monitor.journal):
            for name in ("door", "_door"):
                door = getattr(owner, name, None)
                if door is not None:
                    door.disk = disk

    def _found(self, first: FirstChampion) -> None:
        """Commit the first champion and serve it."""
        version = self.registry.add_version(first.model, first.metadata)
        self.registry.commit(
            "init",
            champion=version.number,
            base=version.number,
            who="replay",
            why="trained on everything before the replay",
        )
        self.handle.refresh()
        self.monitor.journal.set_version(self.handle.version, self.table.names)

    def _naive(self, places: Any, slots: Any) -> Floats:
        first, end = self.ahead.at
        if self.monitor.line_up.left_out:  # what was broken a season ago forecasts nothing
            return self.monitor.naive(self.table.place[first:end], self.table.slot[first:end])
        del places, slots
        return self.table.naive[first:end]

    def learn(self, first: int, end: int) -> None:
        """Log the truth of rows `first` .. `end`."""
        journal = self.monitor.journal
        if self._codes is None:
            self._codes = journal.encode(self.table.place)[0]
        stamps = self.table.slot[first:end].astype(np.float64)
        journal.log_columns(self._codes[first:end], stamps, None, self.table.actual[first:end])

    def renew(self) -> None:
        """Count what is new, follow the pointer, and renew weights and levels."""
        self.monitor.drain(gentle=False)
        self.handle.refresh()
        self.monitor.watch_feed()
        if self.handle.publish(self.monitor.line_up, self.monitor.places):
            self._remember()

    def _remember(self) -> None:
        """Keep one snapshot a day for the report."""
        snapshot = self.monitor.line_up.latest
        if snapshot is None:
            return
        kept = self.life.snapshots
        if kept and kept[-1].at // DAY == snapshot.at // DAY:
            kept[-1] = snapshot
        else:
            kept.append(snapshot)

    def predict(self, first: int, end: int) -> Floats:
        """Predict and journal rows `first` .. `end`, as a collector does when their time has come."""
        self.ahead.at = (first, end)
        rows = self.table.features[first:end]
        return self.handle.predict(
            rows, self.table.place[first:end], self.table.slot[first:end], schema=self.table.names
        )

    def better(self, challenger: int, champion: int, now: float) -> bool:
        """Whether the challenger is better than the champion it was to follow over the 14 days after its training.

        Looks ahead, which a live process cannot: it only scores, and decides nothing.
        """
        begin = now + self.life.lead
        first = int(np.searchsorted(self.table.slot, begin, side="left"))
        end = int(np.searchsorted(self.table.slot, begin + HELPED_DAYS * DAY, side="left"))
        if end <= first:
            return True
        actual = self.table.actual[first:end]
        errors = [float(np.abs(self._model(v).rows(first, end) - actual).sum()) for v in (challenger, champion)]
        return errors[0] < errors[1]

    def _model(self, version: int) -> AheadModel:
        sha256 = self.registry.hashes(version).model
        known = self.ahead.newest.get(sha256)
        return known or self.ahead.load(self.registry.model_bytes(version), sha256=sha256)


def _drift_words(health: dict[str, Any]) -> str:
    degradation = health.get("degradation")
    text = f"{health['status']}: error {health.get('mae') or 0.0:.1f}"
    if degradation is not None:
        text += f", {100 * degradation:+.0f} % against what was to be expected"
    places = [place for place in health.get("places") or () if isinstance(place, dict) and place.get("drifting")]
    if places:
        text += "; worst: " + ", ".join(str(place.get("place")) for place in places[:3])
    return text
