"""Seasonal-naive forecasts while somebody else counts."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from demand_maint.config import Config
from demand_maint.core.naive_view import NaiveView
from demand_maint.core.observations import Events, RowBuffer
from demand_maint.core.timegrid import TimeGrid
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR, DAY, WEEK = 3600, 86400, 7 * 86400


def pairs(places: list[int], slots: list[float], values: list[float]) -> Events:
    """Complete pairs whose truth is `values`."""
    n = len(places)
    return Events(
        np.array(places, dtype=np.uint32),
        np.array(slots, dtype=np.int64),
        np.ones(n, dtype=np.uint8),
        np.ones(n, dtype=np.uint16),
        np.array(values, dtype=float),
        np.array(values, dtype=float),
        np.array(slots, dtype=float),
        np.zeros(n),
    )


def test_a_drain_that_holds_the_lock_keeps_no_forecast_waiting(tmp_path: Path) -> None:
    """While another thread is inside the monitor, `naive` answers at once from what the drain before knew."""
    with ModelMonitor(tmp_path, Config(), VirtualClock(START + 8 * DAY)) as monitor:
        monitor.log_prediction_vs_actual("a", START, 1.0, 5.0)
        monitor.drain()
        wanted = np.array([int(START) + WEEK])
        holding, let_go = threading.Event(), threading.Event()

        def drain() -> None:
            with monitor._state:
                holding.set()
                let_go.wait(60)

        holder = threading.Thread(target=drain)
        holder.start()
        holding.wait(60)
        try:
            with ThreadPoolExecutor(1) as other:
                assert other.submit(monitor.naive, ["a"], wanted).result(30).tolist() == [5.0]
                assert other.submit(monitor.naive, ["a", "a"], np.repeat(wanted, 2)).result(30).tolist() == [5.0, 5.0]
        finally:
            let_go.set()
            holder.join()


def test_every_way_of_counting_shows_in_the_next_forecast(tmp_path: Path) -> None:
    """Rows that were drained, asked for, or imported are what the next forecast is made of."""
    clock = VirtualClock(START + 8 * DAY)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        asked = np.array([int(START) + WEEK])
        assert np.isnan(monitor.naive(["a"], asked)[0])
        monitor.import_history(pl.DataFrame({"place_id": ["a"], "timestamp": [START], "actual": [2.0]}))
        assert monitor.naive(["a"], asked)[0] == 2.0
        monitor.log_prediction_vs_actual("a", START, 1.0, 5.0)
        monitor.drain()
        assert monitor.naive(["a"], asked)[0] == 5.0
        monitor.log_actual("a", START, 6.0)
        monitor.get_model_health()
        assert monitor.naive(["a"], asked)[0] == 6.0
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.naive(["a"], asked)[0] == 6.0


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Australia/Lord_Howe"])
def test_one_row_gets_what_many_get(zone: str) -> None:
    """The branch for a single row and the one for many agree, across changes of the clock, gaps and unknown places."""
    rng = np.random.default_rng(3)
    grid = TimeGrid(zone, 1800)
    begin = int(grid.floor([1_711_000_000.0])[0])  # both zones change their clocks within four weeks
    buffer = RowBuffer(grid, WEEK, HOUR)
    slots = grid.floor(begin + np.arange(28 * 48) * 1800.0)
    for part in np.array_split(slots, 9):
        kept = [(p, s) for s in part.tolist() for p in range(3) if rng.random() < 0.7]
        buffer.ingest(pairs([p for p, _ in kept], [s for _, s in kept], rng.random(len(kept)).tolist()))
    old = [(0, s) for s in slots[:40].tolist()]
    buffer.ingest(pairs([p for p, _ in old], [s for _, s in old], [7.0] * len(old)))  # a run of its own
    view = NaiveView(buffer, {"a": 0, "b": 1, "c": 2}, {})
    places = ["a", "b", "c", "nowhere"]
    keys = [(place, int(slot)) for slot in slots[::7].tolist() for place in places]
    many = view.forecasts([place for place, _ in keys], np.array([slot for _, slot in keys]))
    one = [view.forecasts([place], np.array([slot]))[0] for place, slot in keys]
    np.testing.assert_array_equal(many, one)
    assert np.isfinite(many).mean() > 0.3


def test_a_view_stays_right_while_rows_come_and_go() -> None:
    """Whatever is counted or forgotten meanwhile, a forecast is the truth of its key or unknown, never another row's value."""
    grid = TimeGrid("UTC", HOUR)
    buffer = RowBuffer(grid, WEEK, HOUR)
    places = 40

    def truth(place: int, slot: int) -> float:
        return place + slot / HOUR

    def hours(first: int, last: int) -> Events:
        keys = [(p, int(START) + h * HOUR) for h in range(first, last) for p in range(places)]
        return pairs([p for p, _ in keys], [s for _, s in keys], [truth(p, s) for p, s in keys])

    buffer.ingest(hours(0, 24))
    views = [NaiveView(buffer, {p: p for p in range(places)}, {})]
    done = threading.Event()
    wrong: list[tuple[int, int, float]] = []

    def read() -> None:
        rng = np.random.default_rng(0)
        while not done.is_set():
            view = views[-1]
            ask = rng.integers(0, places, 300), int(START) + WEEK + rng.integers(0, 600, 300) * HOUR
            found = view.forecasts(ask[0].tolist(), ask[1])
            for place, slot, value in zip(ask[0].tolist(), ask[1].tolist(), found.tolist(), strict=True):
                right = {truth(place, slot - WEEK), truth(place, slot - 2 * WEEK)}
                if not np.isnan(value) and value not in right:
                    wrong.append((place, slot, value))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for step in range(150):
            buffer.ingest(hours(24 + 4 * step, 28 + 4 * step))
            if step % 3 == 0:
                views.append(NaiveView(buffer, {p: p for p in range(places)}, {}))
            if step % 20 == 19:
                buffer.drop_before(int(START) + (4 * step - 50) * HOUR)
    finally:
        done.set()
        reader.join()
    assert not wrong
    assert np.isnan(views[0].forecasts([1], np.array([int(START) + WEEK + 30 * HOUR]))[0])


def test_what_a_broken_feed_said_forecasts_nothing() -> None:
    """A season after a stretch that was left out, the forecast is what was two seasons before, for one row and for many."""
    buffer = RowBuffer(TimeGrid("UTC", HOUR), WEEK, DAY)
    buffer.ingest(pairs([0, 0, 0], [START, START + WEEK, START + 2 * WEEK], [1.0, 2.0, 30.0]))
    last = int(START) + 2 * WEEK
    sound, view = (NaiveView(buffer, {"a": 0, "b": 1}, left_out) for left_out in ({}, {0: ((last, last + HOUR),)}))
    after = np.array([last + WEEK])
    assert sound.forecasts(["a"], after).tolist() == [30.0]
    assert view.forecasts(["a"], after).tolist() == [2.0]
    assert view.forecasts(["a", "b"], np.repeat(after, 2))[0] == 2.0
