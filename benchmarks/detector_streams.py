"""Daily error streams for the detector scorecard: synthetic ones in control, and real ones of a champion on the shipped data.

A stream is some arrays of one figure a day: the model's mean absolute error, the seasonal-naive forecast's, and the demand
level; real ones also have what of the model's errors was fresh (`core.fresh`), own and ordinary errors (`core.own_errors`) and
the surprise of the demand (`core.surprise`), synthetic ones have neither hours nor demand. NaN where a day is missing.
"""

import hashlib
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.core.difficulty import OwnDays, log_error_against
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.metrics import HourlySums
from demand_maint.core.ordinary import days_ahead
from demand_maint.core.records import MaturedBatch
from demand_maint.core.surprise import day_surprises
from demand_maint.core.timegrid import TimeGrid
from demand_maint.features import DemandFeatures, seasonal_naive

__all__ = [
    "REFERENCE",
    "Stream",
    "aging_streams",
    "crossfitted_rows",
    "crossfitted_streams",
    "daily_figures",
    "inject",
    "place_days",
    "pooled_stream",
    "synthetic",
    "week_ahead_streams",
]

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
CACHE = Path(tempfile.gettempdir()) / "demand_maint_scorecard"
DAY = 86400
#: Days before the judged ones: the champion's holdout.
REFERENCE = 37
SINGLE_HOLIDAYS = (10, 95, 120, 150, 240, 300, 330)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Daily figures (D,), of which the first `REFERENCE` days are the holdout; `kind` groups the score's rows."""

    kind: str
    error: Floats
    naive: Floats
    level: Floats
    own: OwnDays | None = None
    surprise: Floats | None = None
    fresh: Floats | None = None
    #: What it was before a shift was injected.
    unshifted: "Stream | None" = None

    def piece(self, start: int, end: int) -> "Stream":
        """Return the days from `start` to before `end` as a stream of their own."""
        part = slice(start, end)
        own = None if self.own is None else OwnDays(self.own.own[part], self.own.ordinary[part])
        surprise, fresh = (None if figure is None else figure[part] for figure in (self.surprise, self.fresh))
        return Stream(self.kind, self.error[part], self.naive[part], self.level[part], own, surprise, fresh)

    @property
    def years(self) -> float:
        """Judged stream-years."""
        return (len(self.error) - REFERENCE) / 365.0


def inject(stream: Stream, day: int, effect: float, ramp: int = 0) -> Stream:
    """Scale the model's error by ``1 + effect`` from judged `day` on, over `ramp` days where given."""
    since = np.arange(len(stream.error)) - (REFERENCE + day)
    share = np.clip((since + 1) / ramp, 0.0, 1.0) if ramp else (since >= 0).astype(float)
    worse = 1.0 + effect * np.where(since < 0, 0.0, share)
    fresh = None if stream.fresh is None else stream.fresh * worse
    own = None if stream.own is None else OwnDays(stream.own.own * worse, stream.own.ordinary)
    return replace(stream, error=stream.error * worse, own=own, fresh=fresh, unshifted=stream)


def daily_figures(stream: Stream) -> Floats:
    """Return the figure that our test judges each day by."""
    error = stream.error if stream.fresh is None else stream.fresh
    return log_error_against(error, stream.naive, stream.level, stream.own, stream.surprise)


