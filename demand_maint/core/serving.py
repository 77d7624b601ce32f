"""What is served: a numbered table of weights and levels, and the arithmetic that turns members' values into one forecast.

A snapshot is everything besides the models that a served value depends on. Serving and explaining run the same code on the
same float32 values, column by column, so a value is reproduced to the last bit from its journal row.

Format 2 of an encoded snapshot: msgpack array (format, number, at, columns, members, places, weights, levels, left out), the tables
as little-endian float32, row-major. Format 1 did not tell what was left out: as if nothing had been.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.errors import DamagedRegistryError, NewerFormatError

__all__ = ["NAIVE", "Explanation", "Member", "Mixer", "PlaceIndex", "ServingSnapshot", "Share", "explain"]

SNAPSHOT_FORMAT = 2
Place = int | str
Floats = NDArray[np.float64]
Values = NDArray[np.float32]
Codes = NDArray[np.intp]


class Member(Struct, frozen=True, array_like=True, order=True):
    """A forecaster of the line-up: a model version as it is, the same level-calibrated, or version 0, the seasonal naive."""

    version: int
    calibrated: bool = False

    @property
    def name(self) -> str:
        """In words."""
        if self.version == 0:
            return "seasonal naive"
        return f"model {self.version}, level-calibrated" if self.calibrated else f"model {self.version}"


NAIVE = Member(0)


@dataclass(frozen=True, slots=True, eq=False)
class ServingSnapshot:
    """Who serves, and how much each counts at each place.

    Attributes
    ----------
    number
        Counts up; a journal row names it.
    at
        Epoch second of the newest evidence in it.
    columns
        Versions in the order in which their raw values are journalled: the champion first; 0 is the seasonal naive.
    members
        The M forecasters that are averaged; each refers to one of `columns`.
    places
        Ids of the P places, by code.
    weights
        (P + 1, M); a row sums to 1; the last is for places not seen yet.
    levels
        (P + 1, K) factor of the calibrated variant of each column.
    left_out
        Place code, first and end of stretches of slots whose truth is in none of this, since the feed was broken: who counts the
        journal again leaves them out again.
    """

    number: int
    at: float
    columns: tuple[int, ...]
    members: tuple[Member, ...]
    places: tuple[Place, ...]
    weights: Values
    levels: Values
    left_out: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.places) + 1
        if self.weights.shape != (rows, len(self.members)) or self.levels.shape != (rows, len(self.columns)):
            raise DamagedRegistryError(
                f"Serving snapshot {self.number}: tables of shape {self.weights.shape} and {self.levels.shape} do not fit "
                f"{len(self.places)} places, {len(self.members)} members and {len(self.columns)} columns."
            )

    @property
    def champion(self) -> int:
        """Version that was champion when this was made."""
        return self.columns[0]

    def encode(self) -> bytes:
        """Bytes that `decode` turns into an equal snapshot."""
        tables = [np.ascontiguousarray(table, dtype="<f4").tobytes() for table in (self.weights, self.levels)]
        head = [SNAPSHOT_FORMAT, self.number, self.at, self.columns, self.members, self.places]
        return msgspec.msgpack.encode([*head, *tables, self.left_out])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read what `encode` wrote.

        Raises
        ------
        DamagedRegistryError
            Not an encoded snapshot.
        NewerFormatError
            Written by a newer release.
        """
        try:
            raw = msgspec.msgpack.decode(payload)
            if raw[0] > SNAPSHOT_FORMAT:
                raise NewerFormatError(
                    f"Serving snapshot of format {raw[0]}; this release reads {SNAPSHOT_FORMAT}. Update demand-maint here."
                )
            columns = msgspec.convert(raw[3], tuple[int, ...])
            members = msgspec.convert(raw[4], tuple[Member, ...])
            places = msgspec.convert(raw[5], tuple[Place, ...])
            rows = len(places) + 1
            weights = np.frombuffer(raw[6], dtype="<f4").astype(np.float32).reshape(rows, len(members))
            levels = np.frombuffer(raw[7], dtype="<f4").astype(np.float32).reshape(rows, len(columns))
            left_out = msgspec.convert(raw[8] if len(raw) > 8 else (), tuple[tuple[int, int, int], ...])
            return cls(int(raw[1]), float(raw[2]), columns, members, places, weights, levels, left_out)
        except NewerFormatError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, msgspec.MsgspecError) as error:
            raise DamagedRegistryError(
                f"No serving snapshot: {error}. It is skipped; the next drain makes a new one."
            ) from error


