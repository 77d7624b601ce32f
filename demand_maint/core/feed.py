"""Faults of the feed: tell wrong truth from a wrong model, place by place.

A feed fault is a change of the *truth* that no demand makes: silence, gaps, one value for ever, values that are no numbers, a
flood of zeros, negatives, another unit, lateness or repetition. Each place is compared with itself, at the same hours of the
same weekday one to four weeks before; the comparison takes the median week, so that a fault of last week does not hide this
week's. What lasts longer than that is no fault any more but the new truth, and suspicion ends by itself.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.view import DAY, HOUR, Floats, MetricsView, PlaceId, local_days

__all__ = ["ARRIVAL", "FAULTS", "FeedDays", "FeedFault", "FeedState", "classify", "feed_state", "merged"]

#: Kinds by code, the graver first where two apply; 0 is a healthy feed.
FAULTS: tuple[str, ...] = (
    "",
    "silent",
    "invalid",
    "negative",
    "unit",
    "constant",
    "zeros",
    "missing",
    "duplicates",
    "late",
)
_CODE = {name: code for code, name in enumerate(FAULTS)}
_WORDS = {
    "silent": "no truth arrives, though predictions are made",
    "invalid": "values that are no numbers",
    "negative": "negative values where there were none",
    "unit": "all values changed by one large factor, as with another unit",
    "constant": "one and the same value for hours",
    "zeros": "zeros where there were none",
    "missing": "half of the rows or more are missing",
    "duplicates": "the same rows again and again",
    "late": "most of the truth comes after the horizon",
}
#: Kinds whose values are right, as far as they come: they may count, while the place is not judged.
ARRIVAL = frozenset({"silent", "missing", "late"})
#: Days whose rows can be taken out of the judgement again.
FEED_DAYS = 35
WEEKS = 4
#: Rows a stretch needs before its values say anything.
LEAST_ROWS = 6
#: A level that changes by this factor or more, in nearly every hour, is another unit.
UNIT_FACTOR = 5.0
#: Shares of the rows below which such rows are nothing to look into.
_SHARES = {"negatives": 0.2, "zeros": 0.5, "duplicates": 0.5, "late": 0.6}
#: Zeros are a fault where, by the usual share of them, their chance is below exp(-9.2), one in ten thousand.
EVIDENCE = 9.2
#: Customers that a stretch usually has, at the least, where a large factor is no single group of them.
LEAST_CUSTOMERS = 4.0
#: A peak so many times the usual one is none of demand's, however few the customers.
BEYOND = 25.0
_NOTHING = {"minimum": float("inf"), "maximum": float("-inf")}
#: Share of the places in fault from which the pool is.
POOL_SHARE = 0.5


class FeedFault(Struct, frozen=True, kw_only=True):
    """One place whose truth looks wrong.

    Parameters
    ----------
    kind
        One of `FAULTS`.
    since
        First moment of the present fault, epoch seconds, to the day.
    detail
        What was seen, in words.
    """

    place: PlaceId
    kind: str
    since: float
    detail: str = ""


class FeedState(Struct, frozen=True, kw_only=True):
    """Faults of now, and the stretches whose rows are not judged, trained on or weighed.

    Parameters
    ----------
    faults
        Places in fault now.
    excluded
        ``(place code, first hour, end hour)`` of every faulty stretch of the last weeks.
    wrong
        The same of each whole day whose values are wrong, not only late or few.
    pool
        What is wrong with all of the truth, ``None`` where nothing is.
    """

    faults: tuple[FeedFault, ...] = ()
    excluded: tuple[tuple[int, int, int], ...] = ()
    wrong: tuple[tuple[int, int, int], ...] = ()
    pool: str | None = None

    @property
    def by_place(self) -> dict[PlaceId, str]:
        """Kind of fault by place."""
        return {fault.place: fault.kind for fault in self.faults}


class FeedDays:
    """The truth of the whole local days before `now`, by place: the same until a day ends or the truth of one of them changes.

    Attributes
    ----------
    edges
        Hours between the D days, from the first that holds anything on; (D + 1,).
    blocks
        Fields of the feed's sums, (P, D) each.
    usual_n, typical, top
        Most rows of a day, median level, and the highest value before the newest day, (P,) each.
    """

    __slots__ = ("_codes", "_suspects", "blocks", "edges", "top", "typical", "usual_n")

    def __init__(self, view: MetricsView, now: float) -> None:
        _, edges = local_days(view.grid, now - (FEED_DAYS + 7 * WEEKS) * DAY, now)
        blocks = view.feed.blocks_by_place(edges, keep=True)
        filled = np.flatnonzero((blocks["n"].sum(axis=0) > 0) | (blocks["expected"].sum(axis=0) > 0))
        first = int(filled[0]) if len(filled) else len(edges) - 1
        self.edges = edges[first:]
        self.blocks = {name: values[:, first:] for name, values in blocks.items()}
        self._codes: tuple[int, int, NDArray[np.int8]] | None = None
        if len(self):
            self.usual_n: Floats = self.blocks["n"].max(axis=1)
            self.typical = _typical(self.blocks)
            self.top: Floats = self.blocks["maximum"][:, :-1].max(axis=1, initial=0.0)
            # few days are suspicious at first sight; only these are compared with four weeks
            begin = max(len(self) - FEED_DAYS, 0)
            place, day = np.nonzero(_suspicious(self.blocks, begin))
            self._suspects = place, day + begin

    def __len__(self) -> int:
        return len(self.edges) - 1

    def codes(self, end: int, rows_a_day: int) -> NDArray[np.int8]:
        """Fault code of each place and day (P, D), zero for the first weeks, which only serve to compare.

        Parameters
        ----------
        end
            Hour at which known truth ends.
        """
        settled = int(np.searchsorted(self.edges[1:], end - 12, side="right"))
        if self._codes is None or self._codes[:2] != (settled, rows_a_day):
            self._codes = (settled, rows_a_day, self._classified(settled, rows_a_day))
        return self._codes[2]

    def _classified(self, settled: int, rows_a_day: int) -> NDArray[np.int8]:
        codes = np.zeros(self.blocks["n"].shape, dtype=np.int8)
        place, day = self._suspects
        if len(place) == 0:
            return codes
        recent = {name: values[place, day] for name, values in self.blocks.items()}
        weeks = day[None] - 7 * np.arange(1, WEEKS + 1)[:, None]
        before = weeks >= 0
        past = {
            name: np.where(before, values[place[None], np.maximum(weeks, 0)], _NOTHING.get(name, 0.0))
            for name, values in self.blocks.items()
        }
        codes[place, day] = classify(recent, past, settled=day < settled, least_rows=min(LEAST_ROWS, rows_a_day))
        return codes


def feed_state(view: MetricsView, now: float, horizon_seconds: float = DAY, days: FeedDays | None = None) -> FeedState:
    """Look at the truth of the last weeks, place by place.

    Whole local days tell what may be counted; the last hours of known truth tell what is wrong now. What is known ends with
    the newest truth of any place, so that a usual delay is no silence; only where that end lies more than the horizon and a
    day back, the whole feed is silent.

    Parameters
    ----------
    now
        Epoch seconds.
    horizon_seconds
        How long truth may take.
    days
        Those of `now` that are still true.
    """
    newest = view.newest
    if newest is None:
        return FeedState()
    days = FeedDays(view, now) if days is None else days
    if not len(days):
        return FeedState()
    end = min(int(newest // HOUR), int(now // HOUR)) + 1
    rows_a_day = max(DAY // max(view.grid.step, 1), 1)
    codes = days.codes(end, rows_a_day)
    current, start = _now(view, end, rows_a_day, days)
    missing = _last_settled(codes, days.edges, end) == _CODE["missing"]
    current = np.where((current == 0) & missing, _CODE["missing"], current).astype(np.int8)
    late_by = now - newest
    silent = late_by > horizon_seconds + DAY and bool(days.blocks["expected"][:, -2:].sum() > 0)
    return _state(view, days.edges, codes, current, start, now, late_by if silent else None)


def classify(
    recent: dict[str, Floats],
    past: dict[str, Floats],
    *,
    settled: NDArray[np.bool_] | bool = True,
    least_rows: NDArray[np.int64] | int = LEAST_ROWS,
) -> NDArray[np.int8]:
    """Return the kind of fault (position in `FAULTS`) of each stretch.

    Parameters
    ----------
    recent
        Fields of the feed's sums over one stretch per element, any shape S.
    past
        The same stretch in earlier weeks, shape (weeks, S); stretches without rows are left out of the comparison.
    settled
        Whether the stretch's truth is complete, so that absence means something; shape S.
    least_rows
        Rows a stretch needs before a level means something; constancy always takes 6; shape S.
    """
    n, expected = recent["n"], recent["expected"]
    with np.errstate(all="ignore"):
        filled = past["n"] > 0
        usual = _usual(past, filled)
        usual_n, zeros = usual["n"], _usual_zeros(past)
        known = np.isfinite(usual_n)
        usual_flat = (filled & (past["maximum"] <= past["minimum"])).any(axis=0)
        usual_low = np.where(filled, past["negatives"], np.inf).min(axis=0)
        enough = n >= least_rows
        wanted = np.where(expected > 0, expected, np.where(known, usual_n, 0.0))
        flat = (n >= LEAST_ROWS) & (recent["maximum"] <= recent["minimum"])
        cover = n / np.where(expected > 0, np.maximum(expected, 1.0), np.where(known, usual_n, np.inf))
        usual_cover = np.where(np.isfinite(usual["cover"]), usual["cover"], 1.0)
        found = {
            "silent": settled
            & (n == 0)
            & (recent["invalid"] == 0)
            & (wanted >= 1)
            & (known | (expected >= LEAST_ROWS)),
            "invalid": (recent["invalid"] >= 3) & (recent["invalid"] > 0.2 * (n + recent["invalid"])),
            "negative": enough & (recent["negatives"] > 0.2 * n) & ~(usual_low > 0),
            "unit": enough & known & _other_unit(recent, past, usual, zeros, settled),
            "constant": flat & (recent["maximum"] != 0) & ~usual_flat,
            "zeros": enough
            & known
            & (recent["zeros"] > 0.5 * n)
            & (n * _divergence(recent["zeros"] / n, zeros) > EVIDENCE),
            "missing": settled & (wanted >= least_rows) & known & (cover < 0.5 * usual_cover),
            "duplicates": enough & (recent["duplicates"] > 0.5 * n) & ~(usual["duplicates"] > 0.25),
            "late": enough & (recent["late"] > 0.6 * n) & ~(usual["late"] > 0.3),
        }
    codes = np.zeros(n.shape, dtype=np.int8)
    for name in reversed(FAULTS[1:]):  # the gravest last, over all others
        codes[found[name]] = _CODE[name]
    return codes


def _usual(past: dict[str, Floats], filled: NDArray[np.bool_]) -> dict[str, Floats]:
    """Return medians over the weeks of rows, of figures per row, of the highest value and of the share that came; NaN where unknown."""
    per_row = ("total", "late", "duplicates")
    figures = np.array([past["n"], past["maximum"], past["n"] / past["expected"], *(past[name] for name in per_row)])
    figures[3:] /= past["n"]
    figures[:, ~filled] = np.nan
    figures[2, past["expected"] <= 0] = np.nan
    return dict(zip(("n", "maximum", "cover", *per_row), _median(figures), strict=True))


def _usual_zeros(past: dict[str, Floats]) -> Floats:
    """Return the share of zeros in the weeks before, a little more than was seen; without the week that has the most, if others are there."""
    n, zeros = past["n"], past["zeros"]
    worst = zeros.argmax(axis=0)[None]
    kept = (np.arange(len(n)).reshape(-1, *[1] * (n.ndim - 1)) != worst) | ((n > 0).sum(axis=0) < 2)
    share: Floats = ((zeros * kept).sum(axis=0) + 0.5) / ((n * kept).sum(axis=0) + 1.0)
    return share


def _second_highest(values: Floats) -> Floats:
    """Return the second highest of the weeks, or the only one: last week may have been at fault already."""
    ordered = np.sort(values, axis=0)
    second: Floats = np.where(np.isfinite(ordered[-2]), ordered[-2], ordered[-1]) if len(ordered) > 1 else ordered[-1]
    return second


def _divergence(share: Floats, usual: Floats) -> Floats:
    """Return how far a share lies above the usual one (Kullback-Leibler), 0 below: n times that bounds the log of its chance (Chernoff)."""
    share = np.clip(share, usual, 1.0)
    rest = np.where(share < 1.0, (1.0 - share) * np.log((1.0 - share) / (1.0 - usual)), 0.0)
    apart: Floats = share * np.log(share / usual) + rest
    return apart


def _other_unit(
    recent: dict[str, Floats],
    past: dict[str, Floats],
    usual: dict[str, Floats],
    zeros: Floats,
    settled: NDArray[np.bool_] | bool,
) -> NDArray[np.bool_]:
    """Whether the level moved by a large factor and the extremes moved with it, as demand's own peaks do not.

    A storm or a holiday may take most of a morning's demand; only a whole day tells a smaller unit. Where few come, one group of
    customers is a large factor; how many come is told by the share of hours in which nobody does, whatever the unit.
    """
    n, top, high = recent["n"], recent["maximum"], _second_highest(past["maximum"])
    factor = recent["total"] / n / usual["total"]
    many = (-n * np.log(zeros) >= LEAST_CUSTOMERS) | (top >= BEYOND * high)
    up = (factor >= UNIT_FACTOR) & (top >= UNIT_FACTOR * high)
    huge = (factor >= 3.0) & (top >= 8.0 * high)
    down = (factor <= 1 / UNIT_FACTOR) & (UNIT_FACTOR * top <= usual["maximum"])
    down &= settled & (usual["maximum"] >= 10.0) & (recent["zeros"] < 0.5 * n)
    moved: NDArray[np.bool_] = ((many & (up | huge)) | down) & (usual["total"] > 0) & np.isfinite(usual["maximum"])
    return moved


def _median(values: Floats) -> Floats:
    """Median over the weeks, the second axis, that are no NaN, low one of the middle two; NaN where there is none."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    middle = np.maximum((count - 1) // 2, 0)
    chosen: Floats = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    return chosen


