"""Feature rows for a demand model: the protocol, the built-in features, and the seasonal-naive reference.

A builder turns *keys* (places and slots) and *known history* into float32 rows whose names are the model's schema. What a row
may know ends one horizon before its slot; that holds for every row alike, whatever else the history contains.
"""

import importlib
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.config import Config
from demand_maint.core.demandrows import DAY, Keys, Layout, demand_rows, feature_names
from demand_maint.core.lookback import Ints, Lookback, to_units
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import ConfigError

__all__ = ["DemandFeatures", "FeatureBuilder", "LiveFeatureBuilder", "load_builder", "seasonal_naive"]

Place = int | str
# cells of one dense table, and keys of one pass, during a vectorised build
_CELLS = 4_000_000
_KEYS = 65_536


@runtime_checkable
class FeatureBuilder(Protocol):
    """What the package needs of anybody's features.

    A builder may have a number `reach_days`: how many days before a slot its features look at. It is then given no older
    history for training on recent rows; one without it is given all there is.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The schema: names of the feature columns, in order."""

    def build(self, history: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """Return `keys` with the feature columns added.

        Parameters
        ----------
        history
            Columns ``place_id``, ``timestamp`` (slot, epoch seconds), ``actual``; the past as far as it is kept.
        keys
            Columns ``place_id`` and ``timestamp`` (slot, epoch seconds), maybe others. The row of a slot at ``t`` may use
            only actuals of slots at ``t - horizon`` or before.
        """


@runtime_checkable
class LiveFeatureBuilder(FeatureBuilder, Protocol):
    """A builder that also keeps up with the present, one observation at a time."""

    def observe(self, place_id: Place, timestamp: float, actual: float) -> None:
        """Take in one actual."""

    def row(self, place_id: Place, timestamp: float) -> NDArray[np.float32]:
        """Feature row, shape (F,), from what was observed so far."""

    def rows(self, place_ids: Sequence[Place], timestamps: Sequence[float]) -> NDArray[np.float32]:
        """Feature rows, shape (n, F)."""


class DemandFeatures:
    """Calendar, lags and rolling statistics of the place and of the mean of all places.

    `build` makes training rows in one go; `observe` and `row` keep up with the present. Both read the same tables through the
    same arithmetic, so they agree exactly where the same actuals were known.

    Parameters
    ----------
    grid
        Zone and step. The step must divide a day.
    horizon
        Seconds between the moment of a prediction and its slot.
    holidays
        Dates that behave like Sundays, as ``"2013-07-04"`` or `datetime.date`.

    Examples
    --------
    >>> features = DemandFeatures(TimeGrid("UTC", 3600), horizon=86400)
    >>> features.names[:3]
    ('hour', 'weekday', 'hour_of_week')
    >>> features.observe("north", 0, 12.0)
    >>> float(features.row("north", 86400)[features.names.index("lag_1d")])
    12.0
    """

    def __init__(self, grid: TimeGrid, horizon: int, holidays: Iterable[str | date] = ()) -> None:
        if DAY % grid.step:
            raise ConfigError(
                f"`step` is {grid.step} seconds, which does not divide a day. Use a step such as '15m', '1h' or '1d' with the built-in features, or name your own with `features = \"module:object\"`."
            )
        self.grid = grid
        self.layout = Layout(step=grid.step, horizon=horizon, holidays=_days(holidays))
        self._names = feature_names(self.layout)
        self._live = _Live(self.layout)
        self._slots: dict[float, tuple[int, bool]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The schema: names of the feature columns, in order."""
        return self._names

    @property
    def reach_days(self) -> int:
        """Days before a slot that its features look at."""
        return self.layout.reach_days

    def build(self, history: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """Return `keys` with the feature columns added (float32, NaN where the past is unknown)."""
        past = _clean(history)
        place, past_place = _codes(keys["place_id"], past["place_id"])
        local, column, newest = self._locate(keys["timestamp"].to_numpy())
        slots = self.grid.floor(past["timestamp"].to_numpy())
        index, first = self._cells(slots)
        past_place, index = past_place[first], index[first]
        units = to_units(past["actual"].to_numpy())[first]
        past_place, index, units = _latest(past_place, index, units)
        origin = int(index.min()) if index.size else 0
        columns = int(index.max()) - origin + 1 if index.size else 1
        pool = Lookback(1, columns)
        pool.put_many(np.int64(0), *_pooled(index - origin, units))
        out = np.empty((len(self._names), keys.height), dtype=np.float32)
        order = np.argsort(place, kind="stable")
        places = int(place.max(initial=-1)) + 1
        block = max(min(_CELLS // columns, places), 1)
        for begin in range(0, places, block):
            table = Lookback(block, columns)
            inside = slice(*np.searchsorted(past_place, (begin, begin + block)))
            table.put_many(past_place[inside] - begin, index[inside] - origin, units[inside])
            low, high = np.searchsorted(place[order], (begin, begin + block))
            for start in range(low, high, _KEYS):
                part = order[start : min(start + _KEYS, high)]
                wanted = Keys(local[part], column[part] - origin, newest[part] - origin)
                out[:, part] = demand_rows(table, place[part] - begin, pool, wanted, self.layout).T
        return keys.with_columns([pl.Series(name, values) for name, values in zip(self._names, out, strict=True)])

    def observe(self, place_id: Place, timestamp: float, actual: float) -> None:
        """Take in one actual; a second one for the same slot replaces the first, one that is not finite is passed over."""
        value = float(actual)
        if not np.isfinite(value):
            return
        index, first = self._cell(timestamp)
        if first:
            self._live.put(_key(place_id), index, int(to_units(value)))

    def observe_many(self, history: pl.DataFrame) -> None:
        """Take in a history (``place_id``, ``timestamp``, ``actual``), as at the start of a process; only its end is kept."""
        past = _clean(history)
        if past.height == 0:
            return
        index, first = self._cells(self.grid.floor(past["timestamp"].to_numpy()))
        first &= index > int(index.max()) - self.layout.reach_days * self.layout.day
        kept, index = past.filter(pl.Series(first)), index[first]
        units = to_units(kept["actual"].to_numpy())
        codes, _ = _codes(kept["place_id"], kept["place_id"])
        codes, index, units = _latest(codes, index, units)
        names = [_key(place_id) for place_id in kept["place_id"].unique().sort().to_list()]
        self._live.put_many(names, codes, index, units)

    def row(self, place_id: Place, timestamp: float) -> NDArray[np.float32]:
        """Feature row, shape (F,), from what was observed so far."""
        (only,) = self.rows([place_id], [timestamp])
        return cast("NDArray[np.float32]", only)

    def rows(self, place_ids: Sequence[Place], timestamps: Sequence[float]) -> NDArray[np.float32]:
        """Feature rows, shape (n, F), from what was observed so far."""
        local, column, newest = self._locate(np.asarray(timestamps, dtype=np.float64))
        live = self._live
        keys = Keys(local, column - live.origin, newest - live.origin)
        return demand_rows(live.places, live.codes(place_ids), live.pool, keys, self.layout)

    def _cells(self, slots: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Absolute column of each slot, and whether it is the one that counts: of a repeated hour the first pass does."""
        local = self.grid.local(slots)
        index = local // self.grid.step
        return index, self.grid.epoch(index * self.grid.step) == slots

    def _cell(self, timestamp: float) -> tuple[int, bool]:
        known = self._slots.get(timestamp)
        if known is None:
            if len(self._slots) > 4096:
                self._slots.clear()
            index, first = self._cells(self.grid.floor([timestamp]))
            known = self._slots[timestamp] = (int(index[0]), bool(first[0]))
        return known

    def _locate(self, timestamps: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
        slots = self.grid.floor(timestamps)
        local = self.grid.local(slots)
        newest = self.grid.local(slots - self.layout.horizon) // self.grid.step
        return local, local // self.grid.step, newest


class _Live:
    """The newest part of the tables, filled value by value."""

    def __init__(self, layout: Layout) -> None:
        self._keep = (layout.reach_days + -(-layout.horizon // DAY)) * layout.day
        self._columns = self._keep + max(self._keep // 4, 8)
        self._code: dict[tuple[type, Place], int] = {}
        self.origin = 0
        # one row more than places: the last stays unknown and answers for places nobody has seen
        self.places = Lookback(8, self._columns)
        self.pool = Lookback(1, self._columns)
        self._totals = np.zeros(self._columns, dtype=np.int64)
        self._present = np.zeros(self._columns, dtype=np.int64)
        # values far ahead of all others, by place and slot
        self._aside: dict[tuple[tuple[type, Place], int], int] = {}

    def codes(self, place_ids: Sequence[Place]) -> Ints:
        """Row of each place."""
        stranger = self.places.rows - 1
        return np.array([self._code.get(_key(place), stranger) for place in place_ids], dtype=np.int64)

    def put(self, key: tuple[type, Place], index: int, units: int) -> None:
        """Set one cell; what is older than the tables reach back is passed over."""
        if not self._code:
            self.origin = index - self._keep
        if index - self.origin >= self._columns + self._keep:
            for (other, ahead), value in self._borne_out(key, index, units).items():
                self._set(other, ahead, value)
        else:
            self._set(key, index, units)

    def _borne_out(self, key: tuple[type, Place], index: int, units: int) -> dict[tuple[tuple[type, Place], int], int]:
        """Hold a leap ahead back until a second slot lands there: after a long pause one does, after a wrong clock none."""
        self._aside = {held: value for held, value in self._aside.items() if abs(held[1] - index) <= self._keep}
        self._aside[key, index] = units
        if len({ahead for _, ahead in self._aside}) < 2:
            return {}
        landed, self._aside = self._aside, {}
        return landed

    def _set(self, key: tuple[type, Place], index: int, units: int) -> None:
        column = index - self.origin
        if column >= self._columns:
            self._forget(column - self._keep)
            column = index - self.origin
        if column < 0:
            return
        row = self._code.setdefault(key, len(self._code))
        if row >= self.places.rows - 1:
            self.places.grow(2 * self.places.rows)
        known = self.places.unit(row, column)
        self.places.put(row, column, units)
        self._totals[column] += units - (known or 0)
        self._present[column] += known is None
        self.pool.put(0, column, int(self._totals[column] // self._present[column]))

    def put_many(self, keys: Sequence[tuple[type, Place]], codes: Ints, index: Ints, units: Ints) -> None:
        """Set cells, sorted by place (`codes` counts into `keys`) and slot; in one go where nothing is known yet."""
        if self._code:
            for code, cell, value in zip(codes.tolist(), index.tolist(), units.tolist(), strict=True):
                self.put(keys[code], cell, value)
            return
        self._code = {key: code for code, key in enumerate(keys)}
        self.places.grow(2 * len(keys))
        self.origin = int(index.max()) - self._keep
        columns = index - self.origin
        inside = columns >= 0
        codes, columns, units = codes[inside], columns[inside], units[inside]
        self.places.put_many(codes, columns, units)
        np.add.at(self._totals, columns, units)
        np.add.at(self._present, columns, 1)
        shared = np.flatnonzero(self._present)
        self.pool.put_many(np.int64(0), shared, self._totals[shared] // self._present[shared])

    def _forget(self, columns: int) -> None:
        self.places.forget(columns)
        self.pool.forget(columns)
        kept = max(self._columns - columns, 0)
        for table in (self._totals, self._present):
            table[:kept] = table[self._columns - kept :].copy()
            table[kept:] = 0
        self.origin += columns


def seasonal_naive(history: pl.DataFrame, keys: pl.DataFrame, grid: TimeGrid, season: int) -> NDArray[np.float64]:
    """Forecast each key by the actual of the same place and wall-clock slot one season before, two as fallback.

    Parameters
    ----------
    history
        Columns ``place_id``, ``timestamp`` (epoch seconds), ``actual``.
    keys
        Columns ``place_id`` and ``timestamp`` (epoch seconds).
    grid
        Zone and step.
    season
        Seconds of one season; one week unless configured.

    Returns
    -------
    numpy.ndarray
        One forecast per key, shape (n,); NaN where neither actual is known.
    """
    past = _clean(history)
    wanted, known = _codes(keys["place_id"], past["place_id"])
    table = pl.DataFrame(
        {"place": known, "slot": grid.floor(past["timestamp"].to_numpy()), "value": past["actual"].to_numpy()},
        schema={"place": pl.Int64, "slot": pl.Int64, "value": pl.Float64},
    ).unique(["place", "slot"], keep="last", maintain_order=True)
    slots = grid.floor(keys["timestamp"].to_numpy())
    found = []
    for seasons in (1, 2):
        before = grid.shift(slots, -seasons * season)
        asked = pl.DataFrame({"place": wanted, "slot": before}, schema={"place": pl.Int64, "slot": pl.Int64})
        found.append(asked.join(table, on=["place", "slot"], how="left", maintain_order="left")["value"])
    return found[0].fill_null(found[1]).fill_null(float("nan")).to_numpy().astype(np.float64)


def load_builder(config: Config, root: str | Path = ".") -> FeatureBuilder:
    """Return the builder that ``features = "module:object"`` names, or the built-in one.

    The module is searched in `root` first. The object may be a builder, or a class or function that is called with the
    configuration and returns one.

    Raises
    ------
    ConfigError
        The name cannot be imported, or what it names is no builder.
    """
    if not config.features:
        grid = TimeGrid(config.zone, config.step_seconds)
        return DemandFeatures(grid, config.horizon_seconds, config.holidays)
    found = _imported(config.features, Path(root))
    builder = found if isinstance(found, FeatureBuilder) and not isinstance(found, type) else _called(found, config)
    if not isinstance(builder, FeatureBuilder):
        raise ConfigError(
            f"`features` names {config.features!r}, which is no feature builder: it needs `names` and `build(history, keys)`."
        )
    return builder


def _imported(name: str, root: Path) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"`features` is {name!r}. Write \"module:object\", as in 'my_features:builder'.")
    folder = str(root.resolve())
    sys.path.insert(0, folder)
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # somebody's module may fail in any way
        raise ConfigError(
            f"`features` names {name!r}, which cannot be imported: {error}. The module is searched in {folder} and on sys.path."
        ) from error
    finally:
        sys.path.remove(folder)
    return found


def _called(found: Any, config: Config) -> Any:
    try:
        return found(config)
    except Exception as error:  # somebody's factory may fail in any way
        raise ConfigError(f"`features` names {config.features!r}, and calling it failed: {error}.") from error


def _days(holidays: Iterable[str | date]) -> Ints:
    try:
        days = [np.datetime64(str(holiday), "D") for holiday in holidays]
    except ValueError as error:
        raise ConfigError(f"`holidays` holds something that is no date: {error}. Write '2013-07-04'.") from error
    return np.unique(np.array(days, dtype="datetime64[D]").astype(np.int64))


def _key(place_id: Place) -> tuple[type, Place]:
    plain = place_id.item() if isinstance(place_id, np.generic) else place_id
    return (type(plain), plain)


def _clean(history: pl.DataFrame) -> pl.DataFrame:
    return history.select("place_id", "timestamp", pl.col("actual").cast(pl.Float64)).filter(
        pl.col("actual").is_finite().fill_null(value=False)
    )


def _codes(wanted: pl.Series, known: pl.Series) -> tuple[Ints, Ints]:
    """One numbering, sorted by place, for the places of both."""
    if wanted.dtype != known.dtype:
        numeric = wanted.dtype.is_integer() and known.dtype.is_integer()
        kind = pl.Int64() if numeric else pl.String()
        wanted, known = wanted.cast(kind), known.cast(kind)
    both = pl.concat([wanted.alias("place"), known.alias("place")])
    codes = both.rank("dense").to_numpy().astype(np.int64) - 1
    return codes[: len(wanted)], codes[len(wanted) :]


def _latest(place: Ints, index: Ints, units: Ints) -> tuple[Ints, Ints, Ints]:
    """Sort by place and slot; of several values for one cell keep the one given last."""
    order = np.lexsort((index, place))
    place, index, units = place[order], index[order], units[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (np.diff(place) != 0) | (np.diff(index) != 0)
    return place[last], index[last], units[last]


def _pooled(columns: Ints, units: Ints) -> tuple[Ints, Ints]:
    """Columns that any place knows, and the mean of the places there, in whole millionths."""
    frame = pl.DataFrame({"column": columns, "units": units}, schema={"column": pl.Int64, "units": pl.Int64})
    sums = frame.group_by("column").agg(pl.col("units").sum(), pl.len().alias("n"))
    return cast("Ints", sums["column"].to_numpy()), cast("Ints", sums["units"].to_numpy() // sums["n"].to_numpy())
