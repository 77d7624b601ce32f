"""What a line-up remembers, and its bytes.

Format 1: zlib over msgpack of `_Stored`. There is nothing to upgrade from yet.
"""

import zlib
from dataclasses import dataclass, field

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.sampling import DaySums
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.errors import DamagedRegistryError, NewerFormatError

__all__ = [
    "ACTUAL",
    "CALIBRATED_LOSS",
    "FIELDS",
    "FORECAST",
    "LOSS",
    "REFERENCE",
    "SERVED",
    "LineUpState",
    "N",
    "Seat",
    "dump",
    "load",
]

# the fields of a version's sums: rows, |raw - actual|, |served - actual| on the same rows, |calibrated - actual|, actual, forecast
FIELDS = 6
N, LOSS, REFERENCE, CALIBRATED_LOSS, ACTUAL, FORECAST = range(FIELDS)
SERVED = 0  # the slot of what was served, whoever made it; it has the first two fields

LINE_UP_FORMAT = 1
FrozenRow = tuple[dict[Member, float], dict[int, float]]
Levels = tuple[tuple[int, ...], NDArray[np.float32]]


class Seat(Struct, frozen=True, kw_only=True):
    """A version's place in the sums, and where it started.

    Parameters
    ----------
    slot
        Its slot in the sums.
    day
        Local day it was seated; earlier days are imputed.
    ratio
        Expected error relative to the served one on those days; ``None`` for that of the models already there.
    actual, forecast
        Out-of-sample sums by place code its levels start from.
    """

    slot: int
    day: int
    ratio: float | None = None
    actual: list[float] = msgspec.field(default_factory=list)
    forecast: list[float] = msgspec.field(default_factory=list)


@dataclass(slots=True)
class LineUpState:
    """Everything a `LineUp` knows.

    Attributes
    ----------
    sums
        By (slot, field, day, place).
    seats
        Versions remembered, also of those that do not sit at the moment.
    columns
        Who sits: the champion first, the naive last.
    rows, rows_then
        Rows counted so far, and when the newest snapshot was made.
    changed
        Members or suspensions changed since then.
    frozen
        By place code: first day whose truth is not trusted, and the row that stays in force.
    history
        Newest snapshots, oldest first.
    """

    sums: DaySums
    seats: dict[int, Seat] = field(default_factory=dict)
    columns: tuple[int, ...] = ()
    rows: int = 0
    rows_then: int = 0
    changed: bool = False
    frozen: dict[int, tuple[int, FrozenRow | None]] = field(default_factory=dict)
    history: list[ServingSnapshot] = field(default_factory=list)
    levels: dict[int, Levels] = field(default_factory=dict)

    @property
    def latest(self) -> ServingSnapshot | None:
        """The newest snapshot."""
        return self.history[-1] if self.history else None

    def remember(self, snapshot: ServingSnapshot, keep: int) -> None:
        """Make `snapshot` the newest; older ones than the last `keep` are forgotten."""
        self.history.append(snapshot)
        self.levels[snapshot.number] = (snapshot.columns, snapshot.levels)
        while len(self.history) > keep:
            del self.levels[self.history.pop(0).number]
        self.rows_then = self.rows
        self.changed = False


class _Stored(Struct, array_like=True):
    shape: tuple[int, int, int, int]
    data: bytes
    valid: bytes
    newest: int | None
    oldest_seen: int | None
    too_old: int
    seats: dict[int, Seat]
    columns: tuple[int, ...]
    rows: int
    rows_then: int
    changed: bool
    frozen: list[tuple[int, int, list[tuple[Member, float]] | None, dict[int, float] | None]]
    history: list[bytes]
    format: int = LINE_UP_FORMAT


def dump(state: LineUpState) -> bytes:
    """Bytes that `load` turns into an equal state."""
    sums = state.sums
    frozen = [
        (code, since, None if row is None else list(row[0].items()), None if row is None else row[1])
        for code, (since, row) in sorted(state.frozen.items())
    ]
    stored = _Stored(
        shape=(sums.data.shape[0], sums.fields, sums.days, sums.places),
        data=sums.data.astype("<f8").tobytes(),
        valid=np.packbits(sums.valid).tobytes(),
        newest=sums.newest,
        oldest_seen=sums.oldest_seen,
        too_old=sums.too_old,
        seats=state.seats,
        columns=state.columns,
        rows=state.rows,
        rows_then=state.rows_then,
        changed=state.changed,
        frozen=frozen,
        history=[snapshot.encode() for snapshot in state.history],
    )
    return zlib.compress(msgspec.msgpack.encode(stored), 1)


def load(payload: bytes) -> LineUpState:
    """Read what `dump` wrote.

    Raises
    ------
    DamagedRegistryError
        Not an encoded line-up.
    NewerFormatError
        Written by a newer release.
    """
    try:
        stored = msgspec.msgpack.decode(zlib.decompress(payload), type=_Stored)
        if stored.format > LINE_UP_FORMAT:
            raise NewerFormatError(
                f"Line-up state of format {stored.format}; this release reads {LINE_UP_FORMAT}. Update demand-maint here."
            )
        _, fields, days, places = stored.shape
        sums = DaySums(fields, days)
        sums.data = np.frombuffer(stored.data, dtype="<f8").astype(np.float64).reshape(stored.shape)
        bits = np.unpackbits(np.frombuffer(stored.valid, dtype=np.uint8), count=days * places)
        sums.valid = bits.astype(bool).reshape(days, places)
        sums.newest, sums.oldest_seen, sums.too_old = stored.newest, stored.oldest_seen, stored.too_old
        history = [ServingSnapshot.decode(blob) for blob in stored.history]
        return LineUpState(
            sums=sums,
            seats=stored.seats,
            columns=stored.columns,
            rows=stored.rows,
            rows_then=stored.rows_then,
            changed=stored.changed,
            frozen={
                code: (since, None if weights is None or levels is None else (dict(weights), levels))
                for code, since, weights, levels in stored.frozen
            },
            history=history,
            levels={snapshot.number: (snapshot.columns, snapshot.levels) for snapshot in history},
        )
    except NewerFormatError:
        raise
    except (ValueError, TypeError, zlib.error, msgspec.MsgspecError) as error:
        raise DamagedRegistryError(f"No line-up state: {error}. It is rebuilt from the journal.") from error
