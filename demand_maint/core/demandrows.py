"""The built-in demand features, as arithmetic on two tables of the past.

Rule: a feature of the slot at ``t`` reads only slots that begin at ``t - horizon`` or before. Every look-up below goes through
`_Past`, which knows the newest column that is allowed and answers NaN beyond it.

Lags count calendar days, so they meet the same wall-clock time across a change of daylight saving.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.lookback import Floats, Ints, Lookback

__all__ = ["Keys", "Layout", "demand_rows", "feature_names"]

DAY = 86400
WEEK_DAYS = 7
# weeks the same-slot-of-the-week statistics look back
WEEKS = 8
MONTH_DAYS = 28
# a ratio of two levels says no more beyond this
STEEPEST = 10.0


@dataclass(frozen=True, slots=True)
class Layout:
    """What fixes the features: slot length and horizon (seconds), and holidays (days since 1970-01-01, sorted)."""

    step: int
    horizon: int
    holidays: Ints

    @property
    def day(self) -> int:
        """Slots in a day."""
        return max(DAY // self.step, 1)

    @property
    def hour(self) -> int:
        """Slots in an hour, at least one."""
        return max(3600 // self.step, 1)

    @property
    def first_day(self) -> int:
        """Nearest lag in whole days that is always known."""
        return -(-self.horizon // DAY)

    @property
    def first_week(self) -> int:
        """Nearest lag in whole weeks that is always known, in days."""
        return WEEK_DAYS * -(-self.horizon // (WEEK_DAYS * DAY))

    @property
    def reach_days(self) -> int:
        """Days before a slot that its features can look at."""
        weeks = self.first_week + WEEK_DAYS * WEEKS
        return max(weeks, self.first_day + MONTH_DAYS + WEEK_DAYS) + 2


@dataclass(frozen=True, slots=True)
class Keys:
    """Rows to make: wall-clock second, column, and newest column whose value may be used, each of shape (n,)."""

    local: Ints
    column: Ints
    newest: Ints


class _Past:
    """One series per key, seen from the moment its prediction is made."""

    def __init__(self, table: Lookback, rows: Ints, keys: Keys, layout: Layout) -> None:
        self._table, self._rows, self._keys, self._layout = table, rows, keys, layout

    def lag(self, days: int) -> Floats:
        return self._table.at(self._rows, self._keys.column - days * self._layout.day, self._keys.newest)

    def lags(self, days: Ints) -> Floats:
        columns = self._keys.column[:, None] - days[None, :] * self._layout.day
        return self._table.at(self._rows[:, None], columns, self._keys.newest[:, None])

    def newest(self) -> Floats:
        return self._table.at(self._rows, self._keys.newest)

    def recent(self, slots: int, back: int = 0) -> Floats:
        """Mean of the newest `slots` known slots, or of as many that ended `back` slots earlier."""
        end = self._keys.newest + 1 - back
        return self._table.mean(self._rows, end - slots, end)

    def around(self, days: int, slots: int) -> Floats:
        """Mean of the slots within `slots` of the same time `days` ago."""
        middle = self._keys.column - days * self._layout.day
        return self._table.mean(self._rows, middle - slots, np.minimum(middle + slots, self._keys.newest) + 1)


def feature_names(layout: Layout) -> tuple[str, ...]:
    """Names of the columns of `demand_rows`, in order."""
    one = np.zeros(1, dtype=np.int64)
    nothing = Lookback(1, 1)
    return tuple(_columns(nothing, one, nothing, Keys(one, one, one - 1), layout))


def demand_rows(place: Lookback, rows: Ints, pool: Lookback, keys: Keys, layout: Layout) -> NDArray[np.float32]:
    """Feature matrix of shape (n, F) for `keys` of the series `rows` of `place`; `pool` holds one series, the mean of all places."""
    columns = _columns(place, rows, pool, keys, layout)
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns.values()], axis=1)


def _columns(place: Lookback, rows: Ints, pool: Lookback, keys: Keys, layout: Layout) -> dict[str, NDArray[Any]]:
    calendar = _calendar(keys.local, layout.holidays)
    own = _Past(place, rows, keys, layout)
    everyone = _Past(pool, np.zeros_like(rows), keys, layout)
    columns = calendar | _lags(own, layout) | _levels(own, layout)
    columns |= _same_slot(own, layout, keys.local, calendar["day_off"], columns["trend_7d"])
    shared = {f"lag_{layout.first_day}d": everyone.lag(layout.first_day)} | _levels(everyone, layout)
    weekly = everyone.lags(layout.first_week + WEEK_DAYS * np.arange(4))
    shared["week_mean_4"] = _mean(weekly)
    dropped = {"latest", "mean_3h", "mean_6h", "trend_3h"}
    return columns | {f"pool_{name}": values for name, values in shared.items() if name not in dropped}


def _calendar(local: Ints, holidays: Ints) -> dict[str, NDArray[Any]]:
    day = local // DAY
    weekday = (day + 3) % WEEK_DAYS
    hour = (local % DAY) / 3600.0
    holiday = np.isin(day, holidays)
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    return {
        "hour": hour,
        "weekday": weekday,
        "hour_of_week": weekday * 24 + hour,
        "month": month,
        "day_off": (weekday >= 5) | holiday,
        "holiday": holiday,
        "beside_holiday": np.isin(day + 1, holidays) + 2 * np.isin(day - 1, holidays),
    }


def _lags(past: _Past, layout: Layout) -> dict[str, Floats]:
    days = [layout.first_day, layout.first_day + 1]
    days += [layout.first_week + WEEK_DAYS * week for week in range(4)]
    return {f"lag_{day}d": past.lag(day) for day in dict.fromkeys(days)}


def _levels(past: _Past, layout: Layout) -> dict[str, Floats]:
    hour, day = layout.hour, layout.day
    week = WEEK_DAYS * day
    three, one, seven = past.recent(3 * hour), past.recent(day), past.recent(week)
    month = past.recent(MONTH_DAYS * day)
    return {
        "latest": past.newest(),
        "mean_3h": three,
        "mean_6h": past.recent(6 * hour),
        "mean_1d": one,
        "mean_7d": seven,
        "mean_28d": month,
        "trend_3h": _ratio(three, past.recent(3 * hour, back=week)),
        "trend_1d": _ratio(one, past.recent(day, back=week)),
        "trend_7d": _ratio(seven, month),
        "trend_14d": _ratio(seven, past.recent(week, back=week)),
    }


def _same_slot(past: _Past, layout: Layout, local: Ints, day_off: NDArray[Any], trend: Floats) -> dict[str, Floats]:
    """Statistics of the same time of day over four weeks, and of the same time of the week over eight."""
    days = layout.first_day + np.arange(MONTH_DAYS)
    daily = past.lags(days)
    weekly = past.lags(layout.first_week + WEEK_DAYS * np.arange(WEEKS))
    then = (local // DAY)[:, None] - days
    then_off = ((then + 3) % WEEK_DAYS >= 5) | np.isin(then, layout.holidays)
    alike = _mean(np.where(then_off == day_off[:, None], daily, np.nan))
    four, month = _mean(weekly[:, :4]), _mean(daily)
    return {
        "slot_mean_7d": _mean(daily[:, :WEEK_DAYS]),
        "slot_min_7d": np.fmin.reduce(daily[:, :WEEK_DAYS], axis=1),
        "slot_max_7d": np.fmax.reduce(daily[:, :WEEK_DAYS], axis=1),
        "slot_mean_28d": month,
        "slot_std_28d": _deviation(daily, month),
        "week_mean_4": four,
        "week_mean_8": _mean(weekly),
        "week_median_4": _median(weekly[:, :4]),
        "week_around": past.around(layout.first_week, layout.hour),
        "alike_mean_28d": alike,
        "alike_scaled": alike * trend,
        "week_scaled": four * trend,
    }


def _ratio(above: Floats, below: Floats) -> Floats:
    usable = below > 0
    return np.where(usable, np.clip(above / np.where(usable, below, 1.0), 0.0, STEEPEST), np.nan)


def _mean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _deviation(values: Floats, mean: Floats) -> Floats:
    return np.sqrt(_mean((values - mean[:, None]) ** 2))


def _median(values: Floats) -> Floats:
    ordered = np.sort(values, axis=1)
    count = (~np.isnan(values)).sum(axis=1)
    row = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    middle: Floats = (ordered[row, low] + ordered[row, high]) / 2
    return middle