def _suspicious(blocks: dict[str, Floats], first: int) -> NDArray[np.bool_]:
    """Return which places and days from `first` on (P, D - first) no glance can clear."""
    now = {name: values[:, first:] for name, values in blocks.items()}
    return _odd(now, now["n"].max(axis=1, keepdims=True), _typical(blocks, first)[:, None])


def _typical(blocks: dict[str, Floats], first: int = 0) -> Floats:
    """Return each place's median level (P,)."""
    level = blocks["total"][:, first:] / np.maximum(blocks["n"][:, first:], 1.0)
    middle = level.shape[1] // 2
    typical: Floats = np.partition(level, middle, axis=1)[:, middle]
    return typical


def _odd(now: dict[str, Floats], usual_n: Floats, typical: Floats) -> NDArray[np.bool_]:
    n = now["n"]
    odd = now["invalid"] > 0
    shares = np.array([*_SHARES.values()]).reshape(-1, *([1] * n.ndim))
    odd |= (np.array([now[name] for name in _SHARES]) > shares * n).any(axis=0)
    odd |= now["maximum"] <= now["minimum"]
    odd |= (n == 0) & (now["expected"] > 0)
    odd |= n < 0.75 * np.maximum(now["expected"], usual_n)
    level = now["total"] / np.maximum(n, 1.0)
    odd |= (level > 2.0 * typical) | (level < 0.5 * typical)
    return odd