def synthetic(
    count: int,
    days: int,
    rows_a_day: int,
    *,
    persistence: float,
    season: float = 0.25,
    seed: int = 0,
    missing: float = 0.05,
) -> list[Stream]:
    """Return streams that are stationary but seasonal.

    They have a yearly season, weekends, seven holidays, a hard Christmas week that also hurts the naive forecast a week later,
    AR(1) difficulty, the sampling noise of `rows_a_day` rows, and missing days.
    """
    rng = np.random.default_rng(seed)
    total = REFERENCE + days + 28
    day = np.arange(total)[None] + rng.integers(0, 365, count)[:, None]
    of_year = day % 365
    shape = (count, total)
    scale = (1 + season * np.sin(2 * np.pi * of_year / 365)) * np.where(day % 7 >= 5, 1.2, 1.0)
    holiday = np.isin(of_year, SINGLE_HOLIDAYS).astype(float)
    christmas = ((of_year >= 354) & (of_year <= 363)).astype(float)
    harder = 1 + holiday + 0.7 * christmas
    harder_naive = 1 + 1.4 * holiday + 0.8 * christmas
    harder_naive[:, 7:] = np.maximum(harder_naive[:, 7:], 1 + 0.9 * holiday[:, :-7] + 0.5 * christmas[:, :-7])
    common = rng.normal(size=shape)
    for i in range(1, total):
        common[:, i] = persistence * common[:, i - 1] + np.sqrt(1 - persistence**2) * common[:, i]
    spread = 0.8 / np.sqrt(max(rows_a_day / 3.0, 1.0))

    def sampled() -> Floats:
        return np.exp(rng.normal(0, spread, shape) - spread**2 / 2)

    error = scale * harder * np.exp(0.12 * common) * sampled()
    naive = 1.25 * scale * harder_naive * np.exp(0.084 * common + 0.1 * rng.normal(size=shape)) * sampled()
    level = 10 * scale * np.exp(0.05 * rng.normal(size=shape))
    gone = rng.random(shape) < missing
    error[gone] = naive[gone] = np.nan
    kind = f"synthetic {rows_a_day} rows"
    return [Stream(kind, error[i, 28:], naive[i, 28:], level[i, 28:]) for i in range(count)]


