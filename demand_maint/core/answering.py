"""The arithmetic of one predict call: every member on the same rows, nonsense left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.schema import FeatureSchema
from demand_maint.core.serving import Member, Mixer
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Commit, FileHashes

__all__ = [
    "Prediction",
    "Predictor",
    "RegistryLike",
    "RoundStamps",
    "Seated",
    "ServedJournal",
    "ServingState",
    "raw_values",
    "served_alone",
    "spread",
]

NONSENSE = 1e4  # a member this much larger than the line-up's median is no forecast
HUGE = 1e30
_NAN = float("nan")
Floats = NDArray[np.float64]
Values = NDArray[np.float32]
Slots = NDArray[np.int64]


class Predictor(Protocol):
    """What a member has to be able to do."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Features in the order of the columns."""

    def predict(self, rows: Values) -> Floats:
        """Predict (n, F) float32 rows."""


class ServedJournal(Protocol):
    """Where served rows are written down."""

    def log_served(
        self,
        places: Sequence[Any],
        timestamps: Floats,
        served: Floats,
        members: Values,
        snapshot: int,
        features: Values | None,
        *,
        champion: Floats | None = None,
    ) -> None:
        """Keep rows: `members` (n, K) are raw values in the order of the snapshot's columns, the champion first."""

    def set_version(self, number: int, features: Sequence[str] | None = None) -> None:
        """Stamp this champion into records from now on; `features` name its feature rows."""


class RegistryLike(Protocol):
    """What the handle needs of the registry."""

    def head(self) -> Commit | None:
        """Newest commit."""

    def hashes(self, number: int) -> FileHashes:
        """Return the committed hashes of a version."""

    def model_bytes(self, number: int) -> bytes:
        """Return the verified bytes of a version."""


@dataclass(frozen=True, slots=True, eq=False)
class Seated:
    """A loaded version; `schema` is ``None`` where it shares the champion's."""

    version: int
    model: Predictor
    schema: FeatureSchema | None


