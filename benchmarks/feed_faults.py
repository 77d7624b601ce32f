"""What a broken feed does to weights and levels: ``python -m benchmarks.feed_faults [--kind KIND]``.

Six places live through monitor, handle and line-up, hour by hour, each hour drained, looked at and published. The truth of one of
them breaks for a day and a half, once for each kind of fault. Every published snapshot is compared with that of a twin to whom
what was left out never came, and who suspects nothing: the largest difference of any weight, and of any level.

*Until then*: at the place, from the first faulty hour until the fault is recognised. *Suspended*: at the place, beside what was in
force when its fault began; where values are right and only come late or in part, when it was recognised. *Elsewhere*: at the five
others. *After*: until nine days later, when the season before each forecast is past the fault too.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detector_feeds import FAULTS
from demand_maint.config import Config, PolicyConfig
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

__all__ = ["World", "trace"]

HOUR = 3600.0
START = 1_700_006_400.0 // 86400 * 86400
PLACES = ("broken", "well", "fine", "good", "sound", "whole")
BEFORE, FAULT, AFTER = 24 * 30 + 9, 36, 24 * 9  # hours
Floats = NDArray[np.float64]


class Level:
    """A model that is told the demand and errs by a factor."""

    feature_names = ("demand",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, rows: NDArray[Any]) -> Floats:
        """Predict."""
        return rows[:, 0].astype(np.float64) * self.factor


class TwoVersions:
    """A registry of a champion and its predecessor."""

    def head(self) -> Commit:
        """Return the only commit."""
        entry = LineUpEntry(version=1, role="previous", entered_at=START)
        return Commit(number=1, action="deploy", at=START, champion=2, base=2, line_up=(entry,))

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return FileHashes(str(number), "")

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version: its number."""
        return str(number).encode()


class World:
    """Places that are predicted and known hour by hour.

    Parameters
    ----------
    root
        An empty folder.
    hours
        How long it will live.
    guard
        Whether faults of the feed are looked for.
    """

    def __init__(self, root: Path, hours: int, *, guard: bool = True, seed: int = 7) -> None:
        self.clock, self.hour = VirtualClock(START), 0
        rng = np.random.default_rng(seed)
        wave = 50 + 20 * np.sin(np.arange(hours) / 24 * 2 * np.pi)
        self.foreseen = np.stack([wave * size for size in (1.0, 0.6, 1.5, 0.8, 2.0, 1.2)])
        self.truth = self.foreseen * np.exp(rng.normal(0, 0.1, self.foreseen.shape))
        self.monitor = ModelMonitor(
            root, Config(policy=PolicyConfig(feed_fault_guard=guard)), self.clock, background=False
        )
        models = {b"1": Level(1.03), b"2": Level(0.98)}
        self.handle = ModelHandle(
            TwoVersions(), config=self.monitor.config, clock=self.clock, journal=self.monitor.journal,
            naive=self.monitor.naive, load=lambda data, **_: models[data],
        )  # fmt: skip
        self.handle.refresh()

    def live(self, told: Callable[[int, int], list[tuple[int, float]]]) -> ServingSnapshot:
        """Let an hour pass; `told` says which (hour, actual) of a place arrive at its end. The snapshot in force then."""
        hour = self.hour
        stamps = np.full(len(PLACES), START + HOUR * hour)
        self.handle.predict({"demand": self.foreseen[:, hour]}, PLACES, stamps)
        self.hour += 1
        self.clock.set(START + self.hour * HOUR)
        for code, place in enumerate(PLACES):
            for at, actual in told(code, hour):
                self.monitor.log_actual(place, START + HOUR * at, actual)
        self.monitor.drain()
        self.monitor.watch_feed()
        self.handle.publish(self.monitor.line_up, self.monitor.places, metadata=lambda _: None)  # type: ignore[arg-type, return-value]
        newest = self.monitor.line_up.latest
        assert newest is not None
        return newest


