"""Predictions while models are swapped under them: ``python -m benchmarks.hot_swap [--swaps N] [--json]``.

Four threads predict with real CatBoost models while a fifth swaps. Every prediction has to equal that of exactly one version, to
the last bit, and carry that version's number; the p99 of predict must stay within 1.1x of the same threads without swaps.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fitted import MemoryRegistry, fitted_model, rows
from demand_maint.config import Config, ServingConfig
from demand_maint.model_handle import ModelHandle

__all__ = ["run"]

THREADS = 4
VERSIONS = 3


class Predictor(threading.Thread):
    """Predicts one row again and again, and checks each answer against the version it names."""

    def __init__(self, handle: ModelHandle, row: Any, expected: dict[int, float], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.handle, self.row, self.expected, self.stop = handle, row, expected, stop
        self.times: list[int] = []
        self.mixed = 0
        self.seen: set[int] = set()

    def run(self) -> None:
        """Predict until told to stop."""
        clock = time.perf_counter_ns
        while not self.stop.is_set():
            begin = clock()
            found = self.handle.predict_detailed(self.row)
            self.times.append(clock() - begin)
            self.mixed += int(found.values[0] != self.expected[found.version])
            self.seen.add(found.version)


def phase(
    handle: ModelHandle, row: Any, expected: dict[int, float], swap: Callable[[int], object], swaps: int, seconds: float
) -> list[Predictor]:
    """Let the threads run for `seconds`, with `swaps` calls of `swap` spread over them."""
    stop = threading.Event()
    workers = [Predictor(handle, row, expected, stop) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    end = time.perf_counter() + seconds
    for number in range(swaps):
        swap(number % VERSIONS + 1)
        time.sleep(max((end - time.perf_counter()) / (swaps - number), 0.0))
    time.sleep(max(end - time.perf_counter(), 0.0))
    stop.set()
    for worker in workers:
        worker.join()
    return workers


def run(swaps: int = 1000, seconds: float = 6.0, rounds: int = 4) -> dict[str, Any]:
    """Alternate phases without swaps, with swaps of loaded models, and with a commit read and a model loaded for each swap."""
    registry = MemoryRegistry({version: fitted_model(version, trees=100) for version in range(1, VERSIONS + 1)})
    handle = ModelHandle(registry, config=Config(serving=ServingConfig(serve="champion")))
    row, expected, states = rows(1), {}, {}
    for version in registry.models:
        registry.deploy(version)
        handle.refresh()
        states[version], expected[version] = handle.state, float(handle.predict(row)[0])

    def load_and_swap(version: int) -> None:
        registry.deploy(version)
        handle.refresh()

    ways: dict[str, tuple[Callable[[int], object], int]] = {
        "without swaps": (lambda _version: None, 0),
        "with swaps": (lambda version: handle.swap(states[version]), swaps // rounds),
        "with loads and swaps": (load_and_swap, swaps // rounds // 10),
    }
    times: dict[str, list[int]] = {name: [] for name in ways}
    mixed, seen = 0, set()
    for _ in range(rounds):
        for name, (swap, count) in ways.items():
            for worker in phase(handle, row, expected, swap, count, seconds / rounds / len(ways)):
                times[name] += worker.times
                mixed += worker.mixed
                seen |= worker.seen
    p99 = {name: float(np.percentile(values, 99)) / 1e3 for name, values in times.items()}
    return {
        "swaps": swaps // rounds * rounds,
        "predictions": sum(map(len, times.values())),
        "of no single version": mixed,
        "versions seen": sorted(seen),
        **{f"p99 us {name}": value for name, value in p99.items()},
        "ratio (target 1.1)": p99["with swaps"] / p99["without swaps"],
        "ratio with loads": p99["with loads and swaps"] / p99["without swaps"],
    }


def main() -> None:
    """Print the figures; exit 1 where a prediction was mixed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.swaps, arguments.seconds)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name:28s} {value if not isinstance(value, float) else round(value, 2)}")
    sys.exit(1 if found["of no single version"] else 0)


if __name__ == "__main__":
    main()
