"""How old versions go: hidden by one rename, looked at once more, then removed."""

from collections.abc import Callable

from demand_maint._storage.commits import CommitLog
from demand_maint._storage.versions import VersionStore
from demand_maint.log import get_logger

__all__ = ["retain"]

_log = get_logger("registry")


def retain(log: CommitLog, store: VersionStore, needed: Callable[[], set[int]], keep: int) -> list[int]:
    """Remove every version that is neither among the newest `keep` nor in `needed()`; tell which.

    A commit may name a version while it is being hidden, for a deploy asks nobody. So the head is read again after the
    rename; a version that became needed comes back, here or, after a crash in between, at the next start.
    """
    if log.head() is None:
        return []
    old = store.numbers()[: -max(keep, 1)]
    if not old:
        return []
    protected = needed()
    gone: list[int] = []
    for number in old:
        if number in protected:
            continue
        hidden = store.retire(number)
        if number in needed():
            store.restore(hidden, number)
            continue
        store.forget(hidden)
        gone.append(number)
    if gone:
        _log.info("versions retired", versions=gone)
    return gone
