"""One place of many doubles its error: how soon it is named, and how many names are wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.places import REFERENCE_DAYS, TEST_DAYS, place_test

__all__ = ["place_days_in_control", "place_scores"]

Floats = NDArray[np.float64]
RATE = 0.1


def place_days_in_control(
    places: int, days: int, rows_a_day: int, rng: np.random.Generator, *, persistence: float = 0.6
) -> tuple[Floats, Floats]:
    """Daily error of model and seasonal-naive forecast (P, D): a shared season and AR(1) difficulty, and each place's own."""
    day = np.arange(days) + rng.integers(0, 365)
    scale = (1 + 0.25 * np.sin(2 * np.pi * day / 365)) * np.where(day % 7 >= 5, 1.2, 1.0)

    def difficulty(count: int, spread: float) -> Floats:
        noise = rng.normal(size=(count, days))
        for i in range(1, days):
            noise[:, i] = persistence * noise[:, i - 1] + np.sqrt(1 - persistence**2) * noise[:, i]
        return spread * noise

    hard = difficulty(1, 0.12) + difficulty(places, 0.10)
    size = np.exp(rng.normal(0, 0.7, (places, 1)))
    spread = 0.8 / np.sqrt(max(rows_a_day / 3.0, 1.0))

    def sampled() -> Floats:
        return np.exp(rng.normal(0, spread, (places, days)) - spread**2 / 2)

    error = size * scale * np.exp(hard) * sampled()
    naive = 1.25 * size * scale * np.exp(0.7 * hard + 0.1 * rng.normal(size=(places, days))) * sampled()
    return error, naive


def place_scores(*, full: bool) -> dict[str, Any]:
    """Return days until the place is named, false-discovery rate, and how the pool hides it."""
    rng = np.random.default_rng(5)
    runs, places, width = (200 if full else 30), 20, TEST_DAYS + REFERENCE_DAYS
    first, false_share, change, pool, quiet = [], [], [], [], []
    for number in range(runs):
        error, naive = place_days_in_control(places, width + 10, 24, rng)
        sick = number % places
        error[sick, width:] *= 2.0
        named_at = np.inf
        for day in range(1, 11):
            test = place_test(error[:, day : width + day], naive[:, day : width + day], TEST_DAYS)
            named = np.flatnonzero(test.p_values <= RATE)
            false_share.append(float(np.mean(named != sick)) if len(named) else 0.0)
            if sick in named and not np.isfinite(named_at):
                named_at = day
                change.append(float(np.expm1(test.change[sick])))
        first.append(named_at)
        pool.append(float(error[:, width : width + 7].sum() / error[:, width - 28 : width].sum() * 4 - 1))
        calm, calm_naive = place_days_in_control(places, width, 24, rng)
        quiet.append(bool((place_test(calm, calm_naive, TEST_DAYS).p_values <= RATE).any()))
    found = {
        "median days until the doubled place is named": float(np.median(first)),
        "named within 10 days": float(np.mean(np.array(first) <= 10)),
        "false-discovery rate": float(np.mean(false_share)),
        "days with any name where nothing happened": float(np.mean(quiet)),
        "the pool moved by (median)": float(np.median(pool)),
        "the named place was said to have moved by (median)": float(np.median(change)),
    }
    missed = []
    if found["median days until the doubled place is named"] > 3:
        missed.append(f"one place of 20: named after a median of {np.median(first):g} days, at most 3 wanted")
    if found["false-discovery rate"] > RATE:
        missed.append(
            f"one place of 20: false-discovery rate {found['false-discovery rate']:.2f}, at most {RATE} wanted"
        )
    return found | {"misses": missed}
