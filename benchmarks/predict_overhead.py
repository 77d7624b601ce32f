"""What predicting through the handle costs over CatBoost's own predict: ``python -m benchmarks.predict_overhead [--json]``.

CatBoost's own predict is called with one thread, as the handle does for live batches. Everything is measured interleaved in one
process, in processor time of the calling thread, so a busy machine slows both sides alike; each figure is a median. The seasonal
naive is the monitor's own, over a hundred places; what journalling adds stands in a line of its own. Targets:
serve="champion" within 5 us of CatBoost's own predict for one row and 1.1x for 1 000; one extra tree member at most 1.3x
CatBoost's own predict at 1 000 rows; the rest of the mixture at most 2 us a row there and 30 us for a single row.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.fitted import FEATURES, MemoryRegistry, fitted_model, rows
from demand_maint.config import Config, ServingConfig
from demand_maint.core.lineup import LineUp
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

PLACES = tuple(f"venue-{number}" for number in range(100))
SLOT = 1_700_006_400.0


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, repeat: int) -> dict[str, NDArray[np.float64]]:
    """Processor seconds per call of each in every round, taking turns so that all see the same machine."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.thread_time_ns()
            for _ in range(repeat):
                call()
            found[name].append((time.thread_time_ns() - begin) / repeat / 1e9)
    return {name: np.array(values) for name, values in found.items()}


def handle_with(
    registry: MemoryRegistry, serve: str, members: int, monitor: ModelMonitor, *, journal: bool = False
) -> ModelHandle:
    """Make a handle whose snapshot, in mixture mode, has `members` models, each also calibrated, and the naive."""
    config = Config(serving=ServingConfig(serve="mixture" if serve == "mixture" else "champion"))
    handle = ModelHandle(
        registry,
        config=config,
        clock=VirtualClock(SLOT),
        naive=monitor.naive,
        journal=monitor.journal if journal else None,
    )
    handle.refresh()
    if serve == "mixture":
        versions = tuple(range(1, members + 1))
        sitting = (*(Member(v, calibrated) for v in versions for calibrated in (False, True)), Member(0))
        weights = np.full((len(PLACES) + 1, len(sitting)), 1 / len(sitting), dtype=np.float32)
        levels = np.full((len(PLACES) + 1, members + 1), 1.05, dtype=np.float32)
        handle.adopt(ServingSnapshot(1, SLOT, (*versions, 0), sitting, PLACES, weights, levels))
    return handle


def fill(monitor: ModelMonitor) -> None:
    """Two weeks of truth for every place, and the naive ready."""
    slots = SLOT - 3600.0 * np.arange(14 * 24)
    hours = len(slots)
    monitor.log_many(
        pl.DataFrame(
            {
                "place_id": np.repeat(PLACES, hours),
                "timestamp": np.tile(slots, len(PLACES)),
                "predicted": np.full(hours * len(PLACES), 50.0),
                "actual": np.full(hours * len(PLACES), 55.0),
            }
        )
    )
    monitor.drain()
    monitor.warm()


def measure(rounds: int) -> dict[str, Any]:
    """Every figure, seconds where not said otherwise."""
    with (
        tempfile.TemporaryDirectory() as root,
        ModelMonitor(root, clock=VirtualClock(SLOT), background=False) as monitor,
    ):
        fill(monitor)
        return _measure(rounds, monitor)


def _measure(rounds: int, monitor: ModelMonitor) -> dict[str, Any]:
    first, second = fitted_model(seed=1), fitted_model(seed=2)
    own, single, many = first.model, rows(1), rows(1000)
    champion = handle_with(MemoryRegistry({1: first}), "champion", 1, monitor)
    one_member = handle_with(MemoryRegistry({1: first}), "mixture", 1, monitor)
    two_members = handle_with(MemoryRegistry({1: first, 2: second}, line_up=(2,)), "mixture", 2, monitor)
    journalled = handle_with(MemoryRegistry({1: first}), "mixture", 1, monitor, journal=True)
    row = dict(zip(FEATURES, single[0].tolist(), strict=True))
    places, stamps = [PLACES[i % len(PLACES)] for i in range(1000)], np.full(1000, SLOT)
    one = interleaved(
        {
            "catboost": lambda: own.predict(single[0], thread_count=1),
            "champion_array": lambda: champion.predict(single),
            "champion_dict": lambda: champion.predict(row),
            "mixture": lambda: one_member.predict(row, PLACES[0], SLOT),
            "journalled": lambda: journalled.predict(row, PLACES[0], SLOT),
        },
        rounds,
        20,
    )
    thousand = interleaved(
        {
            "catboost": lambda: own.predict(many, thread_count=1),
            "champion_array": lambda: champion.predict(many),
            "mixture_1": lambda: one_member.predict(many, places, stamps),
            "mixture_2": lambda: two_members.predict(many, places, stamps),
            "journalled": lambda: journalled.predict(many, places, stamps),
        },
        rounds,
        2,
    )
    own_one, own_many = one["catboost"], thousand["catboost"]
    return {
        "one row: CatBoost's own, us": _middle(own_one * 1e6),
        "one row: champion over it, array, us (target 5)": _middle((one["champion_array"] - own_one) * 1e6),
        "one row: champion over it, dict, us (target 5)": _middle((one["champion_dict"] - own_one) * 1e6),
        "one row: rest of the mixture, us (target 30)": _middle((one["mixture"] - one["champion_dict"]) * 1e6),
        "one row: journalling on top, us": _middle((one["journalled"] - one["mixture"]) * 1e6),
        "1000 rows: CatBoost's own, us": _middle(own_many * 1e6),
        "1000 rows: champion, x (target 1.1)": _middle(thousand["champion_array"] / own_many),
        "1000 rows: one extra member, x of CatBoost's own (target 1.3)": _middle(
            (thousand["mixture_2"] - thousand["mixture_1"]) / own_many
        ),
        "1000 rows: rest of the mixture, us a row (target 2)": _middle(
            (thousand["mixture_1"] - thousand["champion_array"]) * 1e6 / 1000
        ),
        "1000 rows: journalling on top, us a row": _middle(
            (thousand["journalled"] - thousand["mixture_1"]) * 1e6 / 1000
        ),
    }


def _middle(values: NDArray[np.float64]) -> float:
    """Median over the rounds, of differences and ratios taken within each."""
    return float(np.median(values))


def snapshot_cost(places: int = 1000) -> float:
    """Seconds to make a snapshot of a full line-up over `places` places."""
    line_up = LineUp(TimeGrid("UTC", 3600))
    names = list(range(places))
    line_up.seat([1, 2, 3], {}, at=SLOT, places=names)
    begin = time.perf_counter()
    line_up.snapshot(SLOT, names)
    return time.perf_counter() - begin


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    found["snapshot of 1000 places, ms"] = snapshot_cost() * 1e3
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:68s} {value:10.3f}")


if __name__ == "__main__":
    main()
