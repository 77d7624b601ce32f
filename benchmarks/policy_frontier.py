"""Error and training cost of maintenance policies: ``python -m benchmarks.policy_frontier [--full] [--stream S] [--json]``.

Lives through shipped demand day by day, forecasting a day ahead, once under each policy. Ours is the library's own rules, cycle,
line-up, calibration and verdicts; a fixed policy is a calendar of full retrains that serve as they are. Every fit counts, those
that only measure too. Fits are kept in a cache (their processor time with them), so a second run is quick.

The short tier takes the car parks; ``--full`` adds two years of bikes, the stationary control, daily retrains on the car parks
and the user's literal policy.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from benchmarks.frontier_fits import Fits
from benchmarks.frontier_life import Life
from benchmarks.frontier_streams import Stream, load_stream
from demand_maint.config import Config, PolicyConfig

__all__ = ["frontier"]

WORST_DAYS = 60


def mae(stream: Stream, forecast: NDArray[Any], first: int | None = None, last: int | None = None) -> float:
    """Mean absolute error over the days lived through, or some of them."""
    rows = stream.rows(first or stream.first_day, last or stream.last_day)
    return float(np.nanmean(np.abs(forecast[rows] - stream.actual[rows])))


def calendar(stream: Stream, fits: Fits, every: int) -> tuple[NDArray[np.float64], float, int]:
    """Forecasts, processor seconds and fits of a full retrain every so many days, the first champion not counted."""
    forecast, cpu, count = np.full(len(stream.slot), np.nan), 0.0, 0
    for day in range(stream.first_day, stream.last_day, every):
        fit = fits.full(day, measured=False)
        if day > stream.first_day:
            cpu, count = cpu + fit.cpu, count + 1
        rows = stream.rows(day, day + every)
        forecast[rows] = fit.raw[rows]
    return forecast, cpu, count


def behind_the_best(life: Life, stream: Stream) -> tuple[float, float, str]:
    """How far behind the best member in hindsight the mixture was over 60 days: on average, at worst, and behind whom then."""
    length, every = min(WORST_DAYS, stream.last_day - stream.first_day), []
    for first in range(stream.first_day, stream.last_day - length + 1, 5):
        errors = {name: mae(stream, values, first, first + length) for name, values in life.members.items()}
        best = min(errors, key=errors.__getitem__)
        every.append((mae(stream, life.served, first, first + length) / errors[best] - 1.0, best))
    return float(np.mean([behind for behind, _ in every])), *max(every)


def policies(config: Config, *, literal: bool) -> dict[str, Config]:
    """Ours, the same without the rule of five fine-tunes, and where asked the user's document with nothing added."""
    found = {
        "ours": config,
        "ours, 5-fine-tunes rule off": structs.replace(
            config, policy=structs.replace(config.policy, max_fine_tunes=None)
        ),
    }
    if literal:
        champion_only = structs.replace(config.serving, serve="champion")
        found["the literal policy"] = structs.replace(config, policy=PolicyConfig.literal(), serving=champion_only)
    return found


def frontier(
    name: str, days: int | None = None, *, full: bool = False, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Every policy on one stream: MAE, processor seconds, and both relative to a full retrain every week."""
    stream = load_stream(name, days)
    fits = Fits(stream, tune_borders=stream.config.training.fine_tune_border_count)
    weekly, weekly_cpu, _ = calendar(stream, fits, 7)
    base = mae(stream, weekly)
    table: dict[str, dict[str, Any]] = {}

    def line(label: str, error: float, cpu: float, **more: Any) -> None:
        table[label] = {"mae": error, "relative": error / base, "cpu": cpu, "cpu_relative": cpu / weekly_cpu} | more
        notes = "  ".join(f"{key} {value}" for key, value in more.items())
        report(f"{name:8s} {label:32s} {error:9.3f} {error / base:7.3f} {cpu:8.1f} {cpu / weekly_cpu:7.3f}  {notes}")

    report(f"{'stream':8s} {'policy':32s} {'MAE':>9s} {'/weekly':>7s} {'CPU s':>8s} {'/weekly':>7s}")
    line("frozen", mae(stream, fits.full(stream.first_day, measured=False).raw), 0.0)
    line("seasonal naive", mae(stream, stream.naive), 0.0)
    for every in (90, 28, 7, 1) if full and name == "parks" else (90, 28, 7):
        forecast, cpu, count = calendar(stream, fits, every)
        line(f"full retrain every {every} d", mae(stream, forecast), cpu, fits=count)
    for label, config in policies(stream.config, literal=full).items():
        life = Life(stream, fits, config).live()
        counts = {key: count for key, count in life.happened.items() if key not in {"no_action", "blocked"}}
        if config.serving.serve == "mixture":
            usual, worst, who = behind_the_best(life, stream)
            line(
                f"{label}: mixture",
                mae(stream, life.served),
                life.cpu,
                days_60=f"{usual:+.3f}",
                worst_60_days=f"{worst:+.3f} of {who}",
                **counts,
            )
            line(f"{label}: champion", mae(stream, life.champion), life.cpu)
        else:
            line(label, mae(stream, life.champion), life.cpu, **counts)
        if label == "ours":
            for member, values in life.members.items():
                line(f"  member: {member}", mae(stream, values), life.cpu)
    return {"stream": name, "days": stream.last_day - stream.first_day, "policies": table}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full",
        action="store_true",
        help="all streams, daily retrains and the literal policy, which retrains nearly daily too (hours)",
    )
    parser.add_argument("--stream", action="append", choices=["bikes", "parks", "control", "tiny"])
    parser.add_argument("--days", type=int, help="live through so many days only")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    streams = arguments.stream or (["bikes", "parks", "control"] if arguments.full else ["parks"])
    quiet: list[str] = []
    report = quiet.append if arguments.json else print
    found = [frontier(name, arguments.days, full=arguments.full, report=report) for name in streams]
    if arguments.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
