"""What details of health say about the inputs, and what asking for it costs."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from demand_maint._storage.registry import Registry
from demand_maint.core.health import HealthReport
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import InsufficientDataError
from demand_maint.input_drift import MOST_ROWS, InputDrift

DAY = 86400.0
QUANTILES = np.linspace(0.0, 1.0, 11).tolist()
METADATA = ModelMetadata(
    features=("lag", "hour"),
    loss="RMSE",
    kind="full",
    created_at=0.0,
    quantiles={"lag": QUANTILES, "hour": QUANTILES},
    importances={"lag": 80.0, "hour": 20.0},
)


class Rows:
    """Training rows whose lag has doubled; counts how often it is asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked, self.error = 0, error

    def __call__(self, days: float, least: int) -> pl.DataFrame:
        self.asked += 1
        if self.error is not None:
            raise self.error
        values = np.linspace(0.0, 1.0, 200)
        return pl.DataFrame({"lag": 2 * values, "hour": values, "actual": values})


def inputs(rows: Rows) -> InputDrift:
    """Input drift of a registry whose every version has `METADATA`."""
    registry = SimpleNamespace(version=lambda number: SimpleNamespace(metadata=METADATA))
    return InputDrift(cast("Registry", registry), rows)


def health(**changes: Any) -> HealthReport:
    """Return the report of a healthy champion, with changes."""
    return structs.replace(HealthReport(status="healthy", n=1000, champion=3), **changes)


def test_the_input_that_moved_and_matters_stands_first() -> None:
    """Each feature must come with its index and importance, the one that changed first."""
    found = inputs(Rows())(health(), 5 * DAY)
    assert [(drift.feature, drift.importance) for drift in found] == [("lag", 80.0), ("hour", 20.0)]
    assert (found[0].psi or 0.0) > 0.25
    assert found[1].psi == pytest.approx(0.0, abs=0.02)


def test_it_is_looked_at_once_a_day() -> None:
    """Asking again on the same day must read no rows; another day, champion or window must."""
    rows = Rows()
    look = inputs(rows)
    for _ in range(3):
        look(health(), 5 * DAY)
    assert rows.asked == 1
    look(health(), 6 * DAY)
    look(health(champion=4), 6 * DAY)
    look(health(champion=4, days=14), 6 * DAY)
    assert rows.asked == 4


@pytest.mark.parametrize("changes", [{"champion": None}, {"n": 10}, {"n": MOST_ROWS + 1}])
def test_nothing_is_read_where_nothing_could_be_said(changes: dict[str, Any]) -> None:
    """No champion, too few rows, or more than a question should read: no inputs, and no rows read."""
    rows = Rows()
    assert inputs(rows)(health(**changes), 5 * DAY) == ()
    assert rows.asked == 0


@pytest.mark.parametrize("error", [InsufficientDataError(3, 50), RuntimeError("a builder of one's own")])
def test_health_is_told_without_inputs_where_rows_fail(error: Exception) -> None:
    """Whatever the rows or somebody's builder raise, health must be told, without inputs."""
    assert inputs(Rows(error))(health(), 5 * DAY) == ()
