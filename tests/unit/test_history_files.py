"""History files: what is accepted, what it becomes, and how a refusal reads."""

from csv import writer as csv_writer
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demand_maint._storage.tables import load_history, read_history
from demand_maint.config import Config, PolicyConfig
from demand_maint.core.first_look import first_look
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import HistoryFileError

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
NOON = 1_359_633_600.0  # 2013-01-31 12:00 UTC
_CELLS = st.one_of(
    st.sampled_from(
        [
            "a",
            "7",
            "007",
            "2013-01-31",
            "2013-01-31 12:30",
            "2013-01-31T12:30:00+02:00",
            "1359633600",
            "4.5",
            "-1",
            "",
            "nan",
            "1e400",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12),
)


def csv(folder: Path, *lines: str, heading: str = "place_id,timestamp,actual") -> Path:
    """Write a CSV file."""
    path = folder / "history.csv"
    path.write_text("\n".join((heading, *lines, "")))
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    """Write a Parquet file."""
    path = folder / "history.parquet"
    pl.DataFrame(columns, strict=False).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "stamp",
    [
        "2013-01-31 12:00",
        "2013-01-31T12:00:00",
        "2013-01-31 12:20:59.5",
        "2013-01-31T12:00Z",
        "2013-01-31T14:30:00+02:30",
        "20130131T120000",
        "1359633600",
        "1359634000.25",
    ],
)
def test_every_iso_time_and_epoch_seconds_meet_in_one_slot(tmp_path: Path, stamp: str) -> None:
    """Whatever ISO spelling or epoch number a CSV uses, the key is the start of the slot."""
    frame = read_history(csv(tmp_path, f"a,{stamp},4"))
    assert frame.rows() == [("a", NOON, 4.0)]
    assert frame.schema == {"place_id": pl.String, "timestamp": pl.Float64, "actual": pl.Float64}


@pytest.mark.parametrize(
    "value",
    [
        datetime(2013, 1, 31, 12, tzinfo=UTC),
        datetime(2013, 1, 31, 12, 5).replace(tzinfo=None),  # noqa: DTZ001 - a naive time is the point
        "2013-01-31T12:00",
        1_359_633_600,
        1_359_633_700.5,
    ],
)
def test_parquet_times_of_any_kind(tmp_path: Path, value: Any) -> None:
    """Aware, naive, text, whole and fractional times of a Parquet file are the same slot."""
    frame = read_history(parquet(tmp_path, place_id=[3], timestamp=[value], actual=[1]))
    assert frame.rows() == [(3, NOON, 1.0)]


def test_times_mixed_within_one_column(tmp_path: Path) -> None:
    """A column may mix spellings; each cell is read by itself."""
    frame = read_history(
        csv(tmp_path, "a,2013-01-31 12:00,1", "a,2013-01-31T15:00+02:00,2", "a,2013-01-31,0"), zone="UTC"
    )
    assert frame["timestamp"].to_list() == [NOON - 43200, NOON, NOON + 3600]


def test_naive_times_are_in_the_zone_and_a_repeated_hour_is_its_first(tmp_path: Path) -> None:
    """01:30 on the night the clock goes back is the first of the two; 02:30 in spring moves to 03:30."""
    path = csv(tmp_path, "a,2013-11-03 01:30,1", "a,2013-03-10 02:30,2")
    frame = read_history(path, zone="America/New_York")
    stamps = [datetime.fromtimestamp(t, UTC).isoformat() for t in frame["timestamp"].to_list()]
    assert stamps == ["2013-03-10T07:00:00+00:00", "2013-11-03T05:00:00+00:00"]