def _now(view: MetricsView, end: int, rows_a_day: int, before: FeedDays) -> tuple[NDArray[np.int8], int]:
    """Return the fault codes (P,) of the stretch of known truth that ends at hour `end`, and where it starts.

    A short stretch finds at once what its values show; a long one, of a day or of 6 rows, finds silence too.
    """
    days = max(-(-LEAST_ROWS // rows_a_day), 1)
    long = 24 * days
    stretch = end + np.array([[-long, -6, 0]])
    newest = view.feed.stretches_by_place(stretch)
    short, whole = ({name: values[part, 0] for name, values in newest.items()} for part in (0, 1))
    codes = np.zeros(len(short["n"]), dtype=np.int8)
    typical = before.typical
    odd = _odd(whole, days * before.usual_n, typical) | (short["maximum"] <= short["minimum"])
    odd |= (short["invalid"] > 0) | (short["maximum"] > 4.0 * before.top)
    odd |= (np.array([short[name] for name in _SHARES]) > 0.2 * short["n"]).any(axis=0)
    odd |= short["total"] < 0.5 * typical * short["n"]
    chosen = odd.nonzero()[0]
    count = len(chosen)
    if count == 0:
        return codes, end - long
    # both stretches of all odd places are looked at in one go
    weeks = view.feed.stretches_by_place(stretch - 168 * np.arange(WEEKS, 0, -1)[:, None])
    found = classify(
        {name: values[:, 0, chosen].reshape(-1) for name, values in newest.items()},
        {name: values[:, :, chosen].swapaxes(0, 1).reshape(WEEKS, -1) for name, values in weeks.items()},
        settled=np.arange(2 * count) >= count,
        least_rows=np.repeat([LEAST_ROWS, min(LEAST_ROWS, rows_a_day)], count),
    )
    at_once, all_in_all = found[:count], found[count:]
    gaps = all_in_all == _CODE["missing"]  # a day that is still filling; whole days tell
    codes[chosen] = np.where(at_once > 0, at_once, np.where(gaps, 0, all_in_all))
    return codes, end - long


def _last_settled(codes: NDArray[np.int8], edges: NDArray[np.int64], end: int) -> NDArray[np.int8]:
    """Return each place's code on the newest day whose truth should be complete."""
    days = int(edges[1:].searchsorted(end - 12, side="right"))
    return codes[:, days - 1] if days else np.zeros(len(codes), dtype=np.int8)


def _state(
    view: MetricsView,
    edges: NDArray[np.int64],
    codes: NDArray[np.int8],
    current: NDArray[np.int8],
    start: int,
    now: float,
    silent_for: float | None,
) -> FeedState:
    excluded = [
        (int(place), int(edges[day]), int(edges[day + 1])) for place, day in zip(*np.nonzero(codes), strict=True)
    ]
    wrong = [
        stretch
        for stretch, code in zip(excluded, codes[codes > 0].tolist(), strict=True)
        if FAULTS[code] not in ARRIVAL
    ]
    faults: list[FeedFault] = []
    stretches = merged(excluded)
    for place in np.flatnonzero(current).tolist():
        name = FAULTS[int(current[place])]
        begun = min((first for code, first, last in stretches if code == place and last >= start), default=start)
        since = min(begun, start)
        excluded.append((place, start, int(now // HOUR) + 1))
        faults.append(FeedFault(place=view.places[place], kind=name, since=float(since * HOUR), detail=_WORDS[name]))
    pool = f"no truth at all for {silent_for / HOUR:.0f} hours" if silent_for is not None else _pool(codes, faults)
    return FeedState(faults=tuple(faults), excluded=merged(excluded), wrong=tuple(wrong), pool=pool)


def merged(stretches: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Join stretches of one place that touch or overlap, so that no row is taken out twice."""
    joined: list[tuple[int, int, int]] = []
    for place, first, last in sorted(stretches):
        if joined and joined[-1][0] == place and first <= joined[-1][2]:
            joined[-1] = (place, joined[-1][1], max(joined[-1][2], last))
        else:
            joined.append((place, first, last))
    return tuple(joined)


def _pool(codes: NDArray[np.int8], faults: list[FeedFault]) -> str | None:
    """Name what is wrong with at least half of the places that were well in the last week or are in fault now."""
    if not faults:
        return None
    alive = max(int((codes[:, -7:] == 0).any(axis=1).sum()), len(faults))
    if len(faults) < POOL_SHARE * alive:
        return None
    kinds = [fault.kind for fault in faults]
    worst = max(sorted(set(kinds)), key=kinds.count)
    return f"{len(faults)} of {alive} places: {_WORDS[worst]}"
