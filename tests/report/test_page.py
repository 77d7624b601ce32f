"""The report page: what it holds, how large it is, and that nothing in it can break it."""

import re
from html.parser import HTMLParser

import msgspec
import pytest

from demand_maint.core.charts import TimeAxis, area_path, cell_paths, line_path, number, rolling, ticks
from demand_maint.core.figures import Band, Line, scatter, time_chart
from demand_maint.core.page import render_page
from demand_maint.core.report_data import PlaceRow, PolicyRow, ReportData, Span, Story, Upcoming
from demand_maint.report import page_assets

VOID = {"meta", "link", "br", "wbr", "path", "img"}


class Balance(HTMLParser):
    """Notes tags that do not close where they should."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def page(data: ReportData) -> str:
    """Return the page as the package ships it."""
    return render_page(data, *page_assets())


def test_a_year_of_fifty_places_fits(live_report: ReportData) -> None:
    """The page of a year and fifty places is at most 300 KB."""
    assert len(page(live_report).encode()) <= 300_000


def test_a_replay_of_many_policies_fits_too(replay_report: ReportData) -> None:
    """More stories than fit are named and compared, not told, so that the page stays under 300 KB."""
    html = page(replay_report)
    assert len(html.encode()) <= 300_000
    assert "only compared above" in html
    assert html.count("<article") == 1


def test_nothing_is_loaded_from_elsewhere(live_report: ReportData, replay_report: ReportData) -> None:
    """No address but data: stands in the page."""
    for data in (live_report, replay_report):
        html = page(data)
        assert not re.search(r"https?://|//cdn|@import|url\(", html)
        assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["data:,"]


def test_tags_are_balanced(live_report: ReportData, replay_report: ReportData) -> None:
    """Every element that opens closes."""
    for data in (live_report, replay_report):
        checker = Balance()
        checker.feed(page(data))
        assert checker.wrong == []
        assert checker.open == []


def test_names_cannot_become_markup(live_report: ReportData) -> None:
    """A place or a reason with angle brackets and quotes is shown, never parsed."""
    nasty = '<script>alert("x")</script>\' onload=1'
    story = live_report.stories[0]
    story = msgspec.structs.replace(
        story,
        name=nasty,
        verdict=nasty,
        places=(PlaceRow(place=nasty, ratios=(1.0, 2.0), note=nasty, ratio=1.5),),
        events=tuple(msgspec.structs.replace(event, title=nasty, detail=nasty) for event in story.events[:3]),
        upcoming=(Upcoming(what=nasty, at=None, why=nasty),),
    )
    html = page(msgspec.structs.replace(live_report, title=nasty, source=nasty, stories=(story, story)))
    assert "alert(&quot;x&quot;)" in html
    assert html.count("<script>") == 1


def test_a_root_without_data_still_has_a_page() -> None:
    """A root in which nothing happened yet says so and what comes next."""
    story = Story(name="root", verdict="No predictions yet.", upcoming=(Upcoming(what="Next check", at=0.0),))
    html = page(ReportData(title="Maintenance report", generated_at=0.0, stories=(story,)))
    assert "Too little data" in html
    assert "Next check" in html


@pytest.mark.parametrize("days", [1, 2, 13, 40, 200, 1500])
def test_any_length_of_history_renders(days: int) -> None:
    """One day and four years draw without an error, with labels inside the frame."""
    at = tuple(1.4e9 + 86400.0 * i for i in range(days))
    values = tuple(float(i % 7) for i in range(days))
    html = page(
        ReportData(title="t", generated_at=0.0, stories=(Story(name="a", days=at, champion=values, served=values),))
    )
    assert "Error over time" in html
    assert all(0 <= float(left) <= 100 for left in re.findall(r"left:([\d.]+)%", html))


def test_lines_break_where_values_are_missing() -> None:
    """A gap in the data is a gap in the line and in the band, never a slope across it."""
    values = (1.0, 2.0, None, 3.0, None)
    assert line_path(values, 4.0).count("M") == 2
    assert area_path((0.0, 0.0, None, 0.0, None), values, 4.0).count("M") == 2


def test_equal_cells_become_one_rectangle() -> None:
    """A heat map row of one class is one rectangle; missing cells have none."""
    assert cell_paths([[1.0, 1.0, None, 3.0]], [2.0]) == ["M0 0h2v1H0z", "M3 0h1v1H3z"]


def test_time_axis_follows_local_midnight() -> None:
    """A moment lies where its local wall clock says, also on the day that daylight saving begins."""
    days = [1_364_688_000.0 - 86400, 1_364_688_000.0]  # 30 and 31 March 2013, London
    axis = TimeAxis.of(days, "Europe/London")
    assert axis.percent(1_364_688_000.0 + 11 * 3600) == pytest.approx(75.0)  # noon BST
    assert axis.percent(0.0) == 0.0
    assert axis.percent(2e9) == 100.0


def test_numbers_read_well() -> None:
    """Figures keep about three significant digits; a missing one is a dash."""
    assert [number(v) for v in (None, float("nan"), 0, 3.14159, 119.04, 12345.6)] == [
        "\u2013",
        "\u2013",
        "0",
        "3.14",
        "119",
        "12,346",
    ]
    assert ticks(6.0) == [0, 2, 4, 6]
    assert rolling([None, None, 4.0], 3) == [None, None, None]


def test_one_policy_alone_can_be_plotted() -> None:
    """The accuracy plot stands with a single policy, with equal ones, and is empty without figures."""
    row = PolicyRow(name="frozen", mae=10.0, mase=None, bias=None, training_cpu_seconds=0.0)
    assert 'data-t="frozen"' in scatter([row], "frozen")
    assert scatter([msgspec.structs.replace(row, mae=None)], "frozen") == ""
    assert scatter([row, msgspec.structs.replace(row, name="twin")], "frozen").count('class="dot') == 2


def test_a_few_wild_days_do_not_flatten_the_rest() -> None:
    """A day of a thousand among a year of ones is cut at the frame."""
    axis = TimeAxis.of([86400.0 * i for i in range(100)], "UTC")
    html = time_chart(axis, [Line("s-served", "served", (1.0,) * 99 + (1000.0,))], label="x")
    assert ">1000<" not in html
    assert ">2.0<" in html or ">2<" in html


def test_the_background_does_not_set_the_scale() -> None:
    """A wide band and the line of single days are cut at the frame; the named lines fill it."""
    axis = TimeAxis.of([86400.0 * i for i in range(50)], "UTC")
    calm, wild = (4.0,) * 50, (90.0,) * 50
    html = time_chart(
        axis,
        [Line("s-day", "", wild), Line("s-served", "served", calm)],
        bands=[Band("s-band", "b", calm, wild)],
        label="x",
    )
    assert re.findall(r'bottom:[\d.]+%">([^<]+)<', html) == ["0", "1", "2", "3", "4"]


def test_faults_of_the_feed_are_in_the_key(live_report: ReportData) -> None:
    """Stretches of truth that is not trusted are explained where there are any."""
    story = live_report.stories[0]
    fault = Span(since=story.days[3], until=story.days[4], tone="fault", title="late")
    for feed in ((), (fault,)):
        told = msgspec.structs.replace(story, feed=feed)
        assert ("truth not trusted" in page(msgspec.structs.replace(live_report, stories=(told,)))) == bool(feed)


def test_a_place_that_is_a_number_is_called_a_place(live_report: ReportData) -> None:
    """Of the worst places a bare number does not read as a figure."""
    story = live_report.stories[0]
    rows = tuple(
        msgspec.structs.replace(row, place=name) for row, name in zip(story.places, ("17", "Harbour"), strict=False)
    )
    rows = tuple(msgspec.structs.replace(row, ratio=3.0, mae=2.0) for row in rows)
    told = msgspec.structs.replace(story, places=rows)
    html = page(msgspec.structs.replace(live_report, stories=(told,)))
    assert "Worst over the last weeks: place 17 at 3.00 times the error usual there (MAE 2.00); Harbour at" in html


def test_places_with_too_few_rows_are_not_praised(live_report: ReportData) -> None:
    """Where no place has a ratio the page says that, and not that all are as usual."""
    story = live_report.stories[0]
    rows = tuple(msgspec.structs.replace(row, ratio=None) for row in story.places)
    told = msgspec.structs.replace(story, places=rows)
    html = page(msgspec.structs.replace(live_report, stories=(told,)))
    assert "Too few rows by place to tell how each does." in html
    assert "No place stands out" not in html
