"""The arithmetic of one predict call: every member on the same rows, nonsense left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.schema import FeatureSchema
from demand_maint.core.serving import Member, Mixer
from demand_maint.core.versions import Commit, FileHashes

__all__ = [
    "Prediction",
    "Predictor",
    "RegistryLike",
    "Seated",
    "ServedJournal",
    "ServingState",
    "raw_values",
    "served_alone",
    "spread",
]

NONSENSE = 1e4  # a member this much larger than the line-up's median is no forecast
HUGE = 1e30
Floats = NDArray[np.float64]
Values = NDArray[np.float32]


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
    columns = state.mixer.snapshot.columns
    dropped: dict[int, str] = {}
    found: list[Any] = []
    unknown = np.full(len(rows), np.nan)
    for version, seat in zip(columns, state.columns, strict=True):
        values: Any = unknown
        try:
            if version == 0:
                values = naive() if naive is not None else unknown
            elif seat is None:
                dropped[version] = "not loaded"
            else:
                values = seat.model.predict(rows if seat.schema is None else others(seat.schema))
            if len(values) != len(rows):
                dropped[version], values = f"failed: {len(values)} values for {len(rows)} rows", unknown
        except Exception as error:
            dropped[version], values = f"failed: {error!r}", unknown
        found.append(values)
    raw = np.empty((len(rows), len(columns)), dtype=np.float32, order="F")
    if len(rows) == 1:
        _drop_one(found, columns, dropped)
        raw[0] = [values[0] for values in found]
    else:
        with np.errstate(over="ignore"):
            for column, values in enumerate(found):
                raw[:, column] = values
        _drop_nonsense(raw, columns, dropped)
    return raw, np.asarray(found[0], dtype=np.float64), dropped


def _limit(largest: list[float]) -> float:
    """How large a forecast may be: far above the median of the members' largest."""
    usual = sorted(value for value in largest if value <= HUGE)
    return NONSENSE * (1.0 + usual[(len(usual) - 1) // 2]) if usual else 0.0


def _drop_one(found: list[Any], columns: tuple[int, ...], dropped: dict[int, str]) -> None:
    """`_drop_nonsense` of a single row, before it becomes an array."""
    largest = [abs(float(values[0])) for values in found]
    limit = _limit(largest)
    for column, (version, value) in enumerate(zip(columns, largest, strict=True)):
        if not value <= limit:
            found[column] = (np.nan,)
            if version and version not in dropped:
                dropped[version] = "nonsense: 1 of 1 values is no forecast"


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
