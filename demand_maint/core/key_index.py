"""Where a key is: sorted runs, the newest appended for nothing as long as time goes forward."""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.round_keys import Keys, RoundKeys
from demand_maint.core.rounds import Rhythm
from demand_maint.core.row_state import grown

__all__ = ["KeyIndex", "ascending_keys", "in_turns", "make_keys", "split_keys"]

_RUNS = 6
Rows = NDArray[np.int64]


def make_keys(place: NDArray[np.uint32], slot: NDArray[np.int64]) -> Keys:
    """One number per (place, slot): the slot's epoch second above, the place code below, so that keys sort by time."""
    keys = slot << 32
    keys |= place
    return keys.view(np.uint64)


def ascending_keys(
    place: NDArray[np.uint32], slot: NDArray[np.int64], rhythm: Rhythm | None = None
) -> Keys | RoundKeys | None:
    """Keys where each is above the one before it, ``None`` elsewhere; `rhythm` is that of the rows where known."""
    if rhythm is None:
        keys = make_keys(place, slot)
        return keys if (keys[1:] > keys[:-1]).all() else None
    places, slots = rhythm.places, rhythm.one_each(slot)
    if not ((places[1:] > places[:-1]).all() and (slots[1:] > slots[:-1]).all()):
        return None
    return RoundKeys(slots.copy(), places, rhythm.begun, len(slot))


def split_keys(keys: Keys) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Place codes and slots of `keys`."""
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), (keys >> np.uint64(32)).astype(np.int64)


def in_turns(
    keys: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """Return the keys, ascending, each once; and events with the position of their key, turn by turn, no key twice in a turn."""
    if (keys[1:] > keys[:-1]).all():
        everything = np.arange(len(keys))
        return keys, [(everything, everything)]
    order = np.argsort(keys, kind="stable")
    unique, starts = np.unique(keys[order], return_index=True)
    group = np.repeat(np.arange(len(unique)), np.diff(starts, append=len(order)))
    rank = np.arange(len(order)) - starts[group]
    turns = []
    for turn in range(int(rank.max()) + 1):
        here = rank == turn
        turns.append((order[here], group[here]))
    return unique, turns


class KeyIndex:
    """Rows by unique key.

    Notes
    -----
    A log-structured merge: appending keys above all known ones extends the last run in place; others open a new run, and
    runs are merged once there are more than a few. Look-ups of sorted keys cost a few tens of nanoseconds each. Keys of rounds
    are not written out as long as nothing else comes between.
    """

    __slots__ = ("_room", "_runs")

    def __init__(self) -> None:
        # (keys, rows, used): rows is None where row == position + first row
        self._runs: list[_Run] = []
        self._room = 0

    @property
    def newest(self) -> int:
        """Highest key, -1 where there is none."""
        return max((run.last for run in self._runs), default=-1)

    @property
    def oldest(self) -> int:
        """Lowest key, -1 where there is none."""
        return min((run.first for run in self._runs), default=-1)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and rows in use."""
        return sum(run.nbytes for run in self._runs)

    def reserve(self, rows: int) -> None:
        """Expect this many keys in all."""
        self._room = rows

    def append(self, keys: Keys | RoundKeys, first: int) -> None:
        """Add `keys`, ascending and not yet known, for the rows from `first` on."""
        if not len(keys):
            return
        lowest = keys.first if isinstance(keys, RoundKeys) else int(keys[0])
        last = self._runs[-1] if self._runs else None
        if last is not None and lowest > last.last and last.end == first and last.extend(keys, self._room):
            return
        run = _Run(first)
        run.extend(keys, 0 if self._runs else self._room)
        self._runs.append(run)
        if len(self._runs) > _RUNS:
            self._merge()

    def find(self, keys: Keys) -> Rows:
        """Row of each of `keys`, -1 where unknown; quickest where they are sorted."""
        out = np.full(len(keys), -1, dtype=np.int64)
        if not len(keys):
            return out
        low, high = int(keys.min()), int(keys.max())
        for run in self._runs:
            if low <= run.last and high >= run.first:
                run.find(keys, out)
        return out

    def stretch(self, keys: Keys | RoundKeys) -> slice | None:
        """Rows of ascending `keys` where they follow each other as the keys do; ``None`` elsewhere."""
        keys = _written(keys)
        low, high = int(keys[0]), int(keys[-1])
        for run in self._runs:
            if run.first <= low and high <= run.last and run.end >= 0:
                start = run.stretch(keys)
                return None if start < 0 else slice(run.begin + start, run.begin + start + len(keys))
        return None

    def row_of(self, key: int) -> int:
        """Row of one key, -1 where unknown."""
        for run in self._runs:
            if run.first <= key <= run.last:
                row = run.row_of(key)
                if row >= 0:
                    return row
        return -1

    def frozen(self) -> "KeyIndex":
        """Return the keys there are now; what this index is given later is not seen there."""
        twin = KeyIndex()
        twin._runs = [run.twin() for run in self._runs]
        return twin

    def between(self, low: int, high: int) -> tuple[Rows, Keys]:
        """Rows and keys in [`low`, `high`), by key."""
        parts = [run.between(low, high) for run in self._runs]
        if len(parts) == 1:
            return parts[0][1], parts[0][0]
        keys = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype=np.uint64)
        rows = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        return rows[order], keys[order]

    def newest_keys(self, count: int) -> Keys:
        """Return the `count` highest keys, ascending."""
        parts = [run.written(max(run.used - count, 0), run.used) for run in self._runs]
        return np.sort(np.concatenate(parts))[-count:] if parts else np.empty(0, dtype=np.uint64)

    def _merge(self) -> None:
        """Merge the small runs; the largest joins when they have grown to half of it."""
        runs = sorted(self._runs, key=lambda run: run.used, reverse=True)
        rest = sum(run.used for run in runs[1:])
        kept = [] if rest * 2 > runs[0].used else runs[:1]
        merge = runs[len(kept) :]
        keys = np.concatenate([run.written(0, run.used) for run in merge])
        rows = np.concatenate([run.rows() for run in merge])
        order = np.argsort(keys, kind="stable")
        merged = _Run(0, rows[order])
        merged.extend(keys[order])
        self._runs = [*kept, merged]