def told_by(world: World, kind: str, values: Floats, before: int) -> Callable[[int, int], list[tuple[int, float]]]:
    """Who tells what: the first place as its broken feed does, the others as it was."""

    def told(code: int, hour: int) -> list[tuple[int, float]]:
        truth = float(world.truth[code, hour])
        if code or kind == "well":
            return [(hour, truth)]
        if kind == "late" and (late := hour - 30) >= 0 and before <= late < before + FAULT:
            return ([(late, float(world.truth[code, late]))] if before <= hour < before + FAULT else
                    [(late, float(world.truth[code, late])), (hour, truth)])  # fmt: skip
        if not before <= hour < before + FAULT:
            return [(hour, truth)]
        if kind == "late":
            return []
        value = float(values[hour - before])
        return [] if np.isnan(value) else [(hour, value)] * (3 if kind == "duplicates" else 1)

    return told


def lived(
    kind: str, before: int, after: int, *, guard: bool, never: frozenset[int] = frozenset()
) -> tuple[list[ServingSnapshot], list[bool], tuple[tuple[int, int], ...]]:
    """Snapshots by hour, whether the first place was suspended then, and the stretches that were left out of its evidence.

    Parameters
    ----------
    never
        Hours whose truth of the first place never comes.
    """
    hours = before + FAULT + after
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), hours, guard=guard)
        span = slice(before, before + FAULT)
        values = FAULTS.get(kind, FAULTS["late"])(world.truth[:1, span], np.random.default_rng(3))[0]
        told = told_by(world, kind, values, before)
        with world.monitor as monitor:
            found, suspended = [], []
            for _ in range(hours):
                found.append(world.live(lambda c, h: [r for r in told(c, h) if c or r[0] not in never]))
                suspended.append(0 in monitor.line_up.suspended)
            return found, suspended, monitor.line_up.left_out.get(0, ())


def apart(one: ServingSnapshot, two: ServingSnapshot, places: slice) -> tuple[float, float]:
    """Largest difference of a weight, and of a level, at some places."""
    weights = float(np.abs(one.weights[places] - two.weights[places]).max(initial=0.0))
    return weights, float(np.abs(one.levels[places] - two.levels[places]).max(initial=0.0))


def trace(kind: str, before: int = BEFORE, after: int = AFTER) -> dict[str, Any]:
    """Compare a life with one kind of fault with its twin's."""
    broken, suspended, left_out = lived(kind, before, after, guard=True)
    hours = frozenset(int((at - START) // HOUR) for first, end in left_out for at in range(first, end, int(HOUR)))
    twin, _, _ = lived(kind, before, after, guard=False, never=hours)
    during = [hour for hour in range(before, len(broken)) if suspended[hour]]
    begun = during[0] if during else None
    place, elsewhere = np.zeros((len(broken), 2)), np.zeros((len(broken), 2))
    in_force = twin[before - 1]
    for hour in range(before, len(broken)):
        if (
            not left_out and not suspended[hour - 1]
        ):  # values that are right go on counting until the place is suspended
            in_force = twin[hour - 1]
        place[hour] = apart(broken[hour], in_force if suspended[hour] else twin[hour], slice(0, 1))
        elsewhere[hour] = apart(broken[hour], twin[hour], slice(1, None))
    until = range(before, begun or before + FAULT)

    def largest(moves: Floats, hours: Sequence[int]) -> list[float]:
        return [float(f"{move:.3g}") for move in moves[hours].max(axis=0, initial=0.0)]

    return {
        "kind": kind,
        "recognised after, h": None if begun is None else begun - before + 1,
        "healthy hours left out": len(hours - set(range(before, before + FAULT))),
        "place, until then": largest(place, until),
        "place, suspended": largest(place, during),
        "elsewhere, during": largest(elsewhere, range(before, before + FAULT)),
        "elsewhere, after": largest(elsewhere, range(before + FAULT, len(broken))),
        "place, after": largest(place, range(max([before + FAULT, *during]) + 1, len(broken))),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(FAULTS))
    arguments = parser.parse_args()
    for kind in arguments.kind or FAULTS:
        print(json.dumps(trace(kind)), flush=True)


if __name__ == "__main__":
    main()
