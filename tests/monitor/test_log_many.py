"""However a frame's places are laid out and spelled, each row is logged for its own place."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600
MANY = 100_000
TEXTS = [f"harbour {i}" for i in range(40)]

LAYOUTS: dict[str, list[Any]] = {
    "rounds of text": TEXTS * (MANY // 40),
    "rounds, the last one cut off": (TEXTS * (MANY // 40 + 1))[: MANY + 7],
    "one place after the other": [text for text in TEXTS for _ in range(MANY // 40)],
    "all in one but the last row": [*TEXTS * (MANY // 40), "late"],
    "a place hidden in the middle": ["a"] * (MANY // 2) + ["hidden"] + ["a"] * (MANY // 2),
    "a first place that comes back late": ["x", *TEXTS[:3] * 5, "x", *TEXTS[:2] * 9],
    "one row": ["a"],
    "the same place throughout": ["a"] * 1000,
    "rounds of numbers": list(range(-3, 37)) * 50,
    "numbers in no order": [7, 0, 1, 7, 1, 0, -2, 7],
    "numbers far apart": [1, 2**40, 1, 5, 2**40] * 3,
    "with rows that have none": ["a", None, "b", "a", None, "b", "b"],
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_rows_of_a_frame_keep_their_places(tmp_path: Path, layout: str) -> None:
    """A frame's rows come back with the places they had, those without one left out and counted."""
    places = LAYOUTS[layout]
    frame = pl.DataFrame({"place_id": places}).with_row_index("row")
    frame = frame.with_columns(
        timestamp=START + pl.col("row") * 60.0, predicted=pl.col("row") * 1.0, actual=pl.col("row") * 2.0
    )
    clock = VirtualClock(float(START + len(frame) * 60))
    config = Config(step="1m", monitor=MonitorConfig(buffer_days=400))
    with ModelMonitor(tmp_path, config, clock) as monitor:
        assert monitor.log_many(frame.drop("row")) == len(places) - places.count(None)
        found = monitor.records().sort("timestamp")
        assert monitor.counts()["refused"] == (None in places)
    wanted = frame.drop_nulls("place_id")
    assert found["place_id"].to_list() == wanted["place_id"].to_list()
    assert found["actual"].to_list() == wanted["actual"].to_list()


@pytest.mark.parametrize(
    ("kind", "places", "refused"),
    [
        (pl.Int8, [-100, 100, 50, -100, 7], []),
        (pl.UInt8, [3, 255, 0, 255], []),
        (pl.Int64, [(1 << 63) - 1, (1 << 63) - 2, (1 << 63) - 1], []),
        (pl.UInt64, [(1 << 63) + 1, 5, (1 << 63) + 1, 6], [(1 << 63) + 1]),
        (pl.UInt64, [(1 << 63) + 1, 1 << 63, (1 << 63) + 1], [(1 << 63) + 1, 1 << 63]),
    ],
)  # fmt: skip
def test_numbers_of_every_width_are_places(
    tmp_path: Path, kind: pl.DataType, places: list[int], refused: list[int]
) -> None:
    """However wide the column is, a place is the number that stands there; what a place cannot be is refused and the rest kept."""
    stamps = [START + 3600.0 * row for row in range(len(places))]
    frame = pl.DataFrame(
        {"place_id": pl.Series(places, dtype=kind), "timestamp": stamps, "predicted": 1.0, "actual": 2.0}
    )
    kept = [place for place in places if place not in refused]
    with ModelMonitor(tmp_path, Config(), VirtualClock(START + 86400.0)) as monitor:
        assert monitor.log_many(frame) == len(kept)
        assert monitor.records()["place_id"].to_list() == kept
        assert monitor.counts()["refused"] == len(refused)


@pytest.mark.parametrize("begun", [0, 1, 23])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("gentle", [False, True])
def test_rounds_count_as_their_rows_do(tmp_path: Path, begun: int, late: bool, gentle: bool) -> None:
    """Rows that come in rounds of one time each, from the middle of a round on, have the figures they would have one by one."""
    rows = pl.DataFrame({"row": range(40 * 150)}).with_columns(
        place_id="p" + (pl.col("row") % 40).cast(pl.String),
        timestamp=START + (pl.col("row") // 40) * 300.0,
        predicted=pl.col("row") % 7 * 1.0,
        actual=pl.col("row") % 11 * 1.0,
    )[begun:]
    clock = VirtualClock(START + 150 * 300.0)
    with ModelMonitor(tmp_path, Config(step="5m"), clock) as monitor:
        monitor.log_many(rows.select("place_id", "timestamp", "predicted") if late else rows.drop("row"))
        monitor.drain(gentle=gentle)
        if late:
            monitor.log_many(rows.select("place_id", "timestamp", "actual"))
            monitor.drain(gentle=gentle)
        for hour in range(START // 3600, START // 3600 + 13):
            mine = rows.filter(pl.col("timestamp") // 3600 == hour)
            error = mine["predicted"] - mine["actual"]
            found = monitor.sums.window(hour, hour + 1)
            assert (found.n, found.predictions, found.abs_error, found.sq_error, found.abs_actual) == (
                len(mine), len(mine), error.abs().sum(), (error * error).sum(), mine["actual"].sum(),
            )  # fmt: skip
        told = monitor.records().sort("timestamp", "place_id")
        wanted = rows.sort("timestamp", "place_id")
        for column in ("place_id", "predicted", "actual"):
            assert told[column].to_list() == wanted[column].to_list()
