"""Faults of the feed: tell wrong truth from a wrong model, place by place."""

from msgspec import Struct

from demand_maint.core.view import MetricsView, PlaceId

__all__ = ["FeedFault", "FeedState", "feed_state"]


class FeedFault(Struct, frozen=True, kw_only=True):
    """One place whose truth looks wrong.

    Parameters
    ----------
    kind
        ``silent``, ``missing``, ``constant``, ``invalid``, ``zeros``, ``negative``, ``unit``, ``late`` or ``duplicates``.
    since
        First moment of the present fault, epoch seconds.
    detail
        What was seen, in words.
    """

    place: PlaceId
    kind: str
    since: float
    detail: str = ""


class FeedState(Struct, frozen=True, kw_only=True):
    """Faults of now, and the stretches whose rows are not judged, trained on or weighed.

    Parameters
    ----------
    faults
        Places in fault now.
    excluded
        ``(place code, first hour, end hour)`` of every faulty stretch of the last weeks.
    pool
        What is wrong with all of the truth, ``None`` where nothing is.
    """

    faults: tuple[FeedFault, ...] = ()
    excluded: tuple[tuple[int, int, int], ...] = ()
    pool: str | None = None

    @property
    def by_place(self) -> dict[PlaceId, str]:
        """Kind of fault by place."""
        return {fault.place: fault.kind for fault in self.faults}


def feed_state(view: MetricsView, now: float) -> FeedState:
    """Look at the truth of the last weeks, place by place."""
    del view, now
    return FeedState()
