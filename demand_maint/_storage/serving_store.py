"""The serving snapshots of a root: what served values are explained by, and what rows of the journal name."""

from collections.abc import Iterator, Sequence

from demand_maint._storage.door import Door
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint.core.serving import ServingSnapshot
from demand_maint.errors import DemandMaintError
from demand_maint.log import get_logger

__all__ = ["KEPT_SNAPSHOTS", "newest_serving", "serving_store", "stored_serving"]

SERVING = "serving"
KEPT_SNAPSHOTS = 1000  # a value can be explained as long as its snapshot is kept: six weeks of hourly ones
KEPT_EVERY = 24  # of older ones about one a day stays: the report tells who served
_log = get_logger("serving")


def serving_store(door: Door) -> SnapshotStore:
    """Return where the serving snapshots of a root are."""
    return SnapshotStore(door, SERVING, KEPT_SNAPSHOTS, KEPT_EVERY)


def stored_serving(store: SnapshotStore, numbers: Sequence[int] | None = None) -> Iterator[ServingSnapshot]:
    """Read the snapshots of these `numbers`, or all there are, oldest first; those that cannot be read are left out."""
    for number in store.numbers() if numbers is None else numbers:
        try:
            payload = store.load(number)
            if payload is not None:
                yield ServingSnapshot.decode(payload)
        except DemandMaintError as error:
            _log.warning("a serving snapshot cannot be read", number=number, error=str(error))


def newest_serving(store: SnapshotStore) -> Iterator[ServingSnapshot]:
    """Read the newest ones, between which none is missing, and with it who sat then."""
    return stored_serving(store, store.numbers()[-store.keep :])