def crossfitted_rows(name: str, *, days: int | None = None, iterations: int = 300, horizon: int = DAY) -> pl.DataFrame:
    """Rows of a shipped data set with out-of-sample predictions: each block of days by a model fitted on the other blocks.

    Such a champion never ages, so every alarm on its errors is a false one. It forecasts `horizon` seconds ahead. Columns
    place_id, timestamp, actual, naive, predicted; kept in the temporary folder.
    """
    spec = {
        "dc_bikes_hourly": ("America/New_York", 3600, 21, 6),
        "birmingham_parking": ("Europe/London", 1800, 5, 5),
    }
    zone, step, block, folds = spec[name]
    frame, features = _frame(name, zone, step, days, horizon)
    ahead = "" if horizon == DAY else f"-{horizon}"
    kept = _cached(f"crossfit-{name}-{days}-{iterations}-{len(features)}{ahead}")
    if kept.exists():
        return pl.read_parquet(kept)
    x = frame.select(features).to_numpy().astype(np.float32)
    y = frame["actual"].to_numpy().astype(np.float64)
    number = (frame["timestamp"].to_numpy() // DAY).astype(np.int64)
    fold = (number // block) % folds
    predicted = np.empty(len(y))
    # the share of time that has passed lets a fold's model know the level of its neighbours
    x = np.column_stack([x, number.astype(np.float32)])
    for k in range(folds):
        predicted[fold == k] = _fitted(x[fold != k], y[fold != k], x[fold == k], iterations)
    out = frame.select("place_id", "timestamp", "actual", "naive").with_columns(pl.Series("predicted", predicted))
    kept.parent.mkdir(parents=True, exist_ok=True)
    out.write_parquet(kept)
    return out


def place_days(rows: pl.DataFrame, zone: str) -> tuple[list[str], Floats, Floats, Floats]:
    """Places and their daily error, naive error and level, (P, D) each."""
    day = TimeGrid(zone, 3600).day(rows["timestamp"].to_numpy())
    daily = (
        rows.with_columns(pl.Series("day", day), (pl.col("actual") - pl.col("predicted")).abs().alias("error"))
        .with_columns((pl.col("actual") - pl.col("naive").fill_nan(None)).abs().alias("reference"))
        .filter(pl.col("reference").is_not_null())
        .group_by("place_id", "day")
        .agg(pl.col("error", "reference").mean(), pl.col("actual").abs().mean().alias("level"))
    )
    tables = [
        daily.pivot(on="day", index="place_id", values=value, sort_columns=True).sort("place_id")
        for value in ("error", "reference", "level")
    ]
    places = tables[0]["place_id"].to_list()
    error, naive, level = (t.drop("place_id").cast(pl.Float64).fill_null(float("nan")).to_numpy() for t in tables)
    return places, error, naive, level


def pooled_stream(kind: str, rows: pl.DataFrame, zone: str, horizon: float = DAY) -> Stream:
    """Return the stream of all places of `rows` (columns as in `crossfitted_rows`) together."""
    _, error, naive, level = place_days(rows, zone)
    grid = TimeGrid(zone, 3600)
    number = grid.day(rows["timestamp"].to_numpy())
    table = rows.with_columns(pl.Series("day", number)).group_by("place_id", "day")
    daily = table.agg(pl.len().alias("n"), pl.col("actual").abs().sum().alias("demand"))
    judged = rows.filter(pl.col("naive").fill_nan(None).is_not_null())["timestamp"].to_numpy()
    kept = np.unique(grid.day(judged))
    days = np.arange(number.min(), number.max() + 1)
    counts, demand = (_by_place_and_day(daily, days, value) for value in ("n", "demand"))
    edges = grid.day_start(np.append(days, days[-1] + 1)) // 3600
    sums = _errors(rows, grid)
    found = sums.own_by_place(_truths(rows, grid), edges, grid, days_ahead(horizon))
    seen, judged = found["n"].sum(axis=0), np.isin(days, kept)
    seen = np.where(seen >= 0.5 * counts.sum(axis=0), seen, np.nan)[judged]
    errors = sums.blocks(edges)
    fresh = (errors["fresh_error"] / errors["n"])[judged]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a day on which every place is closed
        own = OwnDays(*(found[name].sum(axis=0)[judged] / seen for name in ("own", "ordinary")))
        error, naive, level = (np.nanmean(table, axis=0) for table in (error, naive, level))
    return Stream(kind, error, naive, level, own, day_surprises(counts, demand)[judged], fresh)


def _errors(rows: pl.DataFrame, grid: TimeGrid) -> HourlySums:
    """Sum up the model's errors as a monitor would."""
    sums, count = HourlySums(), len(rows)
    predicted, slot = rows["predicted"].to_numpy(), grid.floor(rows["timestamp"].to_numpy())
    sums.add(
        MaturedBatch(
            place=rows["place_id"].rank("dense").to_numpy().astype(np.uint32) - 1,
            slot=slot,
            version=np.ones(count, dtype=np.uint16),
            predicted=predicted,
            served=predicted,
            actual=rows["actual"].to_numpy(),
            naive=rows["naive"].to_numpy(),
            members=np.empty((count, 0), dtype=np.float32),
            snapshot=np.zeros(count, dtype=np.uint32),
            observed_at=slot.astype(np.float64),
        )
    )
    sums.find_fresh(grid)
    return sums


def _truths(rows: pl.DataFrame, grid: TimeGrid) -> FeedSums:
    """Sum up the truths as a monitor would."""
    sums = FeedSums()
    place = rows["place_id"].rank("dense").to_numpy().astype(np.uint32) - 1
    slot = grid.floor(rows["timestamp"].to_numpy())
    sums.add(place, slot, rows["actual"].to_numpy(), np.zeros(len(slot), dtype=bool))
    return sums


def _by_place_and_day(daily: pl.DataFrame, days: NDArray[np.int64], value: str) -> Floats:
    places = daily["place_id"].unique().sort()
    out = np.zeros((len(places), len(days)))
    codes = daily["place_id"].replace_strict(places, np.arange(len(places))).to_numpy()
    out[codes, np.searchsorted(days, daily["day"].to_numpy())] = daily[value].to_numpy()
    return out


def crossfitted_streams(*, days: int | None = None, iterations: int = 300, judged: int = 600) -> list[Stream]:
    """Return the bikes' stream cut into pieces, and that of all car parks together (short: 29 judged days)."""
    bikes = crossfitted_rows("dc_bikes_hourly", days=days, iterations=iterations)
    streams = _pieces(pooled_stream("real bikes", bikes, "America/New_York"), judged)
    parks = crossfitted_rows("birmingham_parking", iterations=iterations)
    streams.append(pooled_stream("real car parks, pooled", parks, "Europe/London"))
    return streams


def week_ahead_streams(*, iterations: int = 300, judged: int = 600) -> list[Stream]:
    """Return the bikes under a champion that forecasts a week ahead, judged by what could be known then."""
    rows = crossfitted_rows("dc_bikes_hourly", iterations=iterations, horizon=7 * DAY)
    return _pieces(pooled_stream("real bikes, a week ahead", rows, "America/New_York", 7 * DAY), judged)


def aging_streams(*, iterations: int = 300, judged: int = 600) -> list[Stream]:
    """Return the bikes under champions trained once on 540 days and never again: real drift is in there."""
    kept = _cached(f"aging-{iterations}-{judged}")
    if kept.exists():
        table = pl.read_parquet(kept)
    else:
        frame, features = _frame("dc_bikes_hourly", "America/New_York", 3600, None)
        x = frame.select(features).to_numpy().astype(np.float32)
        y, stamps = frame["actual"].to_numpy().astype(np.float64), frame["timestamp"].to_numpy()
        parts = []
        for number, start in enumerate(
            np.arange(stamps[0] + 540 * DAY, stamps[-1] - (judged + REFERENCE) * DAY, 180 * DAY)
        ):
            train = (stamps < start) & (stamps >= start - 540 * DAY)
            test = (stamps >= start) & (stamps < start + (judged + REFERENCE) * DAY)
            predicted = _fitted(x[train], y[train], x[test], iterations)
            part = frame.filter(pl.Series(test)).select("place_id", "timestamp", "actual", "naive")
            parts.append(part.with_columns(pl.Series("predicted", predicted), pl.lit(number).alias("champion")))
        table = pl.concat(parts)
        kept.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(kept)
    return [
        pooled_stream("real bikes, never retrained", part, "America/New_York")
        for part in table.partition_by("champion", maintain_order=True)
    ]


def _pieces(whole: Stream, judged: int) -> list[Stream]:
    length = REFERENCE + judged
    return [whole.piece(start, start + length) for start in range(0, max(len(whole.error) - length, 0) + 1, judged)]


def _frame(name: str, zone: str, step: int, days: int | None, horizon: int = DAY) -> tuple[pl.DataFrame, list[str]]:
    grid = TimeGrid(zone, step)
    raw = pl.read_parquet(DATA / f"{name}.parquet")
    wall = raw["timestamp"].cast(pl.Datetime("us")).dt.epoch("s").to_numpy()
    history = pl.DataFrame(
        {
            "place_id": raw["place_id"],
            "timestamp": grid.floor(grid.epoch(wall)).astype(np.float64),
            "actual": raw["actual"].cast(pl.Float64),
        }
    ).unique(["place_id", "timestamp"], keep="last", maintain_order=True)
    if days is not None:
        history = history.filter(pl.col("timestamp") < history["timestamp"].min() + days * DAY)  # type: ignore[operator]
    builder = DemandFeatures(grid, horizon)
    naive = seasonal_naive(history.select("place_id", "timestamp", "actual"), history, grid, 7 * DAY)
    frame = builder.build(history, history).with_columns(pl.Series("naive", naive))
    return frame.sort("timestamp", "place_id"), list(builder.names)


def _fitted(x: NDArray[np.float32], y: Floats, at: NDArray[np.float32], iterations: int) -> Floats:
    from catboost import CatBoostRegressor

    model = CatBoostRegressor(
        iterations=iterations,
        depth=6,
        learning_rate=0.08,
        verbose=0,
        allow_writing_files=False,
        thread_count=1,
        random_seed=0,
    )
    model.fit(x, y)
    found: Floats = model.predict(at)
    return found


def _cached(name: str) -> Path:
    """Path of a kept table; the name holds what it depends on, the data sets' bytes among it."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(DATA.glob("*.parquet")))).hexdigest()[:12]
    return CACHE / f"{name}-{digest}.parquet"
