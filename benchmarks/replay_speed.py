"""How fast a replay is: decisions alone over a year of twenty places, and what it adds to the bare fits.

    python -m benchmarks.replay_speed [--days 365] [--places 20] [--json]

Targets: decisions alone at most 2 s for 365 days x 20 places hourly; with training at most 25 % over the bare fits, weekly full
retrains on those places and the default policy on the shipped bikes alike; the latter is what the demo lives through.
Figures are processor seconds of the whole process, so a busy machine blurs them less and work in other threads counts. A bare fit
is making CatBoost's pools and its own ``fit``, measured within the very replay: the same rows, parameters and thread.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from demand_maint._training import backend
from demand_maint.config import Config, TrainingConfig
from demand_maint.core.replay_result import PolicyResult
from demand_maint.demo import SETTINGS, TRAIN_FROM, TRAIN_UNTIL, UNTIL, bikes
from demand_maint.replay import replay
from demand_maint.replay_life import Life
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
    return _measured(stream, "default", train_until=START + TRAINED * DAY, config=small, training=False)


def weekly_retrains(days: int, places: int) -> dict[str, Any]:
    stream = drifting_stream(places=places, days=TRAINED + days, shift_day=TRAINED + 100, shift=1.5)
    return _measured(stream, "full-7d", train_until=START + TRAINED * DAY, config=Config())


def default_on_bikes(until: str) -> dict[str, Any]:
    settings = dict(line.split(" = ") for line in SETTINGS.splitlines() if " = " in line)
    config = msgspec.convert({name: json.loads(value) for name, value in settings.items()}, Config)
    frame = bikes()
    first = pl.Series([TRAIN_FROM]).str.to_datetime().dt.replace_time_zone(config.zone).dt.epoch("s")[0]
    history = frame.filter(pl.col("timestamp") >= first)
    return _measured(history, "default", train_until=TRAIN_UNTIL, until=until, config=config)


@dataclass
class _Stopwatch:
    life: float = 0.0
    fits: float = 0.0


@contextmanager
def _timed() -> Iterator[_Stopwatch]:
    """Processor seconds of lives, and of CatBoost's fits within them, from arrays in memory to the fitted model."""
    watch = _Stopwatch()
    live, fit = Life.run, backend._fit

    def timed(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                setattr(watch, name, getattr(watch, name) + time.process_time() - began)

        return run

    def lived(life: Life) -> PolicyResult:
        watch.fits = 0.0  # the first champion is every policy's
        return timed(live, "life")(life)  # type: ignore[no-any-return]

    Life.run, backend._fit = lived, timed(fit, "fits")  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        Life.run, backend._fit = live, fit  # type: ignore[method-assign]


def _measured(history: pl.DataFrame, policy: str, **more: Any) -> dict[str, Any]:
    with _timed() as watch:
        result = replay(history, [policy], **more).policies[0]
    return {
        "checks": result.checks,
        "fits": result.attempts,
        "seconds": watch.life,
        "fits_seconds": watch.fits,
        "milliseconds_a_check": 1000 * (watch.life - watch.fits) / result.checks,
        "overhead": watch.life / watch.fits - 1 if watch.fits else None,
    }


def _words(facts: dict[str, Any]) -> str:
    each = f"{facts['milliseconds_a_check']:.1f} ms each"
    if facts["overhead"] is None:
        return f"{facts['seconds']:.1f} s for {facts['checks']} checks ({each}); target 2 s"
    beside = f"{facts['fits']} trainings, {facts['fits_seconds']:.1f} s of bare fits"
    return f"{beside}; everything else adds {100 * facts['overhead']:.0f} % ({facts['checks']} checks, {each}); target 25 %"


if __name__ == "__main__":
    main()