def _written(keys: Keys | RoundKeys) -> Keys:
    """Return keys one by one."""
    return keys.written(0, len(keys)) if isinstance(keys, RoundKeys) else keys


class _Run:
    """Sorted keys and their rows."""

    __slots__ = ("_rows", "begin", "first", "keys", "last", "used")

    def __init__(self, begin: int, rows: Rows | None = None) -> None:
        # those of rounds, or written out, with room for more
        self.keys: Keys | RoundKeys = np.empty(0, dtype=np.uint64)
        self._rows = rows
        self.begin = begin
        self.used = 0
        self.first = self.last = -1

    @property
    def end(self) -> int:
        """Row that the next key of this run would have, -1 where rows are not consecutive."""
        return self.begin + self.used if self._rows is None else -1

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and rows in use."""
        keys = self.keys.nbytes if isinstance(self.keys, RoundKeys) else 8 * self.used
        return keys + (0 if self._rows is None else 8 * self.used)

    def extend(self, keys: Keys | RoundKeys, room: int = 0) -> bool:
        """Add ascending keys above all there are, where they may stand here; `room` are to be expected in all."""
        need = self.used + len(keys)
        if isinstance(keys, RoundKeys) and not self.used:
            self.keys = keys
        elif isinstance(self.keys, RoundKeys):
            both = self.keys.followed_by(keys) if isinstance(keys, RoundKeys) else None
            if both is None:
                return False
            self.keys = both
        elif isinstance(keys, RoundKeys) and len(keys) > self.used:  # many rounds behind a few keys stay rounds
            return False
        else:
            if need > len(self.keys):
                self.keys = grown(self.keys, self.used, max(need, room, self.used + self.used // 2, 1024))
            self.keys[self.used : need] = _written(keys)
        self.used = need
        self.first, self.last = (int(self.written(at, at + 1)[0]) for at in (0, need - 1))
        return True

    def twin(self) -> "_Run":
        """Return the same; what this one is given later is not seen there (quicker than `copy`)."""
        twin: _Run = object.__new__(_Run)
        twin.keys, twin._rows, twin.begin = self.keys, self._rows, self.begin
        twin.used, twin.first, twin.last = self.used, self.first, self.last
        return twin

    def rows(self) -> Rows:
        return self._rows if self._rows is not None else np.arange(self.begin, self.begin + self.used, dtype=np.int64)

    def written(self, start: int, stop: int) -> Keys:
        """Keys `start` to `stop`."""
        return self.keys.written(start, stop) if isinstance(self.keys, RoundKeys) else self.keys[start:stop]

    def stretch(self, keys: Keys) -> int:
        """Return where `keys` stand one after the other, -1 where they do not."""
        start = int(self._search(keys[:1])[0])
        found = self.written(start, min(start + len(keys), self.used))
        return start if len(found) == len(keys) and (found == keys).all() else -1

    def find(self, keys: Keys, out: Rows) -> None:
        start = self.stretch(keys)
        if start >= 0:  # the same places reported then as now
            at = np.arange(start, start + len(keys))
            out[:] = at + self.begin if self._rows is None else self._rows[at]
            return
        at = self._search(keys)
        at[at == self.used] = 0
        hit = self.keys.take(at) == keys
        found = at[hit]
        out[hit] = found + self.begin if self._rows is None else self._rows[found]

    def row_of(self, key: int) -> int:
        if isinstance(self.keys, RoundKeys):
            at = self.keys.position(key)
            return self.begin + at if at >= 0 else -1
        at = int(self.keys[: self.used].searchsorted(np.uint64(key)))
        if self.keys[at] != key:
            return -1
        return self.begin + at if self._rows is None else int(self._rows[at])

    def between(self, low: int, high: int) -> tuple[Keys, Rows]:
        a, b = self._search(np.array([low, high], dtype=np.uint64)).tolist()
        rows = np.arange(self.begin + a, self.begin + b) if self._rows is None else self._rows[a:b]
        return self.written(a, b), rows

    def _search(self, keys: Keys) -> NDArray[np.intp]:
        """How many there are below each of `keys`."""
        return (self.keys if isinstance(self.keys, RoundKeys) else self.keys[: self.used]).searchsorted(keys)
