"""What a line-up remembers, and its bytes.

Format 3: msgpack of `_Stored` and its crc32, 4 bytes. Older states do not tell which truth they left out; they are rebuilt from the
journal.
"""

import zlib
from dataclasses import dataclass, field

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.left_out import LeftOut, Stretch
from demand_maint.core.sampling import DaySums, PairedDays
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.errors import DamagedRegistryError, NewerFormatError

__all__ = [
    "ACTUAL",
    "CALIBRATED_REGRET",
    "FIELDS",
    "FORECAST",
    "LOSS",
    "REFERENCE",
    "REGRET",
    "SERVED",
    "Levels",
    "LineUpState",
    "N",
    "Seat",
    "dump",
    "load",
]

# the fields of a version's sums: rows, |raw - actual|, |served - actual| on the same rows, regrets of the raw and the calibrated
# forecast (`weighing.regret`), actual, forecast
FIELDS = 7
N, LOSS, REFERENCE, REGRET, CALIBRATED_REGRET, ACTUAL, FORECAST = range(FIELDS)
SERVED = 0  # the slot of what was served, whoever made it; it has the first two fields

LINE_UP_FORMAT = 3
KEPT_ERAS = 100
TINY = 1e-9
FrozenRow = tuple[dict[Member, float], dict[int, float]]
Levels = tuple[tuple[int, ...], NDArray[np.float32]]


