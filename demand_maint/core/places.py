"""Which places got worse, while the pool hides them.

One venue of twenty that doubles its error moves the pool by 5 %. So each place is compared with what the other places did on
the same days and with its own past: what is common to all (a storm, a holiday) cancels, what is left is the place's own. The
last 2, 3, 7 and 14 days are tested against the weeks before, and the false-discovery rate over all places is controlled.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.fdr import adjusted_p_values, normal_tail
from demand_maint.core.feed import FeedState
from demand_maint.core.view import DAY, HOUR, Floats, MetricsView, PlaceId, local_days

__all__ = ["PlaceHealth", "PlaceTest", "place_health", "place_test"]

#: Days tested, and days they are compared with.
TEST_DAYS = 14
REFERENCE_DAYS = 28
LEAST_REFERENCE = 7
#: Spans tested, days; each is one more chance for luck and is paid for.
SPANS = (2, 3, 7, 14)
#: Power of the place's own seasonal-naive error in what a day deserved; the rest is what all places share.
NAIVE_POWER = 0.3
#: Log change that is no drift, and what one odd day may add, standard deviations.
MARGIN = 0.05
CLIP = 4.0
#: Days that the usual noise of all places weighs in a place's own.
PRIOR_DAYS = 10.0
_FIELDS = ("n", "abs_error", "naive_n", "naive_abs_error")
#: Places shown that are not drifting.
SHOWN = 5


class PlaceHealth(Struct, frozen=True, kw_only=True):
    """One place's own figures, against what the other places and its own past let expect.

    Parameters
    ----------
    n, mae, baseline_mae, degradation
        Over the last `days`, the span in which the change shows best.
    p_value
        Chance of so much worse without a cause, adjusted for all places looked at.
    drifting
        Named, with the false-discovery rate of the policy under control.
    """

    place: PlaceId
    n: int
    mae: float | None = None
    baseline_mae: float | None = None
    degradation: float | None = None
    p_value: float = 1.0
    drifting: bool = False
    days: int = 0


class PlaceTest(Struct, frozen=True):
    """Per place (P,): adjusted p-value, span in days, and log change over it; NaN where a place cannot be tested."""

    p_values: Floats
    spans: NDArray[np.int64]
    change: Floats


def place_health(
    view: MetricsView,
    now: float,
    champion: int | None,
    since: float | None,
    feed: FeedState,
    false_discovery_rate: float,
) -> tuple[PlaceHealth, ...]:
    """Return the places that drift and the worst of the others, the surest first."""
    _, edges = local_days(view.grid, now - (TEST_DAYS + REFERENCE_DAYS) * DAY, now)
    begun = -np.inf if since is None or champion is None else since
    tested = int((edges[:-1] * HOUR >= begun)[-TEST_DAYS:].sum())
    if len(edges) - 1 < LEAST_REFERENCE + 2 or tested < 2:
        return ()
    split = len(edges) - 1 - tested
    blocks = _blocks(view, edges, split, champion)
    if len(blocks["n"]) < 2:
        return ()
    for place, first, last in feed.excluded:
        if place < len(blocks["n"]):
            blocks["n"][place, (edges[:-1] < last) & (edges[1:] > first)] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(blocks["n"] > 0, blocks["abs_error"] / blocks["n"], np.nan)
        naive = np.where(blocks["naive_n"] > 0, blocks["naive_abs_error"] / blocks["naive_n"], np.nan)
    test = place_test(error, naive, tested)
    return _listed(view, blocks, test, false_discovery_rate)


def place_test(error: Floats, naive: Floats, tested: int) -> PlaceTest:
    """Test the last `tested` days of each place.

    Parameters
    ----------
    error, naive
        Daily mean absolute error of the model and of the seasonal-naive forecast, (P, D); NaN where there is none.
    """
    places, days = error.shape
    nothing = PlaceTest(np.full(places, np.nan), np.zeros(places, dtype=np.int64), np.full(places, np.nan))
    split = days - tested
    quiet = _own_share(error, naive, split)
    finite = np.isfinite(quiet)
    known = finite[:, :split].sum(axis=1)
    usable = known >= LEAST_REFERENCE
    if usable.sum() < 2:
        return nothing
    quiet, finite, count = quiet[usable], finite[usable], known[usable]
    residual = quiet - _middle(quiet[:, :split], count, 0.05)[:, None]
    reference = residual[:, :split]
    spread = 1.2533 * _mean(np.abs(reference), finite[:, :split], count)
    ordered, last = np.sort(spread), len(spread) - 1
    usual = 0.5 * float(ordered[last // 2] + ordered[(last + 1) // 2])
    scale = np.sqrt((count * spread**2 + PRIOR_DAYS * usual**2) / (count + PRIOR_DAYS))
    scale = np.maximum(scale, 0.02)[:, None]
    scale *= _widening(reference / scale)
    there, worse = finite[:, split:], residual[:, split:]
    z = np.minimum(np.maximum((worse - MARGIN) / scale, -CLIP), CLIP)
    # sums over the last 1, 2, 3 and more days
    numbers = there[:, ::-1].cumsum(axis=1)
    sums, totals = (np.where(there, values, 0.0)[:, ::-1].cumsum(axis=1) for values in (z, worse))
    spans = np.array([span for span in SPANS if span <= tested])
    seen = numbers[:, spans - 1]
    with np.errstate(invalid="ignore"):
        scores = sums[:, spans - 1] / np.sqrt(seen + seen**2 / count[:, None])
    scores[seen < np.minimum(2, spans)] = -np.inf
    best, rows = scores.argmax(axis=1), np.arange(len(z))
    top, chosen = scores[rows, best], spans[best]
    p_values = np.where(np.isfinite(top), np.minimum(len(spans) * normal_tail(np.maximum(top, -9.0)), 1.0), 1.0)
    change = totals[rows, chosen - 1] / np.maximum(numbers[rows, chosen - 1], 1)
    nothing.p_values[usable] = adjusted_p_values(p_values)
    nothing.spans[usable] = chosen
    nothing.change[usable] = change
    return nothing


def _own_share(error: Floats, naive: Floats, split: int) -> Floats:
    """Log error that is the place's own (P, D): without its naive error's part and without what the other places share."""
    logs = np.log(np.where(error > 0, error, np.nan))
    reference = np.log(np.where(naive > 0, naive, np.nan))
    with np.errstate(all="ignore"):
        usual = _rowwise_median(reference)
        reference = np.where(np.isfinite(reference), reference, usual[:, None])
        quiet = logs - NAIVE_POWER * np.where(np.isfinite(reference), reference, 0.0)
        level = _rowwise_median(quiet[:, :split])
        shared = _rowwise_median((quiet - level[:, None]).T)
    own: Floats = quiet - np.where(np.isfinite(shared), shared, 0.0)
    return own


def _rowwise_median(values: Floats) -> Floats:
    """Median of each row's numbers, NaN for a row without one (quicker than numpy's, and silent)."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    low = ordered[rows, np.maximum((count - 1) // 2, 0)]
    high = ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    middle: Floats = np.where(count > 0, 0.5 * (low + high), np.nan)
    return middle


