"""Truth that is out of the ordinary, hour by hour: what waits until the feed has told whether it is broken.

A fault of the feed takes hours to be told from demand; what it says until then must not count. So every hour of a place is compared
with the same hours of four weeks before: a level beyond `FACTOR` times all that was usual around that hour, negatives, values that
are no numbers, repeated ones, one value twice in a row. Doubt begins with such an hour and ends when `CALM` hours in a row
were ordinary. It lasts no longer than a fault takes to be recognised: what stays out of the ordinary after that and is no fault is
demand, and counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed import ARRIVAL, LEAST_ROWS, WEEKS, FeedState
from demand_maint.core.view import DAY, HOUR, Floats, MetricsView, PlaceId

__all__ = ["NO_DOUBT", "Doubt", "UsualHours", "doubtful_hours", "doubts", "feed_window"]

FACTOR = 3.0
#: Of a place's typical level: differences below it are no sign of anything.
SLACK = 0.1
CALM = 2
#: Hours in which the fault of an hourly feed is recognised by its values, and `CALM` more.
PATIENCE = 8
#: What more than this part of the hours before showed is usual there.
OFTEN = 0.05

Flags = NDArray[np.bool_]
_SIGNS = ("negatives", "invalid", "duplicates")


class UsualHours:
    """What was usual around the hours of one day and the day before it; made once a day.

    Parameters
    ----------
    view
        The truth.
    first, end
        Hours it is asked of.
    typical
        Median level of each place, (P,).
    """

    __slots__ = ("end", "first", "high", "low", "ordinary")

    def __init__(self, view: MetricsView, first: int, end: int, typical: Floats) -> None:
        self.first, self.end = first, end
        weeks = [view.feed.hours(first - 168 * week - 1, end - 168 * week + 1) for week in range(1, WEEKS + 1)]
        with np.errstate(all="ignore"):
            level = np.array([week["total"] / week["n"] for week in weeks])
            around = np.stack([level[:, :-2], level[:, 1:-1], level[:, 2:]])
            slack = SLACK * typical
            self.high: Floats = FACTOR * (_median(np.fmax.reduce(around)) + slack)
            self.low: Floats = (_median(np.fmin.reduce(around)) - slack) / FACTOR
        seen = np.array([week["n"] > 0 for week in weeks])
        signs = [np.array([_sign(week, name) for week in weeks]) for name in _SIGNS]
        signs.append(np.array([_flat(week) for week in weeks]))
        count = np.maximum(seen.sum(axis=(0, 1)), 1)
        # (signs, P): whether a sign says something there
        self.ordinary: Flags = np.array([sign.sum(axis=(0, 1)) <= OFTEN * count for sign in signs])


def doubtful_hours(view: MetricsView, usual: UsualHours, first: int, end: int) -> tuple[Flags, Flags]:
    """Which hours from `first` until `end` are out of the ordinary, and which hold anything at all; (H, P) each."""
    here = view.feed.hours(first - 1, end)
    n = here["n"]
    places, rows = usual.high.shape[1], slice(first - usual.first, end - usual.first)
    odd = np.zeros(n.shape, dtype=bool)
    odd[1:, :places] = here["total"][1:, :places] > usual.high[rows] * n[1:, :places]
    odd[1:, :places] |= here["total"][1:, :places] < usual.low[rows] * n[1:, :places]
    for position, name in enumerate(_SIGNS):
        sign = _sign(here, name)
        if sign.any():
            sign[:, :places] &= usual.ordinary[position]
            odd |= sign
    flat = _flat(here)
    if flat.any():
        flat[:, :places] &= usual.ordinary[-1]
        odd |= flat
        odd[:-1] |= flat[1:]  # the first of equal values too
    return odd[1:], (n[1:] > 0) | (here["invalid"][1:] > 0)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What of the truth is not to be counted; slots in epoch seconds, places by code.

    Attributes
    ----------
    faults
        Places in fault, and since when.
    wrong
        Those of them whose values are wrong, not only late or few.
    since
        Places that may turn out to be in fault, and since when.
    past
        Place, first and end of each whole day that turned out to be faulty.
    until
        Where known truth ends.
    """

    faults: dict[int, int]
    wrong: frozenset[int]
    since: dict[int, int]
    past: tuple[tuple[int, int, int], ...]
    until: int


#: Of a feed that nobody looks at.
NO_DOUBT = Doubt({}, frozenset(), {}, (), 0)


def doubts(view: MetricsView, usual: UsualHours, state: FeedState, end: int, *, codes: Mapping[PlaceId, int]) -> Doubt:
    """Tell from which hour on the truth of places is not to be trusted.

    Parameters
    ----------
    usual
        Of the hours up to `end`.
    state
        What the feed's last hours and days showed.
    end
        Hour at which known truth ends.
    codes
        Of places.
    """
    rows_a_day = max(DAY // max(view.grid.step, 1), 1)
    window = feed_window(rows_a_day)
    first = end - window
    odd, seen = doubtful_hours(view, usual, first, end)
    faults: dict[int, int] = {}
    wrong: set[int] = set()
    for fault in state.faults:
        code, begun = codes[fault.place], int(fault.since // HOUR)
        hours = odd[max(begun - first, 0) :, code].nonzero()[0]
        if begun >= first and len(hours):
            begun += int(hours[0])
        faults[code] = begun * HOUR
        if fault.kind not in ARRIVAL:
            wrong.add(code)
    patience = PATIENCE if rows_a_day >= 24 else window
    since = {}
    for code in np.flatnonzero(odd[-patience:].any(axis=0)).tolist():
        position = _begin(odd[:, code], seen[:, code])
        if code not in faults and position is not None and window - position <= patience:
            since[code] = (first + position) * HOUR
    past = tuple((code, start * HOUR, stop * HOUR) for code, start, stop in state.wrong)
    return Doubt(faults, frozenset(wrong), since, past, end * HOUR)


def feed_window(rows_a_day: int) -> int:
    """Hours back that a look at the newest truth reaches: a day, or as long as a few rows take."""
    return 24 * max(-(-LEAST_ROWS // rows_a_day), 1)


def _begin(odd: Flags, seen: Flags) -> int | None:
    """Position of the hour with which the doubt began that has not ended; ``None`` where there is none."""
    calm, begin = 0, None
    for hour in range(len(odd) - 1, -1, -1):
        if odd[hour]:
            calm, begin = 0, hour
        elif seen[hour]:
            calm += 1
            if calm == CALM:
                break
    return begin


def _sign(hours: dict[str, Floats], name: str) -> Flags:
    count = hours[name]
    return np.asarray(count > (0.5 * hours["n"] if name == "duplicates" else 0.0))


def _flat(hours: dict[str, Floats]) -> Flags:
    """Which hours say nothing but what the hour before them said, and not zero."""
    out = np.zeros(hours["n"].shape, dtype=bool)
    high, low = hours["maximum"], hours["minimum"]
    out[1:] = (high[1:] == low[1:]) & (high[:-1] == low[1:]) & (low[:-1] == low[1:]) & (high[1:] != 0)
    return out


def _median(values: Floats) -> Floats:
    """Median (H, P) over the weeks that are no NaN, the low one of the middle two; NaN where there is none."""
    ordered = np.sort(values, axis=0)
    middle = np.maximum((np.isfinite(ordered).sum(axis=0) - 1) // 2, 0)
    found: Floats = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return found
