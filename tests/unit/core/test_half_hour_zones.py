"""Days of zones whose clocks are no whole hours off begin within an hour of the sums."""

from typing import Any

import numpy as np
import pytest

from demand_maint.core.baseline import baseline_from_errors
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.observations import PAIR, Events
from demand_maint.core.timegrid import TimeGrid

FIRST, DAYS, PLACES, KEPT = 19_700, 75, 2, 35
ZONES = ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Adelaide"]


def lived(zone: str) -> tuple[LiveMetrics, TimeGrid]:
    """Let the same wall-clock hours pass in a zone."""
    grid, rng = TimeGrid(zone, 3600), np.random.default_rng(3)
    metrics = LiveMetrics(grid, 7 * 86400, 86400)
    buffer = metrics.new_buffer()
    hours = grid.epoch(np.arange(FIRST * 24, (FIRST + DAYS) * 24) * 3600)
    place = np.tile(np.arange(PLACES, dtype=np.uint32), 24)
    for slots in hours.reshape(DAYS, 24):
        slot = np.repeat(slots, PLACES)
        actual = 30.0 + 20.0 * (np.arange(len(slot)) < PLACES) + rng.normal(0.0, 3.0, len(slot))
        predicted = actual + rng.normal(0.0, 4.0, len(slot))
        kind, version = np.full(len(slot), PAIR, dtype=np.uint8), np.ones(len(slot), dtype=np.uint16)
        read, before = (slot + 3600).astype(np.float64), slot.astype(np.float64)
        metrics.take(buffer, Events(place, slot, kind, version, predicted, actual, read, before))
    return metrics, grid


def by_day(metrics: LiveMetrics, grid: TimeGrid) -> dict[str, Any]:
    """Tell all that is known of each local day."""
    edges = grid.day_start(np.arange(FIRST, FIRST + DAYS + 1)) // 3600
    metrics.sums.find_fresh(grid)
    sums, feed = metrics.sums.blocks_by_place(edges), metrics.feed.blocks_by_place(edges)
    own = metrics.sums.own_by_place(metrics.feed, edges, grid, 1)
    return {name: sums[name] for name in ("n", "abs_error", "fresh_error")} | {
        "total": feed["total"],
        "own": own["own"],
    }


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_is_what_it_is_elsewhere(zone: str) -> None:
    """What counts as a day, its hours and its errors does not hang on the zone, nor on whether hours were merged into days."""
    told, (metrics, grid) = by_day(*lived("UTC")), lived(zone)
    found = by_day(metrics, grid)
    metrics.compact(float(grid.day_start([FIRST + DAYS - KEPT])[0]))
    merged = by_day(metrics, grid)
    for name, values in told.items():
        assert found[name] == pytest.approx(values, nan_ok=True), name
        assert merged[name] == pytest.approx(values, nan_ok=True), name


@pytest.mark.parametrize("step", [3600, 900])
@pytest.mark.parametrize("zone", ZONES)
def test_a_baseline_counts_whole_days(zone: str, step: int) -> None:
    """Rows from one local midnight to another are so many days, and the sequential test is told where to start."""
    grid, rng = TimeGrid(zone, step), np.random.default_rng(5)
    stamps = grid.epoch(np.arange(FIRST * 86400, (FIRST + 20) * 86400, step)).astype(np.float64)
    errors, naive = rng.normal(0.0, 4.0, len(stamps)), np.abs(rng.normal(0.0, 6.0, len(stamps)))
    actual, places = np.full(len(stamps), 50.0), np.zeros(len(stamps))
    found = baseline_from_errors(stamps, errors, naive, actual, grid, places=places)
    assert found is not None
    # rows of less than an hour share the hour in which their day begins
    assert found.days == 20 + (step < 3600)
    assert found.log_centre is not None
