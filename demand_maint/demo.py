"""The demo: a year of bike demand in Washington, lived through in virtual time by three policies side by side.

The first champion is trained on 2012 and then meets 2013, when the system kept growing. What is
printed is computed in that run, by the code that would run in production.
"""

import sys
import tempfile
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint.clock import SystemClock
from demand_maint.config import CONFIG_FILE, load_config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import ConfigError, HistoryFileError
from demand_maint.model_manager import HybridModelManager
from demand_maint.replay import ReplayReport, replay
from demand_maint.replay_life import LifeEvent
from demand_maint.replay_words import ProgressLine, event_line
from demand_maint.report import REPORT_FILE, report_html, write_page

__all__ = ["bikes", "run_demo"]

FILE = "dc_bikes_hourly.parquet"
TRAIN_FROM, TRAIN_UNTIL, UNTIL = "2012-01-01", "2013-01-01", "2014-01-01"
POLICIES = ("default", "full-28d", "frozen", "naive")
SETTINGS = """\
# Written by `demand-maint demo`: bike demand in Washington, hourly, forecast one day ahead.
zone = "America/New_York"
step = "1h"
horizon = "1d"
"""


def bikes() -> pl.DataFrame:
    """Rentals per hour of Capital Bikeshare, 2010 to 2019: ``place_id``, ``timestamp`` (epoch seconds), ``actual``.

    Raises
    ------
    HistoryFileError
        The file is neither in the package nor in a source tree around it.
    """
    package = Path(str(resources.files("demand_maint")))
    path = next(
        (p for p in (package / "_data" / FILE, package.parent / "examples" / "data" / FILE) if p.is_file()), None
    )
    if path is None:
        raise HistoryFileError(
            f"{FILE} is missing from this installation. Install the wheel, or run from the source tree."
        )
    frame = pl.read_parquet(path, memory_map=False).select("place_id", "timestamp", pl.col("actual").cast(pl.Float64))
    wall = frame["timestamp"].dt.epoch("s").to_numpy()
    slots = TimeGrid("America/New_York", 3600).epoch(wall).astype(np.float64)
    return frame.with_columns(timestamp=pl.Series(slots)).unique(
        ["place_id", "timestamp"], keep="last", maintain_order=True
    )


def run_demo(
    root: str | Path | None = None,
    *,
    literal: bool = False,
    out: TextIO | None = None,
    jobs: int = 2,
    until: str = UNTIL,
) -> ReplayReport:
    """Run the demo and print it.

    Parameters
    ----------
    root
        Where the default policy's root and the report stay; a new folder where ``None``.
    literal
        Also live by the document's rules to the letter, which trains at nearly every check.
    out
        Where to print; standard output by default.
    jobs
        Policies at the same time.
    until
        Where to stop, before the end of 2013.

    Raises
    ------
    ConfigError
        The root is in use already.
    """
    stream = out if out is not None else sys.stdout
    folder = _empty(root)
    config = load_config(folder)
    clock = SystemClock()
    began = clock.monotonic()
    stream.write(
        f"Bike demand in Washington, hourly, one day ahead. The first champion learns from 2012,\n"
        f"then 2013 passes in virtual time. Root: {folder}\n\n"
    )
    line = ProgressLine(stream, "2013")
    policies = ("literal", *POLICIES) if literal else POLICIES

    def tell(event: LifeEvent) -> None:
        line.line(event_line(event, config.zone))

    first = datetime.fromisoformat(TRAIN_FROM).replace(tzinfo=ZoneInfo(config.zone)).timestamp()
    report = replay(
        bikes().filter(pl.col("timestamp") >= first),
        policies,
        name="Capital Bikeshare, Washington",
        train_until=TRAIN_UNTIL,
        until=until,
        config=config,
        jobs=jobs,
        roots={"default": folder},
        tell=tell,
        progress=line,
        finale=lambda name, manager: line.line(_roll_back(manager)) if name == "default" else None,
    )
    line.close()
    page = write_page(report_html(report.data), folder / REPORT_FILE)
    stream.write(f"\n{report.table()}\n\n{_conclusion(report)}\n")
    stream.write(
        f"\nReport: {page}\nThe root is an ordinary one; try: demand-maint history --root {folder}\n"
        f"Took {clock.monotonic() - began:.0f} s.\n"
    )
    stream.flush()
    return report


def _empty(root: str | Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="demand-maint-demo-")) if root is None else Path(root)
    door = Door(folder)
    if door.listdir("."):
        raise ConfigError(f"{folder} is not empty. Give the demo a new folder, or leave --root out.")
    door.makedirs()
    door.replace(CONFIG_FILE, SETTINGS.encode())
    return folder


def _roll_back(manager: HybridModelManager) -> str:
    """Take the last deployment back, as an operator would; say what came of it."""
    done, sentence = manager.deployer.rollback(who="operator", why="the demo shows that it works")
    return f"\nAn operator rolls back: {'' if done else 'refused: '}{sentence}"


def _conclusion(report: ReplayReport) -> str:
    by_name = {result.policy: result for result in report.policies}
    ours, frozen, naive = by_name["default"], by_name["frozen"], by_name["naive"]
    if ours.mae is None or not frozen.mae or naive.mae is None:
        return "Too little was lived through to compare."
    return (
        f"MAE over {ours.n:,} hours: maintained {ours.mae:.1f}, frozen {frozen.mae:.1f}, seasonal naive {naive.mae:.1f}. "
        f"Maintained is {100 * (1 - ours.mae / frozen.mae):.0f} % below frozen, for {ours.attempts} trainings "
        f"({ours.full_retrains} full, {ours.fine_tunes} fine-tunes) and {ours.training_cpu_seconds:.0f} CPU seconds."
    )
