"""What would maintenance have done to this data? The live code, on a history, in virtual time.

Every policy gets a root of its own and the same first champion, trained on everything before the replay begins; then the real
monitor, line-up, rules, gate and trainings run on a clock that is moved by hand. What comes out is what production would have
done, up to what a machine's load and a collector's gaps add.
"""

import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.tables import load_history
from demand_maint._training.in_place import InPlacePool
from demand_maint.clock import SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.first_look import first_look
from demand_maint.core.replay_policy import NAMED, ReplayPolicy, own_policy, policy_config
from demand_maint.core.replay_result import PolicyResult, rolling_error, summary_table
from demand_maint.core.report_data import PolicyRow, ReportData
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import ConfigError
from demand_maint.model_manager import HybridModelManager
from demand_maint.replay_life import FirstChampion, Life, LifeEvent, ReplayClock
from demand_maint.replay_table import ReplayTable, table_of
from demand_maint.report import report_html, write_page
from demand_maint.train_model import FullRetrainer

__all__ = ["ReplayReport", "find_policy", "replay"]

DAY = 86400.0
YEAR = 365 * DAY
LOOK_SECONDS = 0.2
KNOWN_SHARE = 0.02
MAX_POLICY_DAYS = 740
#: Bytes of a row in a root beside its features, and the share of the free memory that roots may take.
ROW_BYTES = 160
MEMORY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay came to.

    Attributes
    ----------
    history
        Facts of what was replayed.
    policies
        One result each, in the order asked for; interrupted ones say so.
    data
        The report page's content.
    report
        Where the page was written, if it was.
    """

    history: dict[str, Any]
    policies: tuple[PolicyResult, ...]
    data: ReportData
    report: Path | None = None

    @property
    def complete(self) -> bool:
        """Whether every policy came to the end."""
        return all(result.complete for result in self.policies)

    def as_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {"history": self.history, "policies": [result.as_dict() for result in self.policies]}

    def table(self) -> str:
        """Return the results as a table in plain text."""
        return summary_table(list(self.policies))


@dataclass(slots=True)
class _Run:
    """A policy on its way."""

    life: Life
    future: "Future[PolicyResult] | None" = None


@dataclass(slots=True)
class _Show:
    """Where to tell how far it is."""

    progress: Callable[[float, float | None], None] | None
    jobs: int

    def tell(self, runs: Sequence[_Run]) -> None:
        """Tell the share that is done, and the seconds left where enough is known."""
        if self.progress is None:
            return
        if all(run.future is not None and run.future.done() for run in runs):
            self.progress(1.0, 0.0)
            return
        now = SystemClock().monotonic()
        spent = [run.life.seconds(now) for run in runs]
        known = [s / run.life.done for run, s in zip(runs, spent, strict=True) if run.life.done > KNOWN_SHARE]
        if not known:
            self.progress(0.0, None)
            return
        # a policy that has not begun is taken to be as long as the others: trainings differ, and nobody knows them beforehand
        usual = sum(known) / len(known)
        left = [
            max(s / run.life.done - s, 0.0) if run.life.done > KNOWN_SHARE else usual
            for run, s in zip(runs, spent, strict=True)
        ]
        self.progress(sum(spent) / max(sum(spent) + sum(left), 1e-9), max(*left, sum(left) / self.jobs, 0.0))


def find_policy(name: str | Path) -> ReplayPolicy:
    """Return a policy by its name, or from a TOML file.

    Raises
    ------
    ConfigError
        No such name, no such file, or a setting in it is wrong.
    """
    known = NAMED.get(str(name))
    if known is not None:
        return known
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"{str(name)!r} is no policy. Known are {', '.join(NAMED)}; or give the path of a TOML file.")
    import tomllib  # noqa: PLC0415  # only where a file is given

    try:
        settings = tomllib.loads(Door(path.absolute().parent).read_bytes(path.name, limit=1 << 20).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    return own_policy(path.stem, settings)


def replay(
    history: str | Path | pl.DataFrame,
    policies: Iterable[str | Path | ReplayPolicy] = ("default", "frozen", "full-28d", "naive"),
    *,
    train_until: float | str | None = None,
    until: float | str | None = None,
    horizon: str | None = None,
    label_delay: float = 0.0,
    step: str | None = None,
    config: Config | None = None,
    root: str | Path = ".",
    out: str | Path | None = None,
    roots: Mapping[str, str | Path] | None = None,
    jobs: int = 1,
    training: bool = True,
    refresh: float | None = None,
    columns: dict[str, str] | None = None,
    name: str | None = None,
    tell: Callable[[LifeEvent], None] | None = None,
    progress: Callable[[float, float | None], None] | None = None,
    finale: Callable[[str, HybridModelManager], None] | None = None,
) -> ReplayReport:
    """Live through `history` once for each policy.

    Parameters
    ----------
    history
        CSV or Parquet file, or a frame: ``place_id``, ``timestamp``, ``actual``, and features if there are any.
    policies
        Names (`demand_maint.core.replay_policy.NAMED`), paths of TOML files, or policies.
    train_until
        First replayed moment: epoch seconds, or a date in the configured zone. By default the last year is replayed, at most
        half of the history.
    until
        Where to stop.
    horizon, step
        Over the configuration's, as ``"1d"`` and ``"1h"``.
    label_delay
        Seconds after a slot is over until its truth is known; features then know nothing younger either.
    config
        ``None`` reads ``demand_maint.toml`` of `root`.
    out
        Folder that keeps the page, the results and every policy's root; nothing is kept where ``None``.
    roots
        Where the roots of single policies shall stay, by name.
    jobs
        Policies lived through at the same time.
    training
        False tells what the rules would ask for, and fits nothing.
    refresh
        Seconds between turns; by default the interval of the checks (live: an hour).
    columns
        Names in the file by ours, as ``{"actual": "count"}``.
    name
        What the page calls the history; its file name by default.
    tell
        Called with each event, from the policy's thread.
    progress
        Called about five times a second with the share done and the seconds left.
    finale
        Called with each policy's name and manager when the history is over, from the policy's thread.

    Raises
    ------
    HistoryFileError
        The file cannot be read as demand; row and column are named.
    ConfigError
        An unknown policy or setting.
    InsufficientDataError
        Too little before or after the cut.
    """
    chosen = [policy if isinstance(policy, ReplayPolicy) else find_policy(policy) for policy in policies]
    base = _late(_configured(config or load_config(root), horizon, step), label_delay)
    configs = {policy.name: policy_config(base, policy) for policy in chosen}
    table, facts = _table(history, base, train_until, until, columns, root)
    with ExitStack() as stack:
        if out is not None:
            folder = Path(out)
        else:
            scratch = scratch_folder(len(chosen) * len(table) * (ROW_BYTES + 4 * len(table.names)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demand-replay-", dir=scratch)))
        first = _first_champion(table, base, folder, jobs) if any(policy.models for policy in chosen) else None
        stop = threading.Event()
        runs = [
            _Run(
                Life(
                    table=table,
                    policy=policy,
                    config=configs[policy.name] if training else _advising(configs[policy.name]),
                    root=Path((roots or {}).get(policy.name, folder / "roots" / policy.name)),
                    kept=out is not None or policy.name in (roots or {}),
                    first=first,
                    label_delay=label_delay,
                    refresh=refresh or min(configs[policy.name].runtime.interval_hours * 3600, DAY),
                    tell=tell,
                    finale=finale,
                    stop=stop,
                )
            )
            for policy in chosen
        ]
        _live_all(runs, jobs, _Show(progress, max(min(jobs, len(runs)), 1)))
        results = tuple(run.future.result() for run in runs if run.future is not None)
        data = _page_data(runs, results, table, base, facts, name or Path(facts["source"]).name)
        page = _keep(Path(out), data, facts, results) if out is not None else None
    return ReplayReport(history=facts, policies=results, data=data, report=page)


def scratch_folder(size: int) -> str | None:
    """Memory rather than a disk for `size` bytes of roots that nobody keeps, where there is plenty."""
    memory = Path("/dev/shm")  # noqa: S108  # a private folder is made inside
    try:
        free = shutil.disk_usage(memory).free if os.access(memory, os.W_OK) else 0
    except OSError:
        return None
    return str(memory) if size < MEMORY_SHARE * free else None


def _configured(config: Config, horizon: str | None, step: str | None) -> Config:
    changed = {name: value for name, value in (("horizon", horizon), ("step", step)) if value is not None}
    if not changed:
        return config
    try:
        return msgspec.convert(msgspec.to_builtins(config) | changed, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}.") from error


def _late(config: Config, delay: float) -> Config:
    """Let features know nothing younger than the truth that is in when a row is predicted."""
    if delay <= 0:
        return config
    steps = math.ceil(delay / config.step_seconds)
    return msgspec.structs.replace(config, horizon=f"{config.horizon_seconds + steps * config.step_seconds}s")


def _advising(config: Config) -> Config:
    policy = msgspec.structs.replace(config.policy, fine_tune="advise", full_retrain="advise")
    return msgspec.structs.replace(config, policy=policy)


def _table(
    history: str | Path | pl.DataFrame,
    config: Config,
    train_until: float | str | None,
    until: float | str | None,
    columns: dict[str, str] | None,
    root: str | Path,
) -> tuple[ReplayTable, dict[str, Any]]:
    advice: tuple[str, ...] = ()
    if isinstance(history, pl.DataFrame):
        frame = history
    else:
        frame, notes = load_history(history, config=config, columns=columns)
        advice = first_look(notes.spacing, notes.rows_a_day, config)
    grid = TimeGrid(config.zone, config.step_seconds)
    stamps = frame["timestamp"].cast(pl.Float64)
    low, high = stamps.min(), stamps.max()
    if low is None or high is None:
        raise ConfigError("The history holds no rows.")
    oldest, newest = float(low), float(high)  # type: ignore[arg-type]  # a Float64 column's extremes
    start = _moment(train_until, grid)
    if start is None:
        start = float(grid.day_start(grid.day([newest - min(YEAR, (newest - oldest) / 2)]))[0])
    table = table_of(frame, config, train_until=start, until=_moment(until, grid), root=root)
    facts = {
        "source": "frame" if isinstance(history, pl.DataFrame) else str(history),
        "rows": len(frame),
        "trained_rows": len(table.before),
        "replayed_rows": len(table),
        "places": table.places,
        "from": _iso(oldest),
        "train_until": _iso(table.start),
        "until": _iso(table.end),
        "days": round((table.end - table.start) / DAY, 2),
        "zone": config.zone,
        "step": config.step,
        "horizon": config.horizon,
        "features": list(table.names),
        "advice": list(advice),
    }
    return table, facts


def _troubles(result: PolicyResult) -> tuple[str, ...]:
    interrupted = () if result.complete else ("interrupted",)
    return (*interrupted, f"{result.failed} trainings failed") if result.failed else interrupted


def _moment(value: float | str | None, grid: TimeGrid) -> float | None:
    if value is None or isinstance(value, int | float):
        return value
    try:
        stamp = datetime.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(f"{value!r} is no date. Write it as 2013-01-01.") from error
    if stamp.tzinfo is not None:
        return stamp.timestamp()
    return float(grid.epoch(np.array([int(stamp.replace(tzinfo=UTC).timestamp())]))[0])


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _first_champion(table: ReplayTable, config: Config, folder: Path, jobs: int) -> FirstChampion:
    """Train what every policy starts from, as `demand-maint init --history` does; nobody else works meanwhile."""
    training = msgspec.structs.replace(config.training, threads=max(config.training.threads, jobs))
    config = msgspec.structs.replace(config, training=training)
    with InPlacePool() as pool:
        trainer = FullRetrainer(folder / "first", config, ReplayClock(table.start), pool=pool)
        outcome = trainer.retrain(frame=table.before)
    model, metadata = (Path(path) for path in (outcome.model_path, outcome.metadata_path))
    read = Door(model.parent).read_bytes
    return FirstChampion(read(model.name), msgspec.json.decode(read(metadata.name), type=ModelMetadata))


def _live_all(runs: Sequence[_Run], jobs: int, show: _Show) -> None:
    """Live every life, at most `jobs` at a time; an interrupt ends them at their next turn and keeps what is done."""
    with ThreadPoolExecutor(max_workers=max(jobs, 1), thread_name_prefix="replay") as executor:
        pending: set[Future[PolicyResult]] = set()
        for run in runs:
            run.future = executor.submit(run.life.run)
            pending.add(run.future)
        while pending:
            try:
                show.tell(runs)
                _, pending = wait(pending, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for run in runs:
                    if run.future is not None and run.future.done() and run.future.exception() is not None:
                        _stop(runs)
            except KeyboardInterrupt:
                _stop(runs)
    show.tell(runs)


def _stop(runs: Sequence[_Run]) -> None:
    for run in runs:
        run.life.stop.set()
        run.life.pool.stop()


def _page_data(
    runs: Sequence[_Run],
    results: Sequence[PolicyResult],
    table: ReplayTable,
    config: Config,
    facts: dict[str, Any],
    name: str,
) -> ReportData:
    grid = TimeGrid(config.zone, config.step_seconds)
    day = grid.day(table.slot)
    days = np.arange(int(day[0]), int(day[-1]) + 1, dtype=np.int64)
    thin = max(1, -(-len(days) // MAX_POLICY_DAYS))
    rows = []
    for run, result in zip(runs, results, strict=True):
        rolling = rolling_error(run.life.served, table.actual, day, days)[::thin]
        rows.append(
            PolicyRow(
                name=result.policy,
                mae=result.mae,
                mase=result.mase,
                bias=result.bias,
                training_cpu_seconds=result.training_cpu_seconds,
                fine_tunes=result.fine_tunes,
                full_retrains=result.full_retrains,
                rejected=result.rejected,
                rollbacks=result.rollbacks,
                false_alarms=result.false_alarms,
                rolling=tuple(float(f"{v:.4g}") if np.isfinite(v) else None for v in rolling.tolist()),
                note="; ".join(filter(None, (*_troubles(result), result.text))),
            )
        )
    order = sorted(runs, key=lambda run: run.life.policy.name != "default")
    return ReportData(
        title="Policy replay",
        generated_at=SystemClock().now(),
        zone=config.zone,
        source=f"{name}: {facts['places']} place{'s' if facts['places'] != 1 else ''}, {facts['replayed_rows']:,} rows from {facts['train_until'][:10]} to {facts['until'][:10]}",
        stories=tuple(run.life.story for run in order if run.life.story is not None),
        policies=tuple(rows),
        policy_days=tuple(grid.day_start(days).astype(float).tolist()[::thin]),
    )


def _keep(out: Path, data: ReportData, facts: dict[str, Any], results: Sequence[PolicyResult]) -> Path:
    found = {"history": facts, "policies": [result.as_dict() for result in results]}
    door = Door(out)
    door.makedirs()
    door.replace("replay.json", msgspec.json.format(msgspec.json.encode(found), indent=2))
    return write_page(report_html(data), out / "report.html")