class Seat(Struct, frozen=True, kw_only=True):
    """A version's place in the sums, and where it started.

    Parameters
    ----------
    slot
        Its slot in the sums.
    day
        Local day it was seated.
    claim
        How much worse than what is served it is by its own out-of-sample figures, relative; 0 where it is not, or says nothing.
    actual, forecast
        Out-of-sample sums by place code its levels start from.
    """

    slot: int
    day: int
    claim: float = 0.0
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
        By place code: the row that stays in force.
    left_out
        Truth that counts nowhere.
    history
        Newest snapshots, oldest first.
    eras
        First snapshot number of each set of columns, oldest first: what a row's values mean, however late its truth.
    """

    sums: DaySums
    seats: dict[int, Seat] = field(default_factory=dict)
    columns: tuple[int, ...] = ()
    rows: int = 0
    rows_then: int = 0
    changed: bool = False
    frozen: dict[int, FrozenRow | None] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    history: list[ServingSnapshot] = field(default_factory=list)
    levels: dict[int, Levels] = field(default_factory=dict)
    eras: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

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
        if not self.eras or self.eras[-1][1] != snapshot.columns:
            self.eras = [*self.eras[-KEPT_ERAS:], (snapshot.number, snapshot.columns)]
        self.rows_then = self.rows
        self.changed = False

    def row_before(self, code: int, since: float) -> FrozenRow | None:
        """Weights and levels of a place in the newest snapshot made before `since`, or the oldest there is."""
        ordered = sorted(self.history, key=lambda snapshot: snapshot.at)
        if not ordered:
            return None
        chosen = next((snapshot for snapshot in reversed(ordered) if snapshot.at <= since), ordered[0])
        row = min(code, len(chosen.places))
        weights = {member: float(w) for member, w in zip(chosen.members, chosen.weights[row], strict=True)}
        return weights, {version: float(v) for version, v in zip(chosen.columns, chosen.levels[row], strict=True)}

    def pairs(self, champion: int, challenger: int) -> PairedDays:
        """Daily errors of two versions over the rows both predicted."""
        sums, seats = self.sums, self.seats
        if champion not in seats or challenger not in seats:
            empty = np.zeros(0)
            return PairedDays(np.zeros(0, dtype=np.int64), empty, empty, empty)
        slots = [[seats[version].slot] for version in (champion, challenger)]
        rows = sums.data[slots, [N, LOSS, REFERENCE]].sum(axis=3)
        n, reference = rows[:, 0].min(axis=0), rows[:, 2]
        # where one of them missed rows, both are scaled to the served error of the smaller set
        scale = np.ones_like(reference)
        np.divide(reference.min(axis=0), reference, out=scale, where=reference > TINY)
        loss = rows[:, 1] * scale
        return PairedDays(sums.day, loss[0], loss[1], n).select(n > 0.5)

    def levels_of(self, number: int) -> Levels | None:
        """Columns and levels of a snapshot; of one no longer kept the columns, with the oldest levels there are."""
        known = self.levels.get(number)
        if known is not None or not self.history or number > self.history[-1].number:
            return known
        columns = next((columns for first, columns in reversed(self.eras) if first <= number), None)
        if columns is None:
            return None
        oldest = self.history[0]
        table = np.ones((len(oldest.levels), len(columns)), dtype=np.float32)
        for position, version in enumerate(columns):
            if version in oldest.columns:
                table[:, position] = oldest.levels[:, oldest.columns.index(version)]
        return columns, table


class _Stored(Struct, array_like=True):
    # slots, fields, days of the window, places; `data` holds the newest days that have seen rows
    shape: tuple[int, int, int, int]
    used: int
    data: bytes
    newest: int | None
    oldest_seen: int | None
    too_old: int
    seats: dict[int, Seat]
    columns: tuple[int, ...]
    rows: int
    rows_then: int
    changed: bool
    frozen: list[tuple[int, list[tuple[Member, float]] | None, dict[int, float] | None]]
    left_out: dict[int, tuple[Stretch, ...]]
    doubted: dict[int, int]
    history: list[bytes]
    eras: list[tuple[int, tuple[int, ...]]]
    format: int = LINE_UP_FORMAT


def dump(state: LineUpState) -> bytes:
    """Bytes that `load` turns into an equal state."""
    sums, used = state.sums, int(state.sums.span)
    frozen = [
        (code, None if row is None else list(row[0].items()), None if row is None else row[1])
        for code, row in sorted(state.frozen.items())
    ]
    stored = _Stored(
        shape=(sums.data.shape[0], sums.fields, sums.days, sums.places),
        used=used,
        data=np.ascontiguousarray(sums.data[:, :, sums.days - used :], dtype="<f8").tobytes(),
        newest=sums.newest,
        oldest_seen=sums.oldest_seen,
        too_old=sums.too_old,
        seats=state.seats,
        columns=state.columns,
        rows=state.rows,
        rows_then=state.rows_then,
        changed=state.changed,
        frozen=frozen,
        left_out=dict(sorted(state.left_out.closed.items())),
        doubted=dict(sorted(state.left_out.since.items())),
        history=[snapshot.encode() for snapshot in state.history],
        eras=state.eras,
    )
    payload = msgspec.msgpack.encode(stored)
    return payload + zlib.crc32(payload).to_bytes(4, "little")


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
        if len(payload) < 4 or zlib.crc32(payload[:-4]).to_bytes(4, "little") != payload[-4:]:
            raise ValueError("its checksum is another")
        stored = msgspec.msgpack.decode(payload[:-4], type=_Stored)
        if stored.format > LINE_UP_FORMAT:
            raise NewerFormatError(
                f"Line-up state of format {stored.format}; this release reads {LINE_UP_FORMAT}. Update demand-maint here."
            )
        if stored.format < LINE_UP_FORMAT:
            raise ValueError(f"its format is {stored.format}, which does not tell what it left out")
        slots, fields, days, places = stored.shape
        sums = DaySums(fields, days)
        sums.data = np.zeros(stored.shape)
        used = np.frombuffer(stored.data, dtype="<f8").reshape(slots, fields, stored.used, places)
        sums.data[:, :, days - stored.used :] = used
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
                code: None if weights is None or levels is None else (dict(weights), levels)
                for code, weights, levels in stored.frozen
            },
            left_out=LeftOut(stored.left_out, stored.doubted),
            history=history,
            levels={snapshot.number: (snapshot.columns, snapshot.levels) for snapshot in history},
            eras=stored.eras,
        )
    except NewerFormatError:
        raise
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise DamagedRegistryError(f"No line-up state: {error}. It is rebuilt from the journal.") from error
