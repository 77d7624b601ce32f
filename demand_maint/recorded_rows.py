"""Training rows out of what was recorded: the truth, and the features it was predicted from or that a builder makes."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from demand_maint._storage.observation_frames import feature_frame, place_column, truth_frame
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config
from demand_maint.core.key_index import make_keys
from demand_maint.core.thinning import evenly_thinned
from demand_maint.errors import InsufficientDataError, MissingFeaturesError

__all__ = ["Wanted", "training_rows"]

DAY = 86400.0


class Wanted(NamedTuple):
    """Which rows: slots from `start` to before `end` (epoch seconds), and what is known of them.

    Attributes
    ----------
    features
        Those of the champion; empty where there is none.
    excluded
        Stretches in which a place's truth looked wrong: (place code, first hour, end hour).
    least, most
        Fewest rows that are any use; more than `most` are thinned out evenly.
    """

    start: float
    end: float
    features: tuple[str, ...]
    excluded: Iterable[tuple[int, int, int]]
    least: int
    most: int | None


def _without(truth: pl.DataFrame, excluded: Iterable[tuple[int, int, int]], store: ObservationStore) -> pl.DataFrame:
    for code, first, end in excluded:
        place = place_column(store.places, np.array([code]))[0]
        faulty = (
            (pl.col("place_id") == place) & (pl.col("timestamp") >= first * 3600) & (pl.col("timestamp") < end * 3600)
        )
        truth = truth.filter(~faulty)
    return truth


def _require(found: int, needed: int, left_out: int) -> None:
    """Stop where there are too few rows; those that were left out for a fault of the feed are told of.

    Raises
    ------
    InsufficientDataError
        `found` is below `needed`.
    """
    if found < needed:
        faulty = (
            f"{left_out} more were left out, since the truth looked wrong there; `demand-maint status` names the places. "
            "Mend the feed, or set policy.feed_fault_guard = false."
        )
        raise InsufficientDataError(found, needed, remedy=faulty if left_out else None)


def training_rows(store: ObservationStore, wanted: Wanted, config: Config, root: Path) -> pl.DataFrame:
    """Return truth with its features, by time and place: those that were logged win, the rest is built where the builder makes the same.

    Raises
    ------
    InsufficientDataError
        There are fewer than `wanted.least`.
    MissingFeaturesError
        Neither logged features nor a builder tell the features.
    """
    known = truth_frame(store, wanted.start, wanted.end)
    truth = _without(known, wanted.excluded, store)
    left_out = len(known) - len(truth)
    _require(len(truth), wanted.least, left_out)
    truth = truth[evenly_thinned(len(truth), wanted.most, config.training.seed)]
    rows = _with_features(truth, store, wanted, config, root)
    _require(len(rows), wanted.least, left_out)
    return rows.sort("timestamp", "place_id")


def _with_features(
    truth: pl.DataFrame, store: ObservationStore, wanted: Wanted, config: Config, root: Path
) -> pl.DataFrame:
    logged = feature_frame(store, wanted.start, wanted.end)
    columns = [name for name in logged.columns if name != "key"]
    usable = bool(columns) and set(wanted.features) <= set(columns)
    names = list(wanted.features) or columns
    parts: list[pl.DataFrame] = []
    rest = truth
    if usable:
        keyed = truth.with_columns(key=_keys(truth, store))
        with_logged = keyed.join(logged.select("key", *names), on="key", how="inner", maintain_order="left")
        with_logged = with_logged.drop_nulls(names)
        parts.append(with_logged.select("place_id", "timestamp", *names, "actual"))
        rest = keyed.join(with_logged, on="key", how="anti", maintain_order="left").drop("key")
    built = _built(rest, names if usable else list(wanted.features), store, config, root) if len(rest) else None
    if built is not None:
        parts.append(built)
    if not parts:
        raise MissingFeaturesError(
            "Nothing tells the features of the recorded rows. Pass features=... to log_prediction, predict through "
            "ModelHandle, or set `features` in demand_maint.toml to a FeatureBuilder."
        )
    return pl.concat(parts)


def _keys(truth: pl.DataFrame, store: ObservationStore) -> pl.Series:
    """Key of every row, as `feature_frame` has them; joined, not looped over, since a loop would hold the interpreter."""
    codes = np.arange(len(store.places), dtype=np.uint32)
    table = pl.DataFrame({"place_id": place_column(store.places, codes), "code": codes})
    found = truth.select("place_id").join(table, on="place_id", how="left", maintain_order="left")
    return pl.Series(make_keys(found["code"].to_numpy(), truth["timestamp"].to_numpy().astype(np.int64)))


def _built(
    keys: pl.DataFrame, names: list[str], store: ObservationStore, config: Config, root: Path
) -> pl.DataFrame | None:
    """Features that the builder makes for `keys`; ``None`` where it makes others than `names`."""
    from demand_maint.features import load_builder  # noqa: PLC0415 - only training needs it

    builder = load_builder(config, root)
    if names and not set(names) <= set(builder.names):
        return None
    wanted = names or list(builder.names)
    reach = getattr(builder, "reach_days", None)  # the log may be years long, and the keys be those of a month
    begin = None if reach is None else float(keys["timestamp"].min()) - (reach + 1) * DAY  # type: ignore[arg-type]  # a Float64 column's extreme
    rows = builder.build(truth_frame(store, begin, None), keys.select("place_id", "timestamp"))
    rows = rows.join(keys, on=["place_id", "timestamp"], how="inner", maintain_order="left")
    return rows.select("place_id", "timestamp", *(pl.col(name).cast(pl.Float32) for name in wanted), "actual")