def test_daily_and_quarter_hour_steps(tmp_path: Path) -> None:
    """Times are floored to the step in the zone, from minutes to days."""
    path = csv(tmp_path, "a,2016-07-07 08:25:42,1")
    assert read_history(path, zone="Europe/London", step="15m")["timestamp"].to_list() == [1_467_875_700.0]
    assert read_history(path, zone="Europe/London", step="1d")["timestamp"].to_list() == [1_467_846_000.0]
    assert read_history(path, config=Config(zone="Europe/London", step="30m"))["timestamp"].to_list() == [
        1_467_874_800.0
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,2013-01-31 12:00,many", ["row 2", "line 3", "'actual'", "'many'", "finite number"]),
        ("a,2013-01-31 12:00,inf", ["row 2", "'actual'", "'inf'"]),
        ("a,31/01/2013 12:00,4", ["row 2", "line 3", "'timestamp'", "'31/01/2013 12:00'", "2013-01-31"]),
        ("a,,4", ["row 2", "'timestamp'", "is empty"]),
        (",2013-01-31 12:00,4", ["row 2", "'place_id'", "is empty"]),
        ("a,1969-01-31 12:00,4", ["row 2", "'timestamp'", "1970"]),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(tmp_path: Path, line: str, words: list[str]) -> None:
    """The message has the file, the row, the line in an editor, the column, the value and what is needed."""
    path = csv(tmp_path, "a,2013-01-30 12:00,1", line)
    with pytest.raises(HistoryFileError) as caught:
        read_history(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_milliseconds_are_recognised(tmp_path: Path) -> None:
    """Numbers a thousand times too large are refused with the likely reason."""
    with pytest.raises(HistoryFileError, match="milliseconds"):
        read_history(parquet(tmp_path, place_id=["a"], timestamp=[1_359_633_600_000], actual=[1.0]))


@pytest.mark.parametrize("bad", [{"place_id": [True]}, {"place_id": [1.5]}, {"actual": [True]}, {"timestamp": [True]}])
def test_wrong_kinds_of_parquet_columns_are_refused(tmp_path: Path, bad: dict[str, list[Any]]) -> None:
    """A yes/no or fractional place, a yes/no demand or time are no such thing."""
    good: dict[str, list[Any]] = {"place_id": ["a"], "timestamp": ["2013-01-31"], "actual": [1.0]}
    with pytest.raises(HistoryFileError, match=f"row 1, column '{next(iter(bad))}'"):
        read_history(parquet(tmp_path, **(good | bad)))


def test_a_missing_column_names_those_there_and_how_to_map(tmp_path: Path) -> None:
    """Unknown columns are an error that shows what the file has; a mapping mends it."""
    path = csv(tmp_path, "a,2013-01-31 12:00,4", heading="station,when,rentals")
    with pytest.raises(
        HistoryFileError, match=r"no column 'place_id'.*'station', 'when', 'rentals'.*--column place_id=NAME"
    ):
        read_history(path)
    mapped = read_history(path, columns={"place_id": "station", "timestamp": "when", "actual": "rentals"})
    assert mapped.rows() == [("a", NOON, 4.0)]


def test_places_keep_their_kind(tmp_path: Path) -> None:
    """Whole numbers in CSV are int places, anything else makes the column text; 007 stays 007."""
    assert read_history(csv(tmp_path, "12,2013-01-31,1", "7,2013-01-31,1"))["place_id"].to_list() == [7, 12]
    assert read_history(csv(tmp_path, "12,2013-01-31,1", "007,2013-01-31,1"))["place_id"].to_list() == ["007", "12"]
    assert read_history(parquet(tmp_path, place_id=[3.0], timestamp=["2013-01-31"], actual=[1]))[
        "place_id"
    ].to_list() == [3]


def test_rows_of_one_slot_become_one(tmp_path: Path) -> None:
    """Of several readings in a slot the last in time stays; events can be summed, readings averaged."""
    path = csv(tmp_path, "a,2013-01-31 12:40,5", "a,2013-01-31 12:10,1", "a,2013-01-31 12:40,6")
    frame, notes = load_history(path)
    assert frame["actual"].to_list() == [6.0]
    assert (notes.read, notes.kept, notes.same_slot) == (3, 1, 2)
    assert read_history(path, combine="sum")["actual"].to_list() == [12.0]
    assert read_history(path, combine="mean")["actual"].to_list() == [4.0]


def test_gaps_stay_unknown_unless_zero_is_asked_for(tmp_path: Path) -> None:
    """An empty actual is left out by default; as zero, it and every gap inside a place's life are zeros."""
    path = csv(tmp_path, "a,2013-01-31 12:00,5", "a,2013-01-31 13:00,", "a,2013-01-31 15:00,6", "b,2013-01-31 14:00,2")
    frame, notes = load_history(path)
    assert frame.select("place_id", "actual").rows() == [("a", 5.0), ("a", 6.0), ("b", 2.0)]
    assert (notes.missing, notes.filled, notes.places) == (1, 0, 2)
    zeros, notes = load_history(path, missing_actual="zero")
    assert zeros.select("place_id", "actual").rows() == [("a", 5.0), ("a", 0.0), ("a", 0.0), ("a", 6.0), ("b", 2.0)]
    assert notes.filled == 1


def test_zero_filling_knows_days_of_23_and_25_hours(tmp_path: Path) -> None:
    """Daily zeros across a change of the clock are one per local day."""
    path = csv(tmp_path, "a,2013-03-08,1", "a,2013-03-13,1")
    frame = read_history(path, zone="America/New_York", step="1d", missing_actual="zero")
    grid = TimeGrid("America/New_York", 86400)
    assert np.diff(grid.day(frame["timestamp"].to_numpy())).tolist() == [1] * 5


def test_absurd_filling_is_refused(tmp_path: Path) -> None:
    """One stray date does not make a hundred million zeros."""
    path = csv(tmp_path, "a,1971-01-01,1", "a,2100-01-01,1")
    with pytest.raises(HistoryFileError, match="Set a longer `step`"):
        read_history(path, step="10s", missing_actual="zero")


def test_feature_columns_come_along_as_numbers(tmp_path: Path) -> None:
    """Asked-for columns are kept as numbers, others are left out, and a bad cell in them is named."""
    path = csv(tmp_path, "a,2013-01-31,5,1.5,x", heading="place_id,timestamp,actual,rain,note")
    assert read_history(path, features=["rain"]).columns == ["place_id", "timestamp", "actual", "rain"]
    assert read_history(path, columns={"wet": "rain"})["wet"].to_list() == [1.5]
    with pytest.raises(HistoryFileError, match="column 'note' is 'x'"):
        read_history(path, features=["note"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("history.csv", b"", "cannot be read"),
        ("history.csv", b"place_id,timestamp,actual\n", "no rows"),
        ("history.csv", b"place_id,timestamp,actual\na,2013-01-31,1\na,2013-0", "middle of a line"),
        ("history.csv", b"place_id,timestamp,actual\na,2013-01-31,\n", "no row with an actual"),
        ("history.csv", b"place_id,timestamp,actual\na,2013-01-31,1,2,3\n", "cannot be read"),
        ("history.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("history.xlsx", b"PK", "neither"),
    ],
)
def test_files_that_are_no_history(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Empty, torn, damaged and foreign files are refused by name, never half read."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HistoryFileError, match=words):
        read_history(tmp_path / name)


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    """A path that is no file is refused with what to give."""
    with pytest.raises(HistoryFileError, match="is no file"):
        read_history(tmp_path / "absent.csv")


def test_the_shipped_data_reads_as_its_readme_says() -> None:
    """The nine hours of March that no clock showed meet the genuine 03:00; car parks at an hourly step keep the later reading."""
    frame, notes = load_history(DATA / "dc_bikes_hourly.parquet", zone="America/New_York")
    assert (notes.read, notes.same_slot, notes.kept) == (78_421, 9, 78_412)
    march = frame.filter(pl.col("timestamp") == 1_362_898_800.0)  # 2013-03-10 03:00 in Washington
    assert march["actual"].to_list() == [29.0]
    _, parking = load_history(DATA / "birmingham_parking.parquet", zone="Europe/London", step="30m")
    assert (parking.kept, parking.same_slot, parking.places) == (35_202, 0, 28)


@given(cells=st.lists(st.tuples(_CELLS, _CELLS, _CELLS), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cells_are_read_or_refused_in_words(tmp_path: Path, cells: list[tuple[str, str, str]]) -> None:
    """Whatever stands in the cells, the answer is a clean frame or an error that names the file; nothing else escapes."""
    path = tmp_path / "any.csv"
    with path.open("w", newline="") as file:
        csv_writer(file).writerows([("place_id", "timestamp", "actual"), *cells])
    refused: HistoryFileError | None = None
    try:
        frame = read_history(path)
    except HistoryFileError as error:
        refused = error
    if refused is not None:
        assert str(path) in str(refused)
        return
    assert frame.null_count().row(0) == (0, 0, 0)
    assert np.isfinite(frame["actual"].to_numpy()).all()
    assert frame.select("place_id", "timestamp").is_duplicated().sum() == 0
    assert (frame["timestamp"].to_numpy() % 3600 == 0).all()


def test_what_does_not_fit_the_settings_is_said(tmp_path: Path) -> None:
    """Daily rows under an hourly step, five minutes under an hour, and too few rows for the rules; hourly data is fine."""

    def look(minutes: int, places: int, config: Config) -> tuple[str, ...]:
        begin = datetime(2025, 1, 1, tzinfo=UTC)
        path = tmp_path / "history.csv"
        rows = [
            f"p{place},{(begin + timedelta(minutes=minutes * n)).isoformat()},{n}"
            for place in range(places)
            for n in range(40 * 1440 // minutes)
        ]
        path.write_text("\n".join(["place_id,timestamp,actual", *rows]) + "\n")
        notes = load_history(path, config=config)[1]
        return first_look(notes.spacing, notes.rows_a_day, config)

    assert look(60, 2, Config()) == ()
    coarse = look(1440, 2, Config())
    assert coarse[0] == ("Rows of a place are 1d apart, the step is 1h: most slots stay empty. Set the step to 1d.")
    assert "only the last row of a slot counts. Set the step to 5m" in look(5, 1, Config())[0]
    few = look(1440, 3, Config(step="1d"))
    assert "About 21 rows come in 7 days" in few[0]
    assert "About 90 rows come in 30 days" in few[1]
    assert look(1440, 3, Config(step="1d", policy=PolicyConfig(min_samples=20))) == ()
    assert look(1440, 20, Config(missing_actual="zero")) == ()


def test_a_file_with_semicolons_and_one_with_milliseconds_are_told_what_is_wrong(tmp_path: Path) -> None:
    """Both are common; the message names the way out."""
    path = tmp_path / "history.csv"
    path.write_text("place_id;timestamp;actual\na;2025-01-01;3\n")
    with pytest.raises(HistoryFileError, match="commas between the cells instead of semicolons"):
        load_history(path)
    path.write_text("place_id,timestamp,actual\na,1735689600000,3\n")
    with pytest.raises(HistoryFileError, match="Write numbers as seconds since 1970"):
        load_history(path)
