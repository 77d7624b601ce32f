"""The report's figures as HTML: time charts with lanes of events, stacked shares, the heat map, the accuracy-cost plot.

Every figure works without a script (it shows), with a pointer (a cursor tells the values under it) and by touch or keyboard
(marks are buttons). The script reads what it tells from ``data-`` attributes; nothing is drawn by it.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import floor

import msgspec
from msgspec import Struct

from demand_maint.core.charts import (
    HEIGHT,
    UNIT,
    TimeAxis,
    area_path,
    cell_paths,
    line_path,
    nice_ceiling,
    number,
    ticks,
)
from demand_maint.core.report_data import PlaceRow, PolicyRow, ReportEvent, Series, Span

__all__ = ["Band", "Lane", "Line", "heat_map", "legend", "scatter", "stack", "time_chart"]

# error relative to what was expected: blue is better, orange and red are worse; 1.15 and 1.25 are the document's thresholds
HEAT_EDGES = (0.7, 0.85, 0.95, 1.05, 1.15, 1.25, 1.5, 2.0)
HEAT_MEANINGS = (
    "below 0.7", "0.7 - 0.85", "0.85 - 0.95", "0.95 - 1.05", "1.05 - 1.15", "1.15 - 1.25", "1.25 - 1.5", "1.5 - 2", "2 and more",
)  # fmt: skip


class Line(Struct, frozen=True):
    """One line of a chart: its CSS class, its name in legend and tooltip, and one value a bin."""

    css: str
    name: str
    values: Series
    told: Series | None = None


class Band(Struct, frozen=True):
    """A filled band between two series."""

    css: str
    name: str
    low: Series
    high: Series


class Lane(Struct, frozen=True):
    """A strip under a chart: stretches of time and moments in it."""

    name: str
    spans: tuple[Span, ...] = ()
    events: tuple[ReportEvent, ...] = ()


def legend(items: Sequence[tuple[str, str]]) -> str:
    """Keys of a chart: (CSS class, text)."""
    return (
        '<p class="legend">'
        + "".join(f'<span><i class="{css}"></i>{escape(text)}</span>' for css, text in items)
        + "</p>"
    )


def _labels(axis: TimeAxis) -> str:
    return (
        '<div class="x" aria-hidden="true">'
        + "".join(
            f'<span style="left:{at}%"{"" if wide else " class=wide"}>{escape(text)}</span>'
            for at, text, wide in axis.labels()
        )
        + "</div>"
    )


def _y_labels(top: float, bottom: float, marks: Sequence[float], unit: str = "") -> str:
    places = next((n for n in range(5) if all(abs(mark * 10**n - round(mark * 10**n)) < 1e-6 for mark in marks)), 3)
    return (
        '<div class="y" aria-hidden="true">'
        + "".join(
            f'<span style="bottom:{100 * (value - bottom) / (top - bottom):.1f}%">{value:,.{places}f}{unit}</span>'
            for value in marks
        )
        + "</div>"
    )


def _grid(axis: TimeAxis, top: float, bottom: float, marks: Sequence[float]) -> str:
    width = axis.count * UNIT
    rows = "".join(f"M0 {round(HEIGHT * (1 - (value - bottom) / (top - bottom)))}h{width}" for value in marks)
    columns = "".join(f"M{round(width * at / 100)} 0v{HEIGHT}" for at, _, wide in axis.labels() if wide)
    return f'<path class="grid" d="{rows}"/><path class="grid faint" d="{columns}"/>'


def _told(lines: Sequence[Line], axis: TimeAxis, factor: float, unit: str) -> str:
    """Values for the cursor, as one attribute: compact whole numbers and the power of ten to divide by."""
    series = [
        [
            line.name,
            line.css,
            [None if value is None else round(value * factor) for value in (line.told or line.values)],
        ]
        for line in lines
    ]
    text = msgspec.json.encode({"d": axis.first, "s": axis.step, "f": factor, "u": unit, "v": series}).decode()
    return escape(text, quote=True)


def time_chart(
    axis: TimeAxis,
    lines: Sequence[Line],
    *,
    label: str,
    bands: Sequence[Band] = (),
    lanes: Sequence[Lane] = (),
    rules: Sequence[ReportEvent] = (),
    limits: tuple[float, float] | None = None,
    unit: str = "",
) -> str:
    """Lines and bands over time, lanes of spans and events below, thin vertical rules through all of it."""
    # bands and lines without a name are the background: what is cut of them at the frame leaves the rest readable
    known = [value for line in lines if line.name for value in line.values if value is not None]
    bottom, top = limits or (0.0, nice_ceiling(_robust_top(known)))
    marks = ticks(top) if limits is None else [bottom + (top - bottom) * i / 4 for i in range(5)]
    body = _grid(axis, top, bottom, marks)
    body += "".join(f'<path class="{band.css}" d="{area_path(band.low, band.high, top, bottom)}"/>' for band in bands)
    body += "".join(f'<path class="line {line.css}" d="{line_path(line.values, top, bottom)}"/>' for line in lines)
    factor = 10.0 ** max(0, 3 - len(str(int(top))))
    told = [Line(line.css, line.name, line.values, line.told) for line in lines if line.name]
    vertical = "".join(f'<i class="rule k-{rule.kind}" style="left:{axis.percent(rule.at)}%"></i>' for rule in rules)
    return (
        f'<div class="chart" tabindex="0" data-told="{_told(told, axis, factor, unit)}" role="group" aria-label="{escape(label)}">'
        f'<div class="plot">{_y_labels(top, bottom, marks)}<div class="area">'
        f'<svg viewBox="0 0 {axis.count * UNIT} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{body}</svg>'
        f'{vertical}<i class="cursor"></i></div></div>'
        + "".join(_lane(axis, lane) for lane in lanes)
        + f'<div class="foot">{_labels(axis)}</div></div>'
    )


def _robust_top(values: Sequence[float]) -> float:
    """Largest value, unless a few stand far above the rest; then those are cut at the frame and the rest stays readable."""
    if not values:
        return 1.0
    ordered = sorted(values)
    return min(ordered[-1], 1.6 * ordered[int(0.98 * (len(ordered) - 1))])


def _lane(axis: TimeAxis, lane: Lane) -> str:
    spans = []
    for span in lane.spans:
        left, right = min(axis.percent(span.since), 99.7), axis.percent(span.until)  # what began just now is seen too
        text = f"<b>{escape(span.label)}</b>" if span.label and right - left > 3 else ""
        spans.append(
            f'<span class="span t-{span.tone}" style="left:{left}%;width:{max(right - left, 0.25):.2f}%"{_tip(span.title, span.detail)}>{text}</span>'
        )
    marks = [
        f'<button class="mark k-{event.kind}" style="left:{axis.percent(event.at)}%"{_tip(event.title, event.detail)}></button>'
        for event in lane.events
    ]
    return (
        f'<div class="lane"><b>{escape(lane.name)}</b><div class="strip">{"".join(spans)}{"".join(marks)}</div></div>'
    )


def _tip(title: str, detail: str) -> str:
    more = f' data-d="{escape(detail, quote=True)}"' if detail else ""
    return f' data-t="{escape(title, quote=True)}"{more}'


def stack(axis: TimeAxis, shares: Sequence[tuple[str, str, Series]], *, label: str, lanes: Sequence[Lane] = ()) -> str:
    """Stacked shares of the whole as (CSS class, name, 0 .. 1 a bin), the first at the bottom."""
    below: list[float | None] = [
        0.0 if any(s[i] is not None for _, _, s in shares) else None for i in range(axis.count)
    ]
    body, told = "", []
    for css, name, share in shares:
        above = [None if low is None else low + (share[i] or 0.0) for i, low in enumerate(below)]
        body += f'<path class="{css}" d="{area_path(below, above, 1.0)}"/>'
        told.append(Line(css, name, share, tuple(None if v is None else v * 100 for v in share)))
        below = above
    return (
        f'<div class="chart" tabindex="0" data-told="{_told(told, axis, 1.0, " %")}" role="group" aria-label="{escape(label)}">'
        f'<div class="plot low">{_y_labels(100.0, 0.0, [0.0, 50.0, 100.0], " %")}<div class="area">'
        f'<svg viewBox="0 0 {axis.count * UNIT} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{body}</svg>'
        '<i class="cursor"></i></div></div>'
        + "".join(_lane(axis, lane) for lane in lanes)
        + f'<div class="foot">{_labels(axis)}</div></div>'
    )


def heat_map(axis: TimeAxis, rows: Sequence[PlaceRow]) -> str:
    """Places (worst first) against time; a cell is the error relative to what was expected there."""
    width = max((len(row.ratios) for row in rows), default=1)
    cells = "".join(
        f'<path class="h{kind}" d="{path}"/>'
        for kind, path in enumerate(cell_paths([row.ratios for row in rows], HEAT_EDGES))
        if path
    )
    names = "".join(f"<span{_tip(row.place, row.note)}>{escape(row.place)}</span>" for row in rows)
    told = msgspec.json.encode(
        {
            "d": axis.first,
            "s": axis.step,
            "p": [row.place for row in rows],
            "v": [[None if value is None else round(value * 100) for value in row.ratios] for row in rows],
        }
    ).decode()
    keys = "".join(f'<span><i class="h{kind}"></i>{text}</span>' for kind, text in enumerate(HEAT_MEANINGS))
    return (
        f'<p class="legend heat-key">{keys}</p>'
        f'<div class="heat" style="--rows:{len(rows)}" data-heat="{escape(told, quote=True)}" tabindex="0" role="group" '
        f'aria-label="Error of each place against what was expected, over time">'
        f'<div class="names">{names}</div><div class="area">'
        f'<svg viewBox="0 0 {width} {len(rows)}" preserveAspectRatio="none" role="img" aria-label="Heat map of places over time">{cells}</svg>'
        f'<i class="cell"></i></div></div><div class="heat-foot">{_labels(axis)}</div>'
    )


def scatter(rows: Sequence[PolicyRow], reference: str) -> str:
    """Accuracy (MAE, lower is better) against cost (CPU seconds of training, square-root scale) of every policy."""
    shown = [row for row in rows if row.mae is not None]
    if not shown:
        return ""
    values = [row.mae or 0.0 for row in shown]
    bottom, top = _nice_range(min(values), max(values))
    cost = nice_ceiling(max(row.training_cpu_seconds for row in shown) * 1.02 or 1.0)
    points = sorted(
        (
            (100 * (row.training_cpu_seconds / cost) ** 0.5, 100 * ((row.mae or 0.0) - bottom) / (top - bottom), row)
            for row in shown
        ),
        key=lambda point: point[1],
    )
    nudges = _apart([(x, y) for x, y, _ in points])
    marks = "".join(
        f'<button class="dot{" ours" if row.name == "default" else ""}{" left" if x > 70 else ""}" style="left:{x:.1f}%;bottom:{y:.1f}%;--nudge:{nudge:.1f}"'
        f"{_tip(row.name, _policy_words(row, shown, reference))}><span>{escape(row.name)}</span></button>"
        for (x, y, row), nudge in zip(points, nudges, strict=True)
    )
    steps = [0.0, cost / 16, cost / 4, 9 * cost / 16, cost]
    at_x = "".join(
        f'<span style="left:{100 * (value / cost) ** 0.5:.0f}%">{number(value, 2)} s</span>' for value in steps
    )
    at_y = [bottom + (top - bottom) * i / 4 for i in range(5)]
    grid = "".join(f"M0 {HEIGHT * i // 4}h100M{25 * i} 0v{HEIGHT}" for i in range(5))
    frontier = _frontier([(x, y) for x, y, _ in points])
    return (
        '<div class="chart scatter"><div class="plot">'
        f'{_y_labels(top, bottom, at_y)}<div class="area"><svg viewBox="0 0 100 {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Mean absolute error against training time of every policy"><path class="grid" d="{grid}"/><path class="frontier" d="{frontier}"/></svg>{marks}</div></div>'
        f'<div class="foot"><div class="x">{at_x}</div></div></div>'
    )


def _policy_words(row: PolicyRow, rows: Sequence[PolicyRow], reference: str) -> str:
    other = next((candidate for candidate in rows if candidate.name == reference), None)
    against = ""
    if other is not None and other.mae and row.mae is not None and other.name != row.name:
        against = f" ({100 * (row.mae / other.mae - 1):+.1f} % against {reference})"
    return (
        f"MAE {number(row.mae)}{against}\n{number(row.training_cpu_seconds)} CPU seconds of training: "
        f"{row.fine_tunes} fine-tunes, {row.full_retrains} full retrains, {row.rejected} rejected"
    )


def _apart(points: Sequence[tuple[float, float]], near: float = 30.0, gap: float = 6.0) -> list[float]:
    """Offsets (per cent of the height) that keep the labels of `points`, sorted by height, from lying on each other."""
    placed: list[tuple[float, float]] = []
    for x, y in points:
        height = y
        for other_x, other in placed:
            if abs(other_x - x) < near and abs(other - height) < gap:
                height = other + gap
        placed.append((x, height))
    return [height - y for (_, height), (_, y) in zip(placed, points, strict=True)]


def _nice_range(low: float, high: float) -> tuple[float, float]:
    """Round bounds around `low` .. `high` with four round steps between them."""
    spread = (high - low) or abs(high) * 0.2 or 1.0
    step = nice_ceiling(spread * 1.25 / 4)
    bottom = step * floor((low - 0.08 * spread) / step)
    while bottom + 4 * step < high + 0.05 * spread:
        step = nice_ceiling(step * 1.01)
        bottom = step * floor((low - 0.08 * spread) / step)
    return bottom, bottom + 4 * step


def _frontier(points: Sequence[tuple[float, float]]) -> str:
    """Step line through the points that no other beats in both directions."""
    best = 200.0
    corners: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if y < best:
            corners.append((x, y))
            best = y
    path = "".join(f"L{b[0]:.1f} {_flip(a[1])}L{b[0]:.1f} {_flip(b[1])}" for a, b in pairwise(corners))
    return f"M{corners[0][0]:.1f} {_flip(corners[0][1])}{path}L100 {_flip(corners[-1][1])}" if corners else ""


def _flip(percent: float) -> int:
    return round(HEIGHT * (1 - percent / 100))
