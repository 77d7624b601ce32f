"""Keys of rows that come in rounds: a few numbers a round instead of one a row."""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.row_state import grown

__all__ = ["Keys", "RoundKeys"]

Keys = NDArray[np.uint64]


class RoundKeys:
    """Ascending keys of rounds over the same ascending places, not written out.

    Parameters
    ----------
    slots
        Slot of each round, ascending.
    places
        Place codes of a whole round, ascending.
    begun
        How many of these the first round leaves out.
    rows
        How many keys there are; of the last round the rest is left out.

    Examples
    --------
    >>> keys = RoundKeys(np.array([60, 120]), np.array([1, 5], dtype=np.uint32), 1, 3)
    >>> [(int(key) >> 32, int(key) & 0xFFFFFFFF) for key in keys.written(0, 3)]
    [(60, 5), (120, 1), (120, 5)]
    """

    __slots__ = ("_room", "_rows", "begun", "places", "slots")

    def __init__(self, slots: NDArray[np.int64], places: NDArray[np.uint32], begun: int, rows: int) -> None:
        self._room = self.slots = slots
        self.places, self.begun, self._rows = places, begun, rows

    def __len__(self) -> int:
        return self._rows

    @property
    def first(self) -> int:
        """The lowest of them."""
        return int(self.slots[0]) << 32 | int(self.places[self.begun])

    @property
    def nbytes(self) -> int:
        """Bytes they take."""
        return self.slots.nbytes + self.places.nbytes

    def followed_by(self, more: "RoundKeys") -> "RoundKeys | None":
        """Return these and `more` behind them as one, ``None`` where those do not go on where these end; to be asked for once."""
        turn = (self.begun + self._rows) % len(self.places)
        goes_on = more.begun == turn and (not turn or more.slots[0] == self.slots[-1])
        if not goes_on or not np.array_equal(self.places, more.places):
            return None
        used, new = len(self.slots), more.slots[1 if turn else 0 :]
        need, room = used + len(new), self._room
        if need > len(room):
            room = grown(room, used, max(need, used + used // 2, 64))
        room[used:need] = new
        both = RoundKeys(room[:need], self.places, self.begun, self._rows + len(more))
        both._room = room
        return both

    def written(self, start: int, stop: int) -> Keys:
        """Keys `start` to `stop`."""
        size = len(self.places)
        first, turn = divmod(start + self.begun, size)
        high = self.slots[first : (stop + self.begun - 1) // size + 1] << 32
        out = np.empty(max(stop - start, 0), dtype=np.int64)
        lead = min(-turn % size, len(out))
        if lead:
            out[:lead] = high[0] | self.places[turn : turn + lead]
            high = high[1:]
        whole = (len(out) - lead) // size
        np.bitwise_or(high[:whole, None], self.places, out=out[lead : lead + whole * size].reshape(whole, size))
        if rest := len(out) - lead - whole * size:
            out[-rest:] = high[-1] | self.places[:rest]
        return out.view(np.uint64)

    def take(self, at: NDArray[np.intp]) -> Keys:
        """Keys at these positions."""
        turn, place = np.divmod(at + self.begun, len(self.places))
        return (self.slots[turn] << 32 | self.places[place]).view(np.uint64)

    def position(self, key: int) -> int:
        """Where one key stands, -1 where it does not (quicker than `searchsorted`)."""
        slot, place = key >> 32, key & 0xFFFFFFFF
        turn, at = int(self.slots.searchsorted(slot)), int(self.places.searchsorted(place))
        if turn == len(self.slots) or at == len(self.places) or self.slots[turn] != slot or self.places[at] != place:
            return -1
        at += turn * len(self.places) - self.begun
        return at if 0 <= at < self._rows else -1

    def searchsorted(self, keys: Keys) -> NDArray[np.intp]:
        """How many there are below each of `keys`."""
        slot = (keys >> np.uint64(32)).astype(np.int64)
        turn = self.slots.searchsorted(slot)
        at = turn * len(self.places)
        here = self.slots.take(turn, mode="clip") == slot
        at[here] += self.places.searchsorted((keys[here] & np.uint64(0xFFFFFFFF)).astype(np.uint32))
        return (at - self.begun).clip(0, self._rows)
