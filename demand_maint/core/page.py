"""The report page: `ReportData` in, one self-contained HTML document out."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from demand_maint.core.charts import TimeAxis, number, rolling
from demand_maint.core.figures import Band, Lane, Line, heat_map, legend, scatter, stack, time_chart
from demand_maint.core.report_data import DeploymentRow, PolicyRow, ReportData, ReportEvent, Story, Upcoming
from demand_maint.core.timegrid import TimeGrid

__all__ = ["MAX_PLACES", "render_page"]

BUDGET = 300_000
MAX_PLACES = 60
MAX_FEATURES = 12
NEWEST = 12
MEMBER_CSS = {
    "champion": "w0",
    "champion, level-calibrated": "w1",
    "candidate": "w2",
    "candidate, level-calibrated": "w3",
    "base": "w4",
    "base, level-calibrated": "w5",
    "previous champion": "w6",
    "previous champion, level-calibrated": "w8",
    "seasonal naive": "w7",
}
STATUS_WORDS = {
    "healthy": ("good", "Healthy"),
    "degraded": ("warn", "Degraded"),
    "critical": ("bad", "Critical"),
    "insufficient_data": ("quiet", "Too little data"),
}


def render_page(data: ReportData, style: str, script: str) -> str:
    """Return the whole page; `style` and `script` are put inline, nothing is loaded from anywhere.

    A replay of many policies may have more to tell than fits in `BUDGET`: then the last policies are only compared.
    """
    comparison = _comparison(data) if data.policies else ""
    stories: list[str] = []
    room = BUDGET - len((comparison + style + script).encode())
    for story in data.stories:
        html = _story(story, data, len(stories))
        room -= len(html.encode())
        if stories and room < 0:
            break
        stories.append(html)
    names = [story.name for story in data.stories]
    tabs = _tabs(names, len(stories)) if len(names) > 1 else ""
    when = _moment(data.generated_at, data.zone)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(data.title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(data.title)}</h1><p>{escape(data.source)}{' &middot; ' if data.source else ''}written {when} ({escape(data.zone)})</p></header>"
        f'<main>{comparison}{tabs}{"".join(stories)}</main><div id="tip" role="status" hidden></div><script>{script}</script></body></html>\n'
    )


def _moment(at: float, zone: str, pattern: str = "%-d %b %Y, %H:%M") -> str:
    local = int(TimeGrid(zone, 60).local([at])[0])
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=local):{pattern}}"


def _section(title: str, body: str, lead: str = "", css: str = "") -> str:
    if not body:
        return ""
    return f'<section class="{css}"><h2>{escape(title)}</h2>{f"<p class=lead>{escape(lead)}</p>" if lead else ""}{body}</section>'


def _tabs(names: Sequence[str], shown: int) -> str:
    buttons = "".join(
        f'<button role="tab" data-story="{index}" aria-selected="{"true" if index == 0 else "false"}">{escape(name)}</button>'
        for index, name in enumerate(names[:shown])
    )
    rest = (
        f"<small>only compared above, to keep the page small: {escape(', '.join(names[shown:]))}</small>"
        if shown < len(names)
        else ""
    )
    return (
        f'<nav class="tabs" role="tablist" aria-label="Policies in detail"><span>In detail:</span>{buttons}{rest}</nav>'
    )


def _story(story: Story, data: ReportData, index: int) -> str:
    zone = data.zone
    if not story.days:
        body = (
            _head(story)
            + _section("What happens next", _next(story.upcoming, zone), css="coming")
            + _deployments(story.deployments, zone)
        )
    else:
        step = max(1, round((story.days[1] - story.days[0]) / 86400)) if len(story.days) > 1 else 1
        axis = TimeAxis.of(story.days, zone, step)
        body = (
            _head(story)
            + _error_section(story, axis, zone)
            + _line_up_section(story, axis)
            + _levels_section(story, axis)
            + _places_section(story, zone)
            + '<div class="pair">'
            + _features_section(story)
            + _section("What happens next", _next(story.upcoming, zone), css="coming")
            + "</div>"
            + _deployments(story.deployments, zone)
        )
    hidden = " hidden" if index else ""
    return f'<article data-story="{index}" aria-label="{escape(story.name)}"{hidden}>{body}</article>'


def _head(story: Story) -> str:
    css, word = STATUS_WORDS.get(story.status, ("quiet", story.status))
    tiles = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><small>{escape(note)}</small></div>"
        for label, value, note in story.facts
    )
    return f'<div class="head"><p class="status"><b class="chip {css}">{word}</b> {escape(story.verdict)}</p><dl class="tiles">{tiles}</dl></div>'


def _error_section(story: Story, axis: TimeAxis, zone: str) -> str:
    window = max(1, round(7 / axis.step)) if axis.count * axis.step >= 21 else 1
    smooth = {
        name: tuple(rolling(getattr(story, name), window))
        for name in ("champion", "served", "naive", "expected", "low", "high")
    }
    lines = []
    if window > 1 and any(value is not None for value in story.champion):
        lines.append(Line("s-day", "", story.champion))
    for css, name, key in (
        ("s-naive", "seasonal naive", "naive"),
        ("s-expected", "expected of the champion", "expected"),
        ("s-champion", "champion alone", "champion"),
        ("s-served", "served", "served"),
    ):
        if any(value is not None for value in smooth[key]):
            lines.append(Line(css, name, smooth[key]))
    keys = [(line.css, line.name) for line in reversed(lines) if line.name]
    bands = []
    if any(value is not None for value in smooth["low"]):
        bands.append(Band("s-band", "ordinary noise", smooth["low"], smooth["high"]))
        keys.append(("s-band", "expected band"))
    if window > 1:
        keys.append(("s-day", "single days"))
    lanes = [Lane("Checks", story.checks)] if story.checks else []
    for name, kinds in (
        ("Trained", ("train", "fail")),
        ("Line-up", ("enter", "reject")),
        ("Deployed", ("deploy", "rollback")),
    ):
        events = tuple(_timed(event, zone) for event in story.events if event.kind in kinds)
        if events:
            lanes.append(Lane(name, (), events))
    drift = tuple(_timed(event, zone) for event in story.events if event.kind in {"drift", "feed"})
    if drift or story.feed:
        lanes.append(Lane("Drift, feed", story.feed, drift))
    rules = [event for event in story.events if event.kind == "rollback"]
    chart = time_chart(
        axis, lines, bands=bands, lanes=lanes, rules=rules, label=f"Mean absolute error over time, {story.name}"
    )
    lead = (
        "Mean absolute error, 7-day means. Point at the chart for the numbers, at a mark for the reason behind it."
        if window > 1
        else "Mean absolute error by day."
    )
    return _section("Error over time", legend(keys) + chart + _mark_key(story), lead)


def _timed(event: ReportEvent, zone: str) -> ReportEvent:
    return ReportEvent(
        at=event.at, kind=event.kind, title=event.title, detail=f"{_moment(event.at, zone)}\n{event.detail}".strip()
    )


def _mark_key(story: Story) -> str:
    words = {
        "train": "training", "fail": "training failed", "enter": "entered the line-up", "reject": "rejected or dropped",
        "deploy": "deployed", "rollback": "rolled back", "drift": "drift", "feed": "feed fault",
    }  # fmt: skip
    used = [kind for kind in words if any(event.kind == kind for event in story.events)]
    keys = [f'<span><i class="mark k-{kind}"></i>{words[kind]}</span>' for kind in used]
    if story.checks:
        keys += [
            f'<span><i class="t-{tone}"></i>{word}</span>'
            for tone, word in (
                ("good", "healthy"),
                ("warn", "degraded"),
                ("bad", "critical"),
                ("quiet", "too little data"),
            )
            if any(span.tone == tone for span in story.checks)
        ]
    if story.feed:
        keys.append('<span><i class="t-fault"></i>truth not trusted</span>')
    return f'<p class="legend marks">{"".join(keys)}</p>' if keys else ""


def _line_up_section(story: Story, axis: TimeAxis) -> str:
    shares = [(MEMBER_CSS.get(member.name, "w7"), member.name, member.weights) for member in story.members]
    if not shares:
        return ""
    lanes = [Lane("Champion", story.reigns)] if story.reigns else []
    keys = [(css, name) for css, name, _ in shares]
    chart = stack(axis, shares, lanes=lanes, label="Share of each forecaster in the served value over time")
    return _section(
        "Who served", legend(keys) + chart, "Each forecaster's share of the served value; live truth moves it."
    )


def _levels_section(story: Story, axis: TimeAxis) -> str:
    known = [v for series in (story.levels, story.levels_low, story.levels_high) for v in series if v is not None]
    if not known:
        return ""
    spread = max(0.05, max(abs(value - 1) for value in known) * 1.1)
    spread = next(step for step in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0) if step >= spread or step == 4.0)
    bottom = max(0.0, 1 - spread)
    bands = [Band("s-band", "", story.levels_low, story.levels_high)]
    lines = [Line("s-naive", "", (1.0,) * axis.count), Line("s-served", "pooled level", story.levels)]
    chart = time_chart(axis, lines, bands=bands, limits=(bottom, 1 + spread), label="Level calibration over time")
    keys = [("s-served", "all places together"), ("s-band", "10 - 90 % of the places")]
    return _section(
        "Calibration",
        legend(keys) + chart,
        "What the champion's predictions are multiplied by to meet the recent level; 1 is no correction.",
    )


def _places_section(story: Story, zone: str) -> str:
    if not story.places or not story.periods:
        return ""
    rows = sorted(story.places, key=lambda row: -(row.ratio if row.ratio is not None else -1.0))
    worst = [row for row in rows if row.ratio is not None and row.ratio > 1.1][:3]
    if len(rows) == 1:
        lead = (
            f"{rows[0].place}: error over what was to be expected, by {_period(story.period_days)}; 1 is as expected."
        )
    elif all(row.ratio is None for row in rows):
        lead = "Too few rows by place to tell how each does."
    elif worst:
        named = "; ".join(
            f"{'place ' if row.place.isdigit() else ''}{row.place} at {row.ratio:.2f} times the error usual there (MAE {number(row.mae)})"
            for row in worst
        )
        lead = f"Worst over the last weeks: {named}."
    else:
        lead = "No place stands out: none is more than 10 % above what is usual there."
    axis = TimeAxis.of(story.periods, zone, story.period_days)
    more = (
        f"<p class=note>{len(rows) - MAX_PLACES} more places, all closer to what is usual there, are not shown.</p>"
        if len(rows) > MAX_PLACES
        else ""
    )
    return _section("Places", heat_map(axis, rows[:MAX_PLACES]) + more, lead)


def _period(days: int) -> str:
    return {1: "day", 7: "week"}.get(days, f"{days} days")


def _features_section(story: Story) -> str:
    rows = sorted(story.features, key=lambda row: (-(row.importance * min(row.psi or 0.0, 2.0)), -row.importance))[
        :MAX_FEATURES
    ]
    if not rows:
        return ""
    widest = max(row.importance for row in rows) or 1.0
    body = "".join(
        f'<tr><th scope="row">{escape(row.name).replace("_", "_<wbr>")}</th><td class="bar"><i style="width:{100 * row.importance / widest:.0f}%"></i><span>{number(row.importance, 2)} %</span></td>'
        f'<td class="num"><b class="chip {_psi_tone(row.psi)}">{number(row.psi, 2)}</b></td></tr>'
        for row in rows
    )
    table = f'<table class="features"><thead><tr><th>Feature</th><th>Importance</th><th class="num">PSI</th></tr></thead><tbody>{body}</tbody></table>'
    if all(row.psi is None for row in rows):
        return _section(
            "Features", table, "What the champion leans on; too few new rows to tell whether the inputs have moved."
        )
    lead = "How far each input has moved from the training data (above 0.25 is a lot), the ones the champion leans on first. An explanation, never a trigger."
    return _section("Features that moved", table, lead)


def _psi_tone(psi: float | None) -> str:
    return "quiet" if psi is None else "bad" if psi > 0.25 else "warn" if psi > 0.1 else "good"


def _next(rows: Sequence[Upcoming], zone: str) -> str:
    items = "".join(
        f"<li><b>{escape(row.what)}</b> <time>{_moment(row.at, zone) if row.at is not None else ''}</time><p>{escape(row.why)}</p></li>"
        for row in rows
    )
    return f'<ol class="next">{items}</ol>' if items else ""


def _deployments(rows: Sequence[DeploymentRow], zone: str) -> str:
    ordered = sorted(rows, key=lambda row: -row.number)
    if not ordered:
        return ""
    body = _deployment_table(ordered[:NEWEST], zone)
    if len(ordered) > NEWEST:
        older = _deployment_table(ordered[NEWEST:], zone)
        body += f"<details><summary>{len(ordered) - NEWEST} earlier ones</summary>{older}</details>"
    return _section("Deployments", body, css="wide")


def _deployment_table(rows: Sequence[DeploymentRow], zone: str) -> str:
    body = "".join(
        f'<tr><td data-l="When">{_moment(row.at, zone)}</td><td data-l="What"><b class="act a-{escape(row.action)}">{escape(row.action)}</b></td>'
        f'<td data-l="Version">{row.version}</td><td data-l="Why">{escape(row.why)}</td><td data-l="Verdict">{escape(row.verdict)}</td><td data-l="Who">{escape(row.who)}</td></tr>'
        for row in rows
    )
    head = "".join(f"<th>{name}</th>" for name in ("When", "What", "Version", "Why", "Verdict", "Who"))
    return f'<div class="scroll"><table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


POLICY_COLUMNS = (
    "Policy",
    "MAE",
    "MASE",
    "Bias",
    "Training CPU",
    "Fine-tunes",
    "Full retrains",
    "Rejected",
    "Rollbacks",
    "No gain",
)


def _comparison(data: ReportData) -> str:
    rows = sorted(data.policies, key=lambda row: row.mae if row.mae is not None else float("inf"))
    best = rows[0].mae
    reference = next((row.mae for row in rows if row.name == data.reference), None)
    body = "".join(_policy_row(row, best, reference) for row in rows)
    head = "".join(f"<th{'' if name == 'Policy' else ' class=num'}>{name}</th>" for name in POLICY_COLUMNS)
    table = f'<div class="scroll"><table class="cards policies"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    table += '<p class="note">No gain: trainings that were rejected at once or did not help within 14 days.</p>'
    plot = scatter(rows, data.reference)
    over_time = ""
    if data.policy_days and any(row.rolling for row in rows):
        step = max(1, round((data.policy_days[1] - data.policy_days[0]) / 86400)) if len(data.policy_days) > 1 else 1
        axis = TimeAxis.of(data.policy_days, data.zone, step)
        lines = [Line(f"p{index % 8}", row.name, row.rolling) for index, row in enumerate(rows) if row.rolling]
        keys = [(line.css, line.name) for line in lines]
        over_time = _section(
            "Error of every policy",
            legend(keys) + time_chart(axis, lines, label="Mean absolute error of every policy over time"),
            "28-day means of the absolute error of what was served.",
        )
    return (
        _section("Policies side by side", table, _policy_lead(rows, data.reference))
        + '<div class="pair">'
        + _section(
            "Accuracy against cost",
            plot,
            "Mean absolute error against CPU seconds of training (square-root scale). Down is more accurate, left is cheaper; no policy lies below the stepped line.",
        )
        + over_time
        + "</div>"
    )


def _policy_lead(rows: Sequence[PolicyRow], reference: str) -> str:
    by_name = {row.name: row for row in rows}
    ours, frozen = by_name.get("default"), by_name.get(reference)
    if ours is None or frozen is None or not ours.mae or not frozen.mae or ours is frozen:
        return ""
    gain = 1 - ours.mae / frozen.mae
    if abs(gain) < 0.005:
        return f"The default policy is as accurate as the {reference} model: nothing here called for maintenance."
    return (
        f"The default policy's error is {abs(100 * gain):.0f} % {'below' if gain >= 0 else 'above'} that of the {reference} model, "
        f"for {number(ours.training_cpu_seconds)} CPU seconds of training."
    )


def _against(share: float) -> str:
    return f"{100 * share:+.0f} %" if abs(share) >= 0.005 else "\u00b10 %"


def _policy_row(row: PolicyRow, best: float | None, reference: float | None) -> str:
    against = (
        f" <small>{_against(row.mae / reference - 1)}</small>" if row.mae and reference and row.mae != reference else ""
    )
    cells = (
        ("MAE", f"<b>{number(row.mae)}</b>{against}"),
        ("MASE", number(row.mase)),
        ("Bias", number(row.bias, 2)),
        ("Training CPU", f"{number(row.training_cpu_seconds, 2)} s"),
        ("Fine-tunes", str(row.fine_tunes)),
        ("Full retrains", str(row.full_retrains)),
        ("Rejected", str(row.rejected)),
        ("Rollbacks", str(row.rollbacks)),
        ("No gain", str(row.false_alarms)),
    )
    columns = "".join(f'<td class="num" data-l="{label}">{value}</td>' for label, value in cells)
    css = " class=best" if row.mae is not None and row.mae == best else ""
    note = f"<small>{escape(row.note)}</small>" if row.note else ""
    best_tag = '<b class="chip good">best</b>' if css else ""
    return f'<tr{css}><th scope="row">{escape(row.name)} {best_tag}{note}</th>{columns}</tr>'
