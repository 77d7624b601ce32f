"""History files: CSV or Parquet of place, time and demand, read strictly, as one clean frame.

What is wrong with a file is said with the row and the column it is in; nothing is guessed. Times that are no ISO text, dates in
local spelling among them, are refused: 03/04/2013 is two different days.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.stamps import EARLIEST, LATEST, place_key, shown, stamp_reader
from demand_maint.config import Config, duration_seconds
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import HistoryFileError

__all__ = ["HistoryNotes", "load_history", "read_history"]

Combine = Literal["last", "sum", "mean"]
KEYS = ("place_id", "timestamp", "actual")
_ISO_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
# a day a place never had is made of nothing; this many made-up rows are a mistake in the file
_MOST_FILLED = 100_000_000
_TAIL_BYTES = 1 << 16
_RECENT_SECONDS = 28 * 86400.0


@dataclass(frozen=True, slots=True)
class HistoryNotes:
    """What reading a file came to, in rows.

    Attributes
    ----------
    read, kept
        Rows of the file, and of the frame.
    missing
        Rows without an actual; left out, or zero where `missing_actual` says so.
    same_slot
        Rows that fell into a slot another row of the place is in.
    filled
        Zeros put into gaps.
    places
        How many places there are.
    since, until
        First and last slot, epoch seconds; ``None`` where nothing is left.
    spacing
        Seconds that rows of one place are apart where they are closest, but for one gap in ten; ``None`` where no place has two.
    rows_a_day
        Rows of all places in a day of the last four weeks.
    """

    read: int
    kept: int
    missing: int
    same_slot: int
    filled: int
    places: int
    since: float | None
    until: float | None
    spacing: float | None = None
    rows_a_day: float = 0.0


def read_history(path: str | Path, **options: Any) -> pl.DataFrame:
    """Read a history; parameters and errors as `load_history`, of which this is the frame alone."""
    return load_history(path, **options)[0]


def load_history(
    path: str | Path,
    *,
    config: Config | None = None,
    columns: Mapping[str, str] | None = None,
    features: Sequence[str] = (),
    zone: str | None = None,
    step: str | int | None = None,
    missing_actual: Literal["unknown", "zero"] | None = None,
    combine: Combine = "last",
) -> tuple[pl.DataFrame, HistoryNotes]:
    """Read a CSV or Parquet file of demand.

    Parameters
    ----------
    path
        ``.csv``, ``.csv.gz``, ``.parquet`` or ``.pq``.
    config
        Where zone, step and `missing_actual` come from unless given.
    columns
        Our names to those of the file, as ``{"actual": "count"}``. A name beyond the three keys is a feature column.
    features
        Further columns to keep, as numbers. Others are left out.
    zone, step
        Zone of naive times; length of a slot, as ``"30m"`` or in seconds.
    missing_actual
        ``"zero"`` also fills every gap between a place's first and last row with zeros, as files of events need it.
    combine
        What rows of one place in one slot become: the last of them in time (a correction, a later reading), their sum (single
        events), or their mean.

    Returns
    -------
    tuple
        A frame sorted by place and time with ``place_id`` (text, or int64 where all are whole numbers), ``timestamp`` (slot,
        epoch seconds, float64), ``actual`` (float64) and the features (float64); and notes on what was done.

    Raises
    ------
    HistoryFileError
        The file cannot be read as that; the message names row and column. Rows count from 1, the heading aside.
    """
    settings = config or Config()
    seconds = settings.step_seconds if step is None else duration_seconds(step) if isinstance(step, str) else step
    grid = TimeGrid(zone or settings.zone, seconds)
    zero = (missing_actual or settings.missing_actual) == "zero"
    reader = _File(Path(path), columns or {}, features)
    stamps = reader.times(grid.zone)
    frame = pl.DataFrame(
        {
            "place_id": reader.places(),
            "timestamp": grid.floor(stamps).astype(np.float64),
            "actual": reader.numbers("actual"),
            **{name: reader.numbers(name) for name in reader.features},
        }
    ).with_columns(pl.Series("_stamp", stamps))
    missing = frame["actual"].null_count()
    frame = frame.with_columns(pl.col("actual").fill_null(0.0)) if zero else frame.drop_nulls("actual")
    found, spacing = frame.height, _spacing(frame)
    frame = _one_per_slot(frame, combine)
    same_slot = found - frame.height
    filled = 0
    if zero:
        before = frame.height
        frame = _filled(frame, grid, reader)
        filled = frame.height - before
    if frame.height == 0:
        raise HistoryFileError(f"{reader.path} holds no row with an actual. Check that the file is the right one.")
    counts = {"read": reader.height, "missing": missing, "same_slot": same_slot, "filled": filled}
    return frame, HistoryNotes(**counts, **_extent(frame, grid), spacing=spacing)


def _extent(frame: pl.DataFrame, grid: TimeGrid) -> dict[str, Any]:
    """Figures of what was kept."""
    slots = frame["timestamp"]
    since, until = float(slots.to_numpy().min()), float(slots.to_numpy().max())
    recent = min(max(until + grid.step - since, grid.step), _RECENT_SECONDS)
    rows_a_day = int((slots >= until + grid.step - recent).sum()) * 86400.0 / recent
    places = frame["place_id"].n_unique()
    return {"kept": frame.height, "places": places, "since": since, "until": until, "rows_a_day": rows_a_day}


def _spacing(frame: pl.DataFrame) -> float | None:
    ordered = frame.sort("place_id", "_stamp")
    gaps = ordered.select(pl.col("_stamp").diff().over("place_id"))["_stamp"].drop_nulls()
    apart = gaps.filter(gaps > 0.0)
    found = apart.quantile(0.1, "nearest")
    return None if found is None else float(found)


class _File:
    """One file and the columns that matter in it."""

    def __init__(self, path: Path, columns: Mapping[str, str], features: Sequence[str]) -> None:
        self.path = path
        self._named = {name: columns.get(name, name) for name in KEYS}
        extra = [name for name in columns if name not in KEYS]
        self._named |= {name: columns.get(name, name) for name in (*extra, *features)}
        self.features = tuple(name for name in self._named if name not in KEYS)
        self._text, self._frame = self._read()
        self.height = self._frame.height
        for name, theirs in self._named.items():
            if theirs not in self._frame.columns:
                remedy = f"Map yours to `{name}`, as in --column {name}=NAME."
                if self._text and len(self._frame.columns) == 1 and ";" in self._frame.columns[0]:
                    remedy = "Write it with commas between the cells instead of semicolons."
                raise HistoryFileError(
                    f"{path} has no column {theirs!r}; it has {', '.join(map(repr, self._frame.columns))}. {remedy}"
                )
        if self.height == 0:
            raise HistoryFileError(f"{path} holds no rows. Check that the file is the right one.")

    def _read(self) -> tuple[bool, pl.DataFrame]:
        if not self.path.is_file():
            raise HistoryFileError(f"{self.path} is no file. Give the path of a CSV or Parquet file.")
        name = self.path.name.lower()
        try:
            if name.endswith((".parquet", ".pq")):
                return False, pl.read_parquet(self.path, memory_map=False)
            if name.endswith((".csv", ".csv.gz")):
                self._refuse_torn()
                # as text throughout: a place called 007 stays one, and a wrong cell can be shown as it stands
                return True, pl.read_csv(self.path, infer_schema=False)
        except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
            raise HistoryFileError(
                f"{self.path} cannot be read: {str(error).splitlines()[0]}. Write it again, as CSV with one heading line or as Parquet."
            ) from error
        raise HistoryFileError(f"{self.path} is neither .csv, .csv.gz, .parquet nor .pq. Convert it to one of these.")

    def _refuse_torn(self) -> None:
        """Stop at a CSV file whose last line was cut off while it was written."""
        if self.path.name.lower().endswith(".gz"):
            return
        with self.path.open("rb") as file:
            heading = file.readline()
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL_BYTES, 0))
            last = file.read().rpartition(b"\n")[2]
        if size > len(heading) and last and last.count(b",") < heading.count(b","):
            raise HistoryFileError(
                f"{self.path} ends in the middle of a line ({shown(last[-60:].decode(errors='replace'))}). Write it again, or remove that line."
            )

    def column(self, name: str) -> pl.Series:
        return self._frame[self._named[name]]

    def wrong(self, name: str, row: int, why: str) -> HistoryFileError:
        """Build the error for the cell of the `row`-th row, counted from 0."""
        value = self.column(name)[row]
        line = f" (line {row + 2})" if self._text else ""
        cell = "is empty" if value is None else f"is {shown(value)}"
        return HistoryFileError(f"{self.path}: row {row + 1}{line}, column {self._named[name]!r} {cell}; {why}")

    def _refuse(self, name: str, bad: pl.Series, why: str) -> None:
        row = bad.fill_null(value=False).arg_true()
        if len(row):
            raise self.wrong(name, int(row[0]), why)

    def places(self) -> pl.Series:
        """Places: whole numbers where every one of them is, text otherwise."""
        values, why = self.column("place_id"), "a place is a whole number or a text."
        self._refuse("place_id", values.is_null(), "every row needs its place.")
        if values.dtype == pl.String or isinstance(values.dtype, pl.Categorical | pl.Enum):
            text = values.cast(pl.String)
            self._refuse("place_id", text.str.strip_chars() == "", "every row needs its place.")
            whole = text.cast(pl.Int64, strict=False)
            canonical = (whole.cast(pl.String) == text).fill_null(value=False).all()
            return whole if self._text and canonical else text
        if values.dtype.is_integer():
            return values.cast(pl.Int64)
        if values.dtype.is_float():
            self._refuse("place_id", values != values.floor(), why)
            return values.cast(pl.Int64)
        if values.dtype == pl.Object:
            return pl.Series("place_id", [str(place_key(value)) for value in values.to_list()])
        raise self.wrong("place_id", 0, why)

    def numbers(self, name: str) -> pl.Series:
        """Return a column of numbers; empty cells and NaN are null."""
        values, why = self.column(name), "a finite number is needed, or an empty cell."
        if values.dtype == pl.String:
            text = values.str.strip_chars()
            values = text.cast(pl.Float64, strict=False)
            self._refuse(name, values.is_null() & (text != ""), why)
        elif values.dtype.is_numeric() or values.dtype == pl.Null:
            values = values.cast(pl.Float64)
        else:
            raise self.wrong(name, 0, why)
        self._refuse(name, values.is_infinite(), why)
        return values.fill_nan(None)

    def times(self, zone: str) -> NDArray[np.float64]:
        """Epoch seconds of the time column."""
        values = self.column("timestamp")
        self._refuse("timestamp", values.is_null(), "every row needs its time.")
        kind = values.dtype
        if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
            seconds = values.dt.epoch("us").to_numpy() / 1e6
        elif isinstance(kind, pl.Datetime | pl.Date):
            seconds = _from_wall(values.cast(pl.Datetime("us")), zone)
        elif kind == pl.String:
            seconds = self._from_text(values.str.strip_chars(), zone)
        elif kind.is_numeric():
            seconds = values.cast(pl.Float64).to_numpy().copy()
        else:
            raise self.wrong("timestamp", 0, "a time is needed.")
        outside = ~((seconds >= EARLIEST) & (seconds <= LATEST))
        hint = " Numbers are seconds since 1970; these look like milliseconds." if kind.is_numeric() else ""
        self._refuse(
            "timestamp",
            pl.Series(outside),
            f"that is no time between 1970 and 2106. Write numbers as seconds since 1970.{hint}",
        )
        return seconds

    def _from_text(self, text: pl.Series, zone: str) -> NDArray[np.float64]:
        wall = pl.Series("wall", [None], dtype=pl.Datetime("us")).new_from_index(0, len(text))
        for spelling in _ISO_FORMATS:
            if not wall.null_count():
                break
            wall = wall.fill_null(text.str.to_datetime(spelling, strict=False, time_unit="us"))
        seconds = np.full(len(text), np.nan)
        plain = wall.is_not_null().to_numpy()
        seconds[plain] = _from_wall(wall.drop_nulls(), zone)
        numeric = text.cast(pl.Float64, strict=False)
        if not plain.any() and not numeric.null_count():
            return numeric.to_numpy().copy()
        read = stamp_reader(zone)
        known: dict[str, float] = {}
        for row in np.flatnonzero(~plain).tolist():
            stamp = text[row]
            if stamp not in known:
                known[stamp] = self._stamp(read, stamp, row)
            seconds[row] = known[stamp]
        return seconds

    def _stamp(self, read: Callable[[Any], float], stamp: str, row: int) -> float:
        try:
            return read(stamp)
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(
                "timestamp", row, "a time is needed as in 2013-01-31 08:30, 2013-01-31T08:30:00+01:00 or 2013-01-31."
            ) from None


def _from_wall(wall: pl.Series, zone: str) -> NDArray[np.float64]:
    """Epoch seconds of naive times in `zone`; of a repeated hour the first."""
    micros = wall.dt.epoch("us").to_numpy()
    whole = micros // 1_000_000
    seconds: NDArray[np.float64] = TimeGrid(zone, 1).epoch(whole) + (micros - whole * 1_000_000) / 1e6
    return seconds


def _one_per_slot(frame: pl.DataFrame, combine: Combine) -> pl.DataFrame:
    frame = frame.sort("place_id", "_stamp", maintain_order=True).drop("_stamp")
    key = ["place_id", "timestamp"]
    if combine == "last":
        return frame.unique(key, keep="last", maintain_order=True)
    whole = pl.col("actual").sum() if combine == "sum" else pl.col("actual").mean()
    return frame.group_by(key, maintain_order=True).agg(whole, pl.exclude("actual").last())


def _filled(frame: pl.DataFrame, grid: TimeGrid, reader: _File) -> pl.DataFrame:
    """Put a zero into every slot between a place's first and last row that has none."""
    spans = frame.group_by("place_id", maintain_order=True).agg(
        pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last")
    )
    wanted = int(((spans["last"] - spans["first"]) / grid.step + 1).sum())
    if wanted > _MOST_FILLED:
        raise HistoryFileError(
            f'{reader.path}: filling every gap with zeros makes {wanted} rows at a step of {grid.step} seconds. Set a longer `step`, or missing_actual = "unknown".'
        )
    made = []
    for place, first, last in spans.iter_rows():
        slots = _slots(grid, int(first), int(last)).astype(np.float64)
        made.append(
            pl.DataFrame({"timestamp": slots}).with_columns(
                pl.lit(place, dtype=spans["place_id"].dtype).alias("place_id")
            )
        )
    every = pl.concat(made)
    return (
        every.join(frame, on=["place_id", "timestamp"], how="left", maintain_order="left")
        .with_columns(pl.col("actual").fill_null(0.0))
        .select(frame.columns)
    )


def _slots(grid: TimeGrid, first: int, last: int) -> NDArray[np.int64]:
    if grid.step <= 3600:
        return np.arange(first, last + 1, grid.step)
    wall = grid.local([first, last])
    return np.unique(grid.epoch(np.arange(wall[0], wall[1] + 1, grid.step)))