class PlaceIndex:
    """Codes of place ids; 1, "1" and True are three different things, and what is unknown gets the last row.

    >>> PlaceIndex((1, "1")).codes([1, "1", True, "new"]).tolist()
    [0, 1, 2, 2]
    """

    __slots__ = ("_numbers", "_texts", "other")

    def __init__(self, places: tuple[Place, ...]) -> None:
        self._numbers = {place: code for code, place in enumerate(places) if type(place) is int}
        self._texts = {place: code for code, place in enumerate(places) if type(place) is str}
        self.other = len(places)

    def code(self, place: Any) -> int:
        """Row of one place."""
        if type(place) is str:
            return self._texts.get(place, self.other)
        if type(place) is int or isinstance(place, np.integer):
            return self._numbers.get(int(place), self.other)
        return self._texts.get(place, self.other) if isinstance(place, str) else self.other

    def codes(self, places: Any) -> Codes:
        """Rows of a sequence of places."""
        if isinstance(places, np.ndarray) or hasattr(places, "to_list"):
            places = places.tolist() if isinstance(places, np.ndarray) else places.to_list()
        kinds = set(map(type, places))
        if kinds == {str}:
            known: dict[Any, int] = self._texts
        elif kinds == {int}:
            known = self._numbers
        else:
            return np.fromiter((self.code(place) for place in places), dtype=np.intp, count=len(places))
        try:
            return np.fromiter(map(known.__getitem__, places), dtype=np.intp, count=len(places))
        except KeyError:
            other = self.other
            return np.fromiter((known.get(place, other) for place in places), dtype=np.intp, count=len(places))


class Mixer:
    """A snapshot made ready to serve.

    The mixture is linear in the raw values, so raw and calibrated variants of a model fold into one factor per column and
    place: a calibrated member costs nothing at all when predicting.
    """

    __slots__ = ("_pairs", "gains", "index", "shares", "snapshot")

    def __init__(self, snapshot: ServingSnapshot) -> None:
        self.snapshot = snapshot
        self.index = PlaceIndex(snapshot.places)
        self.gains, self.shares = _fold(snapshot)
        # by code, (factor, weight) of each column, for single rows
        self._pairs: dict[int, list[tuple[float, float]]] = {}

    def mix(self, codes: Codes, raw: Values) -> Floats:
        """Return served values (n,) of raw values (n, K); a NaN leaves the average for its row, NaN where nobody is left."""
        gains, shares = self.gains[codes], self.shares[codes]
        if np.isfinite(raw).all():
            served = np.zeros(len(raw))
            for column in range(raw.shape[1]):
                served += gains[:, column] * raw[:, column]
            return served
        served, total = np.zeros(len(raw)), np.zeros(len(raw))
        whole = np.ones(len(raw), dtype=bool)
        for column in range(raw.shape[1]):
            fine = np.isfinite(raw[:, column])
            whole &= fine | (shares[:, column] == 0)
            served += np.where(fine, gains[:, column] * np.where(fine, raw[:, column], 0), 0.0)
            total += np.where(fine, shares[:, column], 0.0)
        rest = np.divide(served, total, out=np.full(len(raw), np.nan), where=total > 0)
        served = np.where(whole, served, rest)
        return np.where(np.isnan(served), _first_finite(raw), served)

    def mix_one(self, code: int, raw: list[float]) -> float:
        """`mix` of one row without arrays; the same operations in the same order, so the same bits."""
        pairs = self._pairs.get(code)
        if pairs is None:
            gains, shares = self.gains[code].tolist(), self.shares[code].tolist()
            self._pairs[code] = pairs = list(zip(gains, shares, strict=True))
        served = total = 0.0
        whole = True
        for (gain, share), value in zip(pairs, raw, strict=True):
            if value - value == 0.0:
                served += gain * value
                total += share
            elif share != 0:
                whole = False
        if whole:
            return served
        if total > 0:
            return served / total
        return next((value for value in raw if value - value == 0.0), float("nan"))


