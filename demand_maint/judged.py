"""Who is judged: the champion, since when, and by what it has to be measured."""

from msgspec import Struct

from demand_maint._storage.history import reign_began
from demand_maint._storage.registry import Registry
from demand_maint.core.versions import Baseline
from demand_maint.log import get_logger

__all__ = ["Judged", "RegistryJudged"]

_log = get_logger("monitor")


class Judged(Struct, frozen=True):
    """The champion, the epoch second it was promoted, what it showed when it was new, and the features it needs."""

    champion: int | None = None
    since: float | None = None
    baseline: Baseline | None = None
    features: tuple[str, ...] = ()


class RegistryJudged:
    """Says what the registry's newest commit says; read again only when there is a newer one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: tuple[int | None, Judged] = (None, Judged())

    def __call__(self) -> Judged:
        """Return who is judged now."""
        head = self._registry.head()
        number = None if head is None else head.number
        if self._known[0] != number or number is None:
            judged = Judged()
            if head is not None:
                began = reign_began(self._registry.commits())
                judged = Judged(head.champion, began.at, head.baseline, self._features_of(head.champion))
            self._known = (number, judged)
        return self._known[1]

    def _features_of(self, version: int) -> tuple[str, ...]:
        try:
            return self._registry.version(version).metadata.features
        except Exception as error:  # a damaged version must not stop the figures
            _log.warning("champion_metadata_unreadable", version=version, reason=str(error))
            return ()
