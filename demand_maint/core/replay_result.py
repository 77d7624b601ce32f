"""What a policy would have done: the figures of a replay, and how they are computed from served values and truth."""

from typing import Any

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

__all__ = ["PlaceScore", "PolicyResult", "Scores", "rolling_error", "score", "summary_table"]

Floats = NDArray[np.float64]
WORST = 5
ROLLING_DAYS = 28


class PlaceScore(Struct, frozen=True, kw_only=True):
    """One place's error, and its share of the seasonal naive's on the same rows."""

    place: int | str
    mae: float
    mase: float | None


class Scores(Struct, frozen=True, kw_only=True):
    """Accuracy of what was served.

    Parameters
    ----------
    mae
        Mean absolute error over the `n` rows that were served and whose truth is known, in units of demand.
    mase
        Error over the seasonal naive's on those rows that have one: below 1 is better than repeating last week.
    bias
        Mean of served minus actual.
    """

    n: int
    mae: float | None
    mase: float | None
    bias: float | None
    worst_places: tuple[PlaceScore, ...] = ()


class PolicyResult(Struct, frozen=True, kw_only=True):
    """One policy's life over the history.

    Parameters
    ----------
    training_cpu_seconds, training_wall_seconds
        Spent in fits, every fit counted, the first champion's not (all policies start from the same one).
    attempts
        Trainings begun; of each kind those that came to a challenger, `failed` those that did not (too few rows, say).
    deployed, rejected
        What became of the challengers.
    false_alarms
        Trainings that did not help within 14 days: rejected at once, or no better there than the champion they were to follow.
    wall_seconds, cpu_seconds
        The whole life, fits included.
    complete
        False where the replay was interrupted; `until` (epoch seconds) is how far it came.
    """

    policy: str
    text: str
    n: int
    mae: float | None
    mase: float | None
    bias: float | None
    training_cpu_seconds: float
    training_wall_seconds: float
    fine_tunes: int
    full_retrains: int
    attempts: int
    rejected: int
    rollbacks: int
    false_alarms: int
    deployed: int = 0
    failed: int = 0
    checks: int = 0
    drift_episodes: int = 0
    worst_places: tuple[PlaceScore, ...] = ()
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    complete: bool = True
    until: float | None = None
    root: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return structs.asdict(self) | {"worst_places": [structs.asdict(place) for place in self.worst_places]}


def score(served: Floats, actual: Floats, naive: Floats, place: NDArray[np.intp], names: list[int | str]) -> Scores:
    """Compare what was served (NaN where nothing was) with the truth.

    >>> nan = float("nan")
    >>> values = np.array([10.0, 14.0, nan]), np.array([12.0, 12.0, 9.0]), np.array([nan, 8.0, 9.0])
    >>> found = score(*values, np.array([0, 0, 0]), ["a"])
    >>> found.n, found.mae, found.mase, found.bias
    (2, 2.0, 0.5, 0.0)
    """
    known = np.isfinite(served) & np.isfinite(actual)
    if not known.any():
        return Scores(n=0, mae=None, mase=None, bias=None)
    error = np.where(known, served - actual, 0.0)
    paired = known & np.isfinite(naive)
    own = np.where(paired, np.abs(error), 0.0)
    other = np.where(paired, np.abs(naive - actual), 0.0)
    count = len(names)
    n = np.bincount(place, known, count)
    total = np.bincount(place, np.abs(error), count)
    own_by, other_by = np.bincount(place, own, count), np.bincount(place, other, count)
    places = [
        PlaceScore(
            place=names[code],
            mae=float(total[code] / n[code]),
            mase=float(own_by[code] / other_by[code]) if other_by[code] > 0 else None,
        )
        for code in range(count)
        if n[code] > 0
    ]
    places.sort(key=lambda row: -(row.mase if row.mase is not None else 0.0))
    rows = int(known.sum())
    return Scores(
        n=rows,
        mae=float(np.abs(error).sum() / rows),
        mase=float(own.sum() / other.sum()) if other.sum() > 0 else None,
        bias=float(error.sum() / rows),
        worst_places=tuple(places[:WORST]),
    )


def rolling_error(served: Floats, actual: Floats, day: NDArray[np.int64], days: NDArray[np.int64]) -> Floats:
    """28-day mean of the absolute error at the end of each of `days`, NaN before two weeks are known."""
    known = np.isfinite(served) & np.isfinite(actual)
    position = (day - days[0]).astype(np.intp)
    total = np.bincount(position, np.where(known, np.abs(served - actual), 0.0), len(days))
    count = np.bincount(position, known, len(days))
    total, count = np.cumsum(total), np.cumsum(count)
    back = np.maximum(np.arange(len(days)) - ROLLING_DAYS, -1)
    before_total = np.where(back >= 0, total[back], 0.0)
    before_count = np.where(back >= 0, count[back], 0.0)
    rows = count - before_count
    enough = (np.arange(len(days)) >= ROLLING_DAYS // 2) & (rows > 0)
    error: Floats = np.divide(total - before_total, rows, out=np.full(len(days), np.nan), where=enough)
    return error


def summary_table(results: list[PolicyResult], reference: str = "frozen") -> str:
    """Return the results as a table in plain text, the most accurate first."""
    base = next((result.mae for result in results if result.policy == reference), None)
    ordered = sorted(results, key=lambda result: result.mae if result.mae is not None else float("inf"))
    width = max([len(result.policy) for result in results] + [6])
    some_failed = any(result.failed for result in results)
    head = (
        f"{'policy':<{width}} {'MAE':>9} {'vs ' + reference:>10} {'MASE':>6} {'bias':>8} {'trainings':>9} "
        f"{'failed ' if some_failed else ''}{'rejected':>8} {'rollbacks':>9} {'no gain':>7} {'CPU s':>7}"
    )
    lines = [head, "-" * len(head)]
    for result in ordered:
        against = (
            ""
            if not base or result.mae is None or result.policy == reference
            else f"{100 * (result.mae / base - 1):+.1f} %"
        )
        lines.append(
            f"{result.policy:<{width}} {_figure(result.mae, 2):>9} {against:>10} {_figure(result.mase, 3):>6} {_figure(result.bias, 2):>8} "
            f"{result.attempts:>9} {f'{result.failed:>6} ' if some_failed else ''}{result.rejected:>8} {result.rollbacks:>9} {result.false_alarms:>7} {result.training_cpu_seconds:>7.1f}"
            + ("" if result.complete else "  (interrupted)")
        )
    if any(result.false_alarms for result in results):
        lines.append("no gain: trainings that were rejected at once or did not help within 14 days")
    return "\n".join(lines)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