@dataclass(frozen=True, slots=True, eq=False)
class ServingState:
    """Everything a prediction depends on, as one immutable value."""

    version: int
    commit: int
    schema: FeatureSchema
    seated: tuple[Seated, ...]
    mixer: Mixer | None = None
    # by column of the snapshot: the model that fills it, None for the naive and for models that could not be loaded
    columns: tuple[Seated | None, ...] = ()

    @property
    def champion(self) -> Predictor:
        """The production model."""
        return self.seated[0].model

    @property
    def snapshot(self) -> int:
        """Number of the serving snapshot in force, 0 for none."""
        return self.mixer.snapshot.number if self.mixer is not None else 0


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A prediction and who made it.

    Attributes
    ----------
    values
        (n,) what is served.
    version
        Champion at that moment.
    champion
        (n,) the champion's own prediction.
    snapshot
        Serving snapshot, 0 where the champion served alone.
    members, weights
        M forecasters and their weights (n, M) before any was dropped.
    columns, raw
        K versions (0 = seasonal naive) and their raw values (n, K) as journalled; NaN where one failed.
    dropped
        Versions left out of this call, with the reason.
    """

    values: Floats
    version: int
    champion: Floats
    snapshot: int
    members: tuple[Member, ...]
    weights: Values
    columns: tuple[int, ...]
    raw: Values
    dropped: dict[int, str]


def raw_values(
    state: ServingState,
    rows: Values,
    others: Callable[[FeatureSchema], Values],
    naive: Callable[[], Any] | None,
) -> tuple[Values, Floats, dict[int, str]]:
    """Raw values (n, K) of a state with a snapshot, the champion's own (n,), and who was dropped and why.

    Parameters
    ----------
    rows
        Features in the champion's order.
    others
        The same rows by another schema.
    naive
        Seasonal-naive forecasts of the rows.
    """
    assert state.mixer is not None
    columns, size = state.mixer.snapshot.columns, len(rows)
    dropped: dict[int, str] = {}
    found: list[Any] = []
    for version, seat in zip(columns, state.columns, strict=True):
        values: Any = None
        try:
            if version == 0:
                values = naive() if naive is not None else None
            elif seat is None:
                dropped[version] = "not loaded"
            else:
                values = seat.model.predict(rows if seat.schema is None else others(seat.schema))
            if values is not None and len(values) != size:
                dropped[version], values = f"failed: {len(values)} values for {size} rows", None
        except Exception as error:
            dropped[version], values = f"failed: {error!r}", None
        found.append(values)
    if size == 1:
        return _one_row(found, columns, dropped)
    raw = np.empty((size, len(columns)), dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for column, values in enumerate(found):
            raw[:, column] = np.nan if values is None else values
    _drop_nonsense(raw, columns, dropped)
    own = np.full(size, np.nan) if found[0] is None else np.asarray(found[0], dtype=np.float64)
    return raw, own, dropped


def _one_row(
    found: list[Any], columns: tuple[int, ...], dropped: dict[int, str]
) -> tuple[Values, Floats, dict[int, str]]:
    """Finish a single row without arrays in between: `predict_overhead` pays for it."""
    values = [_NAN if one is None else float(one[0]) for one in found]
    limit = _limit([abs(value) for value in values])
    for column, version in enumerate(columns):
        if not abs(values[column]) <= limit:
            values[column] = _NAN
            if version and version not in dropped:
                dropped[version] = "nonsense: 1 of 1 values is no forecast"
    return np.array((values,), dtype=np.float32), np.array(values[:1]), dropped


def _limit(largest: list[float]) -> float:
    """How large a forecast may be: far above the median of the members' largest."""
    usual = sorted(value for value in largest if value <= HUGE)
    return NONSENSE * (1.0 + usual[(len(usual) - 1) // 2]) if usual else 0.0


def _drop_nonsense(raw: Values, columns: tuple[int, ...], dropped: dict[int, str]) -> None:
    """Blank the values of models that no forecast can have; the naive may be unknown, a model may not."""
    largest = np.abs(raw).max(axis=0, initial=0.0).tolist()
    limit = _limit(largest)
    for column, (version, value) in enumerate(zip(columns, largest, strict=True)):
        if value <= limit:
            continue
        bad = ~(np.abs(raw[:, column]) <= limit)
        raw[bad, column] = np.nan
        if version and version not in dropped:
            dropped[version] = f"nonsense: {int(bad.sum())} of {len(raw)} values are no forecasts"


class RoundStamps:
    """Epoch seconds and slots of the timestamps a caller gives; a collection round shares its timestamp, so the last is kept.

    Parameters
    ----------
    read
        Epoch second of whatever a caller calls a timestamp.
    """

    __slots__ = ("_grid", "_last", "_read")

    def __init__(self, grid: TimeGrid, read: Callable[[Any], float]) -> None:
        self._grid, self._read = grid, read
        self._last: tuple[Any, Floats, Slots] = (self, np.zeros(1), np.zeros(1, dtype=np.int64))

    def of(self, timestamp: Any, size: int) -> tuple[Floats, Slots | None]:
        """Epoch seconds (n,), and their slots where they are known already."""
        if isinstance(timestamp, np.ndarray) and timestamp.ndim == 1 and timestamp.dtype.kind in "fiu":
            stamps = timestamp.astype(np.float64)
        elif isinstance(timestamp, list | tuple | np.ndarray) or hasattr(timestamp, "to_list"):
            stamps = self._each(timestamp.to_list() if hasattr(timestamp, "to_list") else list(timestamp))
        else:
            last = self._last
            if timestamp is not last[0]:
                one = np.array((self._read(timestamp),))
                # one assignment of a whole tuple, so another thread never sees half of it
                self._last = last = (timestamp, one, self._grid.floor(one))
            return (last[1], last[2]) if size == 1 else (np.full(size, last[1][0]), np.full(size, last[2][0]))
        if len(stamps) != size:
            raise ValueError(f"{len(stamps)} timestamps for {size} rows. Give one, or one per row.")
        return stamps, None

    def _each(self, values: list[Any]) -> Floats:
        last, epoch, stamps = None, 0.0, np.empty(len(values))
        for position, value in enumerate(values):
            if value is not last or position == 0:
                last, epoch = value, self._read(value)
            stamps[position] = epoch
        return stamps

    def slots(self, stamps: Floats) -> Slots:
        """Slots of epoch seconds."""
        return self._grid.floor(stamps)


def served_alone(state: ServingState, served: Floats) -> Prediction:
    """Wrap what the champion served by itself."""
    return Prediction(
        served,
        state.version,
        served,
        0,
        (Member(state.version),),
        np.ones((len(served), 1), dtype=np.float32),
        (state.version,),
        served.astype(np.float32).reshape(-1, 1),
        {},
    )


def spread(place_id: Any, size: int) -> Sequence[Any]:
    """One place id per row."""
    if isinstance(place_id, np.ndarray) and place_id.ndim == 1:
        places: Sequence[Any] = place_id.tolist()
    elif isinstance(place_id, list | tuple):
        places = place_id
    elif hasattr(place_id, "to_list"):
        places = place_id.to_list()
    else:
        return [place_id] * size
    if len(places) != size:
        raise ValueError(f"{len(places)} place ids for {size} rows. Give one, or one per row.")
    return places
