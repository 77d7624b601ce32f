"""Who asks for seasonal-naive forecasts while others count gets them from the newest finished view."""

from collections.abc import Callable, Mapping

from demand_maint._storage.observation_store import ObservationStore
from demand_maint.core.left_out import Stretch
from demand_maint.core.naive_view import NaiveView
from demand_maint.core.serving import ServingSnapshot

__all__ = ["NaiveAnswers"]


class NaiveAnswers:
    """Keeps the newest view of a store; whoever calls a method holds the monitor's lock.

    Parameters
    ----------
    store
        What was counted.
    left_out
        By place code, stretches whose truth forecasts nothing, as the line-up of a process that looks at the feed knows them.
    """

    def __init__(self, store: ObservationStore, left_out: Callable[[], Mapping[int, tuple[Stretch, ...]]]) -> None:
        self._store, self._left_out = store, left_out
        self._told: dict[int | str, tuple[Stretch, ...]] = {}
        self._generation = -1
        self.view: NaiveView | None = None

    def renew(self, *, changed: bool = False) -> None:
        """Show what was counted, where that is other than before or what it counts for has `changed`."""
        store = self._store
        if store.loaded and (changed or self._generation != store.metrics.generation):
            self._generation = store.metrics.generation
            codes = store.drain_reader.known_codes
            left_out = dict(self._left_out())
            for place, stretches in self._told.items():
                if place in codes:
                    left_out[codes[place]] = (*left_out.get(codes[place], ()), *stretches)
            self.view = NaiveView(store.buffer, codes, left_out)

    def heed(self, snapshot: ServingSnapshot) -> None:
        """Leave out what somebody else's snapshot does: a process that follows does not look at the feed itself."""
        told: dict[int | str, tuple[Stretch, ...]] = {}
        for code, first, end in snapshot.left_out:
            place = snapshot.places[code]
            told[place] = (*told.get(place, ()), (first, end))
        if told != self._told:
            self._told = told
            self.renew(changed=True)
