"""The history a replay lives through: rows in slot order, their features and naive forecasts, all built once.

Features of a row use only truth of at least one horizon before it, so building them for all rows beforehand gives what a live
collector would have had at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._training.loading import Regressor, load_model
from demand_maint.config import Config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import InsufficientDataError
from demand_maint.features import load_builder, seasonal_naive

__all__ = ["AheadModel", "AheadModels", "ReplayTable", "place_codes", "table_of"]

DAY = 86400
KEYS = ("place_id", "timestamp", "actual")
AHEAD_DAYS = 7
KEPT_MODELS = 12  # more than ever sit in a line-up

Floats = NDArray[np.float64]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReplayTable:
    """A history, cut where the replay begins.

    Attributes
    ----------
    before
        ``place_id``, ``timestamp`` (slot, epoch seconds), ``actual`` of everything before the replay; further columns are features.
    names
        Features, in the order of the columns of `features`.
    place, slot, actual, naive
        Of the n rows that are replayed, by slot.
    features
        (n, F) float32 in Fortran order.
    start, end
        First replayed moment, and the moment the last slot is over, epoch seconds.
    own_features
        Features came with the file instead of from a builder.
    """

    before: pl.DataFrame
    names: tuple[str, ...]
    place: list[Any]
    slot: NDArray[np.int64]
    actual: Floats
    naive: Floats
    features: Values
    start: float
    end: float
    own_features: bool

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def places(self) -> int:
        """How many places are replayed."""
        return len(set(self.place))


def table_of(
    frame: pl.DataFrame,
    config: Config,
    *,
    train_until: float,
    until: float | None = None,
    root: str | Path = ".",
) -> ReplayTable:
    """Build the table of `frame` (``place_id``, ``timestamp`` in epoch seconds, ``actual``, feature columns if any).

    Parameters
    ----------
    train_until
        First replayed moment; rows before it train the first champion.
    until
        Rows from here on are left out.
    root
        Where a module of the user's own that ``features`` names is searched first.

    Raises
    ------
    InsufficientDataError
        Too little before or after the cut.
    """
    grid = TimeGrid(config.zone, config.step_seconds)
    frame = _on_grid(frame, grid, until)
    if config.missing_actual == "zero":
        frame = _zero_filled(frame, config.step_seconds)
    own = tuple(name for name in frame.columns if name not in KEYS)
    first = int(np.searchsorted(frame["timestamp"].to_numpy(), train_until, side="left"))
    if first < config.policy.min_samples:
        raise InsufficientDataError(
            first,
            config.policy.min_samples,
            "the first champion",
            "Choose a later --train-until: everything before it trains the first champion.",
        )
    if first == len(frame):
        raise InsufficientDataError(0, 1, "a replay", "Choose an earlier --train-until: nothing is left to replay.")
    truth = frame.select(KEYS)
    keys = truth.select("place_id", "timestamp")[first:]
    naive = seasonal_naive(truth, keys, grid, config.season_seconds)
    if own:
        names, built = own, frame[first:]
    else:
        builder = load_builder(config, root)
        names, built = tuple(builder.names), builder.build(truth, keys)
    features = np.empty((len(keys), len(names)), dtype=np.float32, order="F")
    for index, name in enumerate(names):
        features[:, index] = built[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    slot = keys["timestamp"].to_numpy().astype(np.int64)
    return ReplayTable(
        before=frame[:first],
        names=names,
        place=keys["place_id"].to_list(),
        slot=slot,
        actual=truth["actual"][first:].to_numpy().astype(np.float64),
        naive=np.asarray(naive, dtype=np.float64),
        features=features,
        start=train_until,
        end=float(slot[-1] + config.step_seconds),
        own_features=bool(own),
    )


def _on_grid(frame: pl.DataFrame, grid: TimeGrid, until: float | None) -> pl.DataFrame:
    slots = grid.floor(frame["timestamp"].cast(pl.Float64).to_numpy()).astype(np.float64)
    frame = frame.with_columns(timestamp=pl.Series(slots)).filter(pl.col("actual").is_finite())
    if until is not None:
        frame = frame.filter(pl.col("timestamp") < until)
    return frame.unique(["place_id", "timestamp"], keep="last", maintain_order=True).sort("timestamp", "place_id")


def _zero_filled(frame: pl.DataFrame, step: int) -> pl.DataFrame:
    """Give every place a row for every slot between its first and the last of the file: an event that did not happen is a zero."""
    last = frame["timestamp"].max()
    spans = frame.group_by("place_id", maintain_order=True).agg(first=pl.col("timestamp").min().cast(pl.Int64))
    filled = spans.select(
        "place_id",
        timestamp=pl.int_ranges("first", int(last) + step, step).cast(pl.List(pl.Float64)),  # type: ignore[arg-type]  # a number: the column is Float64
    ).explode("timestamp")
    return (
        filled.join(frame, on=["place_id", "timestamp"], how="left")
        .with_columns(pl.col("actual").fill_null(0.0))
        .sort("timestamp", "place_id")
    )


@dataclass(slots=True)
class AheadModels:
    """Loads models that predict the table's rows a week at a time and hand them out row range by row range.

    One call of CatBoost costs as much as a hundred rows, and a replay asks 24 times a day. The loop says with `at` which
    rows it asks for; anything else (an explanation, a gate) goes to the model itself.

    Attributes
    ----------
    newest
        Models loaded last, by the sha256 of their bytes.
    """

    table: ReplayTable
    at: tuple[int, int] = (0, 0)
    newest: dict[str | None, "AheadModel"] = field(default_factory=dict)

    def load(self, data: bytes, *, sha256: str | None = None) -> "AheadModel":
        """Return a model of verified bytes; stands in for `load_model` in a `ModelHandle`."""
        found = self.newest.get(sha256)
        if found is None or sha256 is None:
            found = self.newest[sha256] = AheadModel(load_model(data, sha256=sha256), self)
        while len(self.newest) > KEPT_MODELS:
            del self.newest[next(iter(self.newest))]
        return found


class AheadModel:
    """A `Regressor` over the rows of a table."""

    __slots__ = ("_done", "_model", "_owner", "_values")

    def __init__(self, model: Regressor, owner: AheadModels) -> None:
        self._model, self._owner = model, owner
        self._values: Floats = np.full(len(owner.table), np.nan)
        self._done = np.zeros(len(owner.table), dtype=bool)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Features in the order of the columns."""
        return tuple(self._model.feature_names)

    @property
    def tree_count(self) -> int:
        """Trees in the model."""
        return self._model.tree_count

    def importances(self) -> Any:
        """Return the importance of each feature."""
        return self._model.importances()

    def predict(self, rows: Values) -> Floats:
        """Predict `rows`: out of the table where they are the rows that the loop is at."""
        first, end = self._owner.at
        if len(rows) != end - first or tuple(self._model.feature_names) != self._owner.table.names:
            return self._model.predict(rows)
        return self.rows(first, end)

    def rows(self, first: int, end: int) -> Floats:
        """Predictions of the table's rows from `first` up to `end`."""
        if not self._done[first:end].all():
            table = self._owner.table
            limit = table.slot[min(first, len(table) - 1)] + AHEAD_DAYS * DAY
            ahead = max(end, int(np.searchsorted(table.slot, limit, side="left")))
            begin = first + int(np.argmin(self._done[first:end]))
            self._values[begin:ahead] = self._model.predict(np.asfortranarray(table.features[begin:ahead]))
            self._done[begin:ahead] = True
        return self._values[first:end]


def place_codes(places: Sequence[Any]) -> tuple[list[Any], NDArray[np.intp]]:
    """Distinct places in order of appearance, and the code of each row."""
    codes = {key: code for code, key in enumerate(dict.fromkeys(zip(map(type, places), places, strict=True)))}
    out = np.fromiter(
        map(codes.__getitem__, zip(map(type, places), places, strict=True)), dtype=np.intp, count=len(places)
    )
    return [place for _, place in codes], out