def _mean(values: Floats, known: NDArray[np.bool_], count: NDArray[np.int64]) -> Floats:
    """Mean of each row's `count` known values (quicker than numpy's)."""
    mean: Floats = np.where(known, values, 0.0).sum(axis=1) / count
    return mean


def _middle(values: Floats, count: NDArray[np.int64], share: float) -> Floats:
    """Mean of each row's `count` numbers with its extremes drawn in to the quantiles `share` and 1 - `share`."""
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    low = ordered[rows, np.minimum((share * count).astype(np.int64), values.shape[1] - 1)]
    high = ordered[rows, np.maximum(((1 - share) * (count - 1)).astype(np.int64), 0)]
    drawn_in = np.minimum(np.maximum(values, low[:, None]), high[:, None])
    return _mean(drawn_in, np.isfinite(values), count)


def _widening(standard: Floats) -> float:
    """Return how much wider sums of days are than independent ones, from the pooled autocorrelation of one day."""
    near = np.minimum(np.maximum(standard, -2.5), 2.5)
    persistence = float(np.nanmean(near[:, 1:] * near[:, :-1])) if near.shape[1] > 1 else 0.0
    persistence = min(max(persistence if np.isfinite(persistence) else 0.0, 0.0), 0.6)
    return float(np.sqrt((1 + persistence) / (1 - persistence)))


def _blocks(view: MetricsView, edges: NDArray[np.int64], split: int, champion: int | None) -> dict[str, Floats]:
    """Daily sums (P, D): the champion's own where it is tested, everybody's before."""
    everyone = view.sums.blocks_by_place(
        edges[: split + 1] if champion is not None else edges, None, _FIELDS, keep=True
    )
    if champion is None:
        return {name: values.copy() for name, values in everyone.items()}
    own = view.sums.blocks_by_place(edges[split:], champion, _FIELDS, keep=True)
    return {name: np.concatenate([everyone[name], own[name]], axis=1) for name in everyone}


def _listed(
    view: MetricsView, blocks: Mapping[str, Floats], test: PlaceTest, false_discovery_rate: float
) -> tuple[PlaceHealth, ...]:
    usable = np.flatnonzero(np.isfinite(test.p_values))
    order = usable[np.lexsort((-test.change[usable], test.p_values[usable]))]
    drifting = test.p_values[order] <= false_discovery_rate
    shown = order[: int(drifting.sum()) + SHOWN]
    found = []
    for place, named in zip(shown.tolist(), drifting.tolist(), strict=False):
        span = int(test.spans[place])
        n = float(blocks["n"][place, -span:].sum())
        mae = float(blocks["abs_error"][place, -span:][blocks["n"][place, -span:] > 0].sum()) / n if n > 0 else None
        worse = float(np.expm1(test.change[place]))
        found.append(
            PlaceHealth(
                place=view.places[place],
                n=int(n),
                mae=mae,
                baseline_mae=mae / (1 + worse) if mae is not None else None,
                degradation=worse,
                p_value=float(test.p_values[place]),
                drifting=named,
                days=span,
            )
        )
    return tuple(found)
