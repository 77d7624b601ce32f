"""What one logged prediction costs, beside what a user would pick instead: ``python -m benchmarks.logging_overhead``."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PEERS, MissingPeerError
from benchmarks.timing import ROUNDS, arguments, interleaved, median, percentile, ratio, show
from demand_maint._storage.door import Door
from demand_maint._storage.journal import Journal
from demand_maint.config import MonitorConfig

SURVIVORS = 1_234
FLOOR = "empty method call (floor)"
# fit the segment that was prepared for them, as records fit theirs; a collector makes fewer in the time that preparing one takes
ROWS = 10_000


class Floor:
    """An object with an empty method of four arguments."""

    def log(self, place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        """Do nothing."""


def shared(log: Callable[..., Any]) -> Callable[[int], None]:
    """Make a collection round: text places, one timestamp object for all."""
    now = datetime.now(UTC)
    places = [f"place {i}" for i in range(100)]

    def work(count: int) -> None:
        for _ in range(count // 100):
            for place in places:
                log(place_id=place, timestamp=now, predicted=42.5, actual=38.0)

    return work


def distinct(log: Callable[..., Any]) -> Callable[[int], None]:
    """Every record with its own aware datetime."""
    begin = datetime.now(UTC)
    stamps = [begin + timedelta(seconds=i) for i in range(10_000)]

    def work(count: int) -> None:
        for i in range(count):
            log(place_id="place", timestamp=stamps[i % 10_000], predicted=42.5, actual=38.0)

    return work


def with_features(journal: Journal, features: Any) -> Callable[[int], None]:
    """Make predictions with their feature row."""
    now = datetime.now(UTC)

    def work(count: int) -> None:
        log = journal.log_prediction
        for _ in range(count):
            log("place", now, 42.5, features)

    return work


def tail(log: Callable[..., Any], count: int, care: Callable[[], None]) -> list[int]:
    """Sorted nanoseconds of single calls, with segments rolling over and made durable meanwhile."""
    import threading

    now, clock = datetime.now(UTC), time.perf_counter_ns
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(0.02):
            care()

    keeper = threading.Thread(target=keep)
    keeper.start()
    out = []
    for _ in range(count):
        begin = clock()
        log(place_id="place", timestamp=now, predicted=42.5, actual=38.0)
        out.append(clock() - begin)
    stop.set()
    keeper.join()
    return sorted(out)


def survivors(name: str) -> int | str:
    """Log 1 234 records in a process that then dies of SIGKILL; how many can be read back."""
    with tempfile.TemporaryDirectory() as root:
        code = f"from benchmarks.peers import die_logging; die_logging({name!r}, {root!r}, {SURVIVORS})"
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        if done.returncode != -signal.SIGKILL:
            return done.stderr.strip().splitlines()[-1] if done.stderr else "did not run"
        return PEERS[name].count(Path(root))


def our_rounds(journal: Journal, records: int) -> dict[str, tuple[list[float], list[float]]]:
    """Measure rounds of each way to log, with those of the floor beside them."""
    features = tuple(float(i) for i in range(69))
    as_array = np.array(features, dtype=np.float32)
    flood = f"ours, 69 features as float32, {records:,} at once"
    out: dict[str, tuple[list[float], list[float]]] = {}
    for work, count, rounds, between in (
        (
            {"ours, round with one timestamp": shared(journal.log), "ours, distinct aware datetimes": distinct(journal.log)},
            records, ROUNDS, journal.maintain,
        ),
        (
            {
                "ours, 69 features as tuple": with_features(journal, features),
                "ours, 69 features as list": with_features(journal, list(features)),
                "ours, 69 features as float32": with_features(journal, as_array),
            },
            ROWS, 5 * ROUNDS, journal.maintain,
        ),
        ({flood: with_features(journal, as_array)}, records, ROUNDS, int),
    ):  # fmt: skip
        found = interleaved({FLOOR: shared(Floor().log)} | work, count, rounds, between)
        floor = found.pop(FLOOR)
        out.setdefault(FLOOR, (floor, floor))
        out |= {name: (values, floor) for name, values in found.items()}
    return out


def our_tail(root: Path, count: int) -> list[int]:
    """Sorted nanoseconds of single calls while segments roll over and are made durable."""
    with contextlib.closing(Journal(Door(root), MonitorConfig(segment_records=65_536))) as rolling:
        rolling.log("place", 0, 1.0, 1.0)

        def care() -> None:
            rolling.maintain()
            rolling.sync()

        return tail(rolling.log, count, care)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", records=(100_000, "records per round"), peers=(1, "0 leaves the peers out"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        with contextlib.closing(Journal(Door(Path(root) / "ours"), MonitorConfig(segment_records=1 << 17))) as journal:
            journal.log("warm", 0, 1.0, 1.0)
            found = our_rounds(journal, options.records)
        calls = our_tail(Path(root) / "rolling", 10 * options.records)
        for name, (values, floor) in found.items():
            row: dict[str, Any] = {"what": name, "ns": median(values), "ratio": ratio(values, floor)}
            if name.startswith("ours, round"):
                row |= {
                    "p99 ns": percentile(calls, 0.99),
                    "p99.99 ns": percentile(calls, 0.9999),
                    "max ns": float(calls[-1]),
                }
                row |= {"disk B": 32, "memory B": 39, f"of {SURVIVORS} after kill -9": survivors("ours")}
            rows.append(row)
        if options.peers:
            rows += peer_rows(Path(root), options.records, found[FLOOR][0])
    show("logging_overhead", rows, as_json=options.json)


def peer_rows(root: Path, records: int, floor: list[float]) -> list[dict[str, Any]]:
    """One row per peer, each over as many records as it manages in reasonable time."""
    rows: list[dict[str, Any]] = []
    for name, peer in PEERS.items():
        if name == "ours":
            continue
        directory = root / name.replace(" ", "_").replace("/", "_")
        directory.mkdir()
        try:
            log = peer.open(directory)
        except MissingPeerError as missing:
            rows.append({"what": name, "ns": f"not installed: {missing}"})
            continue
        count = max(records // peer.slowness // 100 * 100, 100)
        found = interleaved({"floor": shared(Floor().log), "peer": shared(log)}, count, 7)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        logged = count * 7 + max(count // 10 // 100 * 100, 0)
        rows.append(
            {
                "what": name,
                "ns": median(found["peer"]),
                "ratio": median(found["peer"]) / median(floor),
                "disk B": round(size / max(logged, 1)),
                f"of {SURVIVORS} after kill -9": survivors(name),
            }
        )
        if hasattr(log, "__self__") and hasattr(log.__self__, "close"):
            log.__self__.close()
    return rows


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
