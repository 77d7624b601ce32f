"""What the examples share: car parks of Birmingham, moved in time so that their history ends now, and a first champion.

In a project of your own this file is one command: ``demand-maint init --history FILE``.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from demand_maint.cli import main as run_command

DATA = Path(__file__).parent / "data" / "birmingham_parking.parquet"
STEP = 1800.0
WEEK = 7 * 86400.0
SETTINGS = """\
step = "30m"
[training]
full_iterations = 60
full_depth = 4
fine_tune_iterations = 20
[runtime]
grace_seconds = 3
[serving]
poll_seconds = 0.2
"""


class CarParks:
    """Occupancy by car park and half hour; after the end of the data each week is like the one before."""

    def __init__(self, now: float, places: int = 5) -> None:
        frame = pl.read_parquet(DATA).with_columns(pl.col("timestamp").dt.epoch("s").cast(pl.Float64))
        busiest = frame.group_by("place_id").agg(pl.len()).sort("len", "place_id", descending=True)["place_id"]
        self.venues: list[str] = sorted(busiest.head(places).to_list())
        weeks = (now - float(frame["timestamp"].max() or 0.0)) // WEEK + 1
        slot = ((pl.col("timestamp") + weeks * WEEK) / STEP).floor() * STEP
        rows = (
            frame.filter(pl.col("place_id").is_in(self.venues))
            .select("place_id", slot.alias("timestamp"), pl.col("actual").cast(pl.Float64))
            .unique(["place_id", "timestamp"], keep="last", maintain_order=True)
        )
        self.history = rows.filter(pl.col("timestamp") < now)
        self._known = {(place, slot): actual for place, slot, actual in rows.iter_rows()}

    def occupancy(self, place: str, at: float) -> float | None:
        """Cars in `place` at `at` (epoch seconds); ``None`` at night, when nobody counts."""
        slot = at // STEP * STEP
        for _ in range(100):
            if (place, slot) in self._known:
                return self._known[place, slot]
            slot -= WEEK
        return None


def make_root(root: Path, now: float | None = None) -> CarParks:
    """Write configuration and history into `root` and train a first champion there, unless that was done before."""
    parks = CarParks(time.time() if now is None else now)
    if not (root / "demand_maint.toml").exists():
        root.mkdir(parents=True, exist_ok=True)
        (root / "demand_maint.toml").write_text(SETTINGS)
        history = parks.history.with_columns(pl.from_epoch("timestamp", "s").dt.replace_time_zone("UTC"))
        history.write_parquet(root / "history.parquet")
        with contextlib.redirect_stdout(sys.stderr):
            code = run_command(["init", "--root", str(root), "--history", str(root / "history.parquet")])
        if code:
            sys.exit(code)
    return parks


def chosen_root(description: str | None) -> Path:
    """Return ``--root`` of the command line, or a new temporary folder."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument(
        "--root", help="a root to use; made and given a first champion where it is new (default: temporary)"
    )
    arguments, _ = parser.parse_known_args()
    return Path(arguments.root or tempfile.mkdtemp(prefix="demand-maint-"))


if __name__ == "__main__":
    made = make_root(Path(sys.argv[1]))
    print(f"{len(made.venues)} car parks, {made.history.height} rows until {datetime.now(UTC):%Y-%m-%d}")