def _fold(snapshot: ServingSnapshot) -> tuple[Floats, Floats]:
    """Factor and weight of each column at each place, both (P + 1, K) float64."""
    gains = np.zeros(snapshot.levels.shape)
    shares = np.zeros(snapshot.levels.shape)
    weights, levels = snapshot.weights.astype(np.float64), snapshot.levels.astype(np.float64)
    for position, member in enumerate(snapshot.members):
        column = snapshot.columns.index(member.version)
        factor = levels[:, column] if member.calibrated else 1.0
        gains[:, column] += weights[:, position] * factor
        shares[:, column] += weights[:, position]
    return gains, shares


def _first_finite(raw: Values) -> Floats:
    """Where nobody with a weight is left, the first column that has a value: the champion, where it has one."""
    found = np.full(len(raw), np.nan)
    for column in reversed(range(raw.shape[1])):
        found = np.where(np.isfinite(raw[:, column]), raw[:, column].astype(np.float64), found)
    return found


class Share(Struct, frozen=True, kw_only=True):
    """What one member put into a served value: `weight` of 1 times `value`."""

    member: Member
    weight: float
    value: float
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a served value came about; `text` says it in words."""

    served: float
    snapshot: int
    place: Any
    known_place: bool
    shares: tuple[Share, ...]
    dropped: tuple[Member, ...] = field(default=())

    @property
    def text(self) -> str:
        """One line for the value, one for each member, the heaviest first."""
        where = (
            f"place {self.place!r}" if self.known_place else f"place {self.place!r} (not seen before: pooled weights)"
        )
        lines = [f"{self.served:.6g} at {where}, by serving snapshot {self.snapshot}:"]
        for share in sorted(self.shares, key=lambda share: -share.weight):
            level = "" if share.level is None else f" (raw value x {share.level:.4g})"
            lines.append(f"  {share.weight:7.2%} of {share.value:.6g}  {share.member.name}{level}")
        lines.extend(f"  dropped: {member.name} had no usable value" for member in self.dropped)
        return "\n".join(lines)


def explain(snapshot: ServingSnapshot, place: Any, raw: Values) -> Explanation:
    """Reproduce the value served at `place` from the journalled raw values (K,), to the last bit, and say who made it."""
    mixer = Mixer(snapshot)
    code = mixer.index.code(place)
    values = np.asarray(raw, dtype=np.float32).reshape(-1)[: len(snapshot.columns)]
    served = mixer.mix_one(code, values.astype(np.float64).tolist())
    present: list[tuple[Member, float, float, float | None]] = []
    dropped: list[Member] = []
    for position, member in enumerate(snapshot.members):
        column = snapshot.columns.index(member.version)
        weight, value = float(snapshot.weights[code, position]), float(values[column])
        level = float(snapshot.levels[code, column]) if member.calibrated else None
        if weight == 0:
            continue
        if not np.isfinite(value):
            dropped.append(member)
            continue
        present.append((member, weight, value if level is None else value * level, level))
    total = sum(weight for _, weight, _, _ in present) or 1.0
    shares = tuple(Share(member=m, weight=w / total, value=v, level=level) for m, w, v, level in present)
    return Explanation(served, snapshot.number, place, code != mixer.index.other, shares, tuple(dropped))
