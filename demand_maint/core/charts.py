"""Geometry of the report's charts: values in, SVG paths and percentages out.

An SVG here holds only what may be stretched (lines, bands, cells; strokes do not scale); everything that must keep its shape,
text and marks, is HTML placed by percentages. So one file is sharp on a phone, on a desktop and on paper without a script.
Vertical coordinates run from 0 (top) to `HEIGHT`; horizontal ones are `UNIT` a day bin.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import floor, isfinite, log10

from msgspec import Struct

from demand_maint.core.timegrid import DAY, TimeGrid

__all__ = [
    "HEIGHT",
    "UNIT",
    "TimeAxis",
    "area_path",
    "cell_paths",
    "line_path",
    "nice_ceiling",
    "number",
    "rolling",
    "ticks",
]

HEIGHT = 500
UNIT = 4
Series = Sequence[float | None]


class TimeAxis(Struct, frozen=True):
    """`count` bins of `step` local days, the first beginning on local day `first` (days since 1970-01-01)."""

    first: int
    count: int
    step: int
    zone: str

    @classmethod
    def of(cls, days: Sequence[float], zone: str, step: int = 1) -> "TimeAxis":
        """Axis over bins that begin at `days` (epoch seconds of local midnights, ascending, `step` days apart)."""
        first = int(TimeGrid(zone, 3600).day([days[0]])[0]) if days else 0
        return cls(first, max(len(days), 1), step, zone)

    def percent(self, at: float) -> float:
        """Where the moment `at` lies on the axis, 0 .. 100."""
        local = float(TimeGrid(self.zone, 3600).local([at])[0])
        share = (local / DAY - self.first) / (self.count * self.step)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def date(self, day: int) -> datetime:
        """Local date `day` days after the first."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.first + day)

    def labels(self) -> list[tuple[float, str, bool]]:
        """(percent, text, whether a narrow screen shows it too) of the labels under the axis."""
        span = self.count * self.step
        if span <= 120:
            every = 2 if span <= 16 else 7 if span <= 60 else 14
            return [
                (round(100 * day / span, 2), f"{self.date(day).day} {self.date(day):%b}", index % 3 == 0)
                for index, day in enumerate(range(0, span, every))
                if day / span < 0.95
            ]
        starts = [day for day in range(span) if self.date(day).day == 1]
        if span > 900:
            starts = [day for day in starts if self.date(day).month == 1]
        return [
            (
                round(100 * day / span, 2),
                f"{self.date(day):%Y}" if self.date(day).month == 1 else f"{self.date(day):%b}",
                self.date(day).month % 3 == 1,
            )
            for day in starts
            if day / span < 0.97
        ]


def number(value: float | None, digits: int = 3) -> str:
    """`value` with about `digits` significant figures, a dash where there is none.

    >>> number(1234.5), number(0.012345)
    ('1,234', '0.0123')
    """
    if value is None or not isfinite(value):
        return "\u2013"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"


def nice_ceiling(value: float) -> float:
    """Smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 x 10^k that is at least `value`.

    >>> nice_ceiling(131.0)
    150.0
    """
    if not isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next((power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value * (1 - 1e-9)), value)


def ticks(top: float) -> list[float]:
    """Four or five round values from 0 to `top`.

    >>> ticks(150.0)
    [0.0, 50.0, 100.0, 150.0]
    """
    lead = top / 10.0 ** floor(log10(top))
    parts = 3 if round(lead, 6) in {1.5, 3, 6} else 5 if round(lead, 6) in {1, 5, 10} else 4
    return [top * i / parts for i in range(parts + 1)]


def rolling(values: Series, window: int) -> list[float | None]:
    """Trailing mean over `window` bins; ``None`` while fewer than half of them are known.

    >>> rolling([1.0, 3.0, None, None, None], 2)
    [1.0, 2.0, 3.0, None, None]
    """
    out: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        out.append(sum(known) / len(known) if known and 2 * len(known) >= min(window, end) else None)
    return out


def _y(value: float, bottom: float, top: float) -> int:
    share = (value - bottom) / (top - bottom)
    return round(HEIGHT * (1 - min(max(share, 0.0), 1.0)))


def _runs(known: Callable[[int], bool], count: int) -> list[range]:
    runs: list[range] = []
    start: int | None = None
    for index in range(count + 1):
        if index < count and known(index):
            start = index if start is None else start
        elif start is not None:
            runs.append(range(start, index))
            start = None
    return runs


def line_path(values: Series, top: float, bottom: float = 0.0) -> str:
    """Path of a line through the middles of the bins, broken where a value is missing."""
    parts = []
    for run in _runs(lambda i: values[i] is not None, len(values)):
        heights = [_y(values[i] or 0.0, bottom, top) for i in run]
        x = run.start * UNIT + UNIT // 2
        # one bin alone would be an invisible point: give it the width of its bin
        if len(heights) == 1:
            parts.append(f"M{x - UNIT // 2} {heights[0]}h{UNIT}")
            continue
        steps = [f"l{UNIT} {after - before}" for before, after in pairwise(heights)]
        parts.append(f"M{x} {heights[0]}{''.join(steps)}")
    return "".join(parts)


def area_path(low: Series, high: Series, top: float, bottom: float = 0.0) -> str:
    """Path that encloses the band between two lines, broken where either is missing."""
    parts = []
    for run in _runs(lambda i: low[i] is not None and high[i] is not None, min(len(low), len(high))):
        upper = [_y(high[i] or 0.0, bottom, top) for i in run]
        lower = [_y(low[i] or 0.0, bottom, top) for i in run][::-1]
        # the outer bins reach to their edges, so that stacked areas fill the frame
        x = run.start * UNIT
        there = [f"l{UNIT} {b - a}" for a, b in pairwise(upper)]
        back = [f"l-{UNIT} {b - a}" for a, b in pairwise(lower)]
        half = UNIT // 2
        parts.append(
            f"M{x} {upper[0]}h{half}{''.join(there)}h{half}v{lower[0] - upper[-1]}h-{half}{''.join(back)}h-{half}z"
        )
    return "".join(parts)


def cell_paths(rows: Sequence[Series], edges: Sequence[float]) -> list[str]:
    """One path per colour class of a heat map with unit cells; runs of equal cells become one rectangle.

    Class k holds the values in ``edges[k - 1] <= value < edges[k]``.
    """
    paths: list[list[str]] = [[] for _ in range(len(edges) + 1)]
    for y, row in enumerate(rows):
        classes = [None if value is None else sum(value >= edge for edge in edges) for value in row]
        x = 0
        while x < len(classes):
            kind, start = classes[x], x
            while x < len(classes) and classes[x] == kind:
                x += 1
            if kind is not None:
                paths[kind].append(f"M{start} {y}h{x - start}v1H{start}z")
    return ["".join(path) for path in paths]
