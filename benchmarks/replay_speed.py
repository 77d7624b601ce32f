"""How fast a replay is: decisions alone over a year of twenty places, and what it adds to the bare fits.

    python -m benchmarks.replay_speed [--days 365] [--places 20] [--json]

Targets: decisions alone at most 2 s for 365 days x 20 places hourly; with training at most 25 % over the bare fits, weekly full
retrains on those places and the default policy on the shipped bikes alike; the latter is what the demo lives through.
Figures are processor seconds of the replaying thread, so a busy machine blurs them less.
"""

import argparse
import json
from typing import Any

import msgspec
import polars as pl

from demand_maint.config import Config, TrainingConfig
from demand_maint.core.replay_result import PolicyResult
from demand_maint.demo import SETTINGS, TRAIN_FROM, TRAIN_UNTIL, UNTIL, bikes
from demand_maint.replay import replay
from demand_maint.testing import drifting_stream

START, DAY, TRAINED = 1_704_067_200.0, 86400.0, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--training-days", type=int, default=60, help="length of the replay with weekly retrains")
    parser.add_argument("--until", default=UNTIL, help="where the bikes stop, from 2013-01-01 on")
    parser.add_argument("--only", choices=("decisions", "weekly", "bikes"), help="one of the three")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cases = {
        "decisions": lambda: decisions_alone(arguments.days, arguments.places),
        "weekly": lambda: weekly_retrains(arguments.training_days, arguments.places),
        "bikes": lambda: default_on_bikes(arguments.until),
    }
    chosen = [arguments.only] if arguments.only else list(cases)
    found = {name: cases[name]() for name in chosen}
    if arguments.json:
        print(json.dumps(found))
        return
    for name, facts in found.items():
        print(f"{name}: {_words(facts)}")


def decisions_alone(days: int, places: int) -> dict[str, Any]:
    stream = drifting_stream(places=places, days=TRAINED + days, shift_day=TRAINED + 100, shift=1.5)
    small = Config(training=TrainingConfig(full_iterations=50))
    result = replay(stream, ["default"], train_until=START + TRAINED * DAY, config=small, training=False).policies[0]
    return _facts(result)


def weekly_retrains(days: int, places: int) -> dict[str, Any]:
    stream = drifting_stream(places=places, days=TRAINED + days, shift_day=TRAINED + 100, shift=1.5)
    return _facts(replay(stream, ["full-7d"], train_until=START + TRAINED * DAY, config=Config()).policies[0])


def default_on_bikes(until: str) -> dict[str, Any]:
    settings = dict(line.split(" = ") for line in SETTINGS.splitlines() if " = " in line)
    config = msgspec.convert({name: json.loads(value) for name, value in settings.items()}, Config)
    frame = bikes()
    first = pl.Series([TRAIN_FROM]).str.to_datetime().dt.replace_time_zone(config.zone).dt.epoch("s")[0]
    history = frame.filter(pl.col("timestamp") >= first)
    return _facts(replay(history, ["default"], train_until=TRAIN_UNTIL, until=until, config=config).policies[0])


def _facts(result: PolicyResult) -> dict[str, Any]:
    fits = result.training_cpu_seconds
    return {
        "checks": result.checks,
        "fits": result.attempts,
        "seconds": result.cpu_seconds,
        "fits_seconds": fits,
        "milliseconds_a_check": 1000 * (result.cpu_seconds - fits) / result.checks,
        "overhead": result.cpu_seconds / fits - 1 if fits else None,
    }


def _words(facts: dict[str, Any]) -> str:
    each = f"{facts['milliseconds_a_check']:.1f} ms each"
    if facts["overhead"] is None:
        return f"{facts['seconds']:.1f} s for {facts['checks']} checks ({each}); target 2 s"
    beside = f"{facts['fits']} trainings, {facts['fits_seconds']:.1f} s of fits"
    return f"{beside}; everything else adds {100 * facts['overhead']:.0f} % ({facts['checks']} checks, {each}); target 25 %"


if __name__ == "__main__":
    main()
