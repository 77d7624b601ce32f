"""The hot path: three closures over what they need, since a cell costs less than an attribute."""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np

from demand_maint._storage.journal_calls import LogActual, LogPair, LogPrediction
from demand_maint._storage.journal_lanes import BlockCursor, exhausted
from demand_maint._storage.segments import COMMITTED
from demand_maint.core.observations import ACTUAL, PAIR, PREDICTION, VOID

__all__ = ["HotPath", "bind", "pack_record"]

Handout = Callable[[], tuple[Any, int]]
RowKinds = dict[int, tuple[Callable[..., None], int, int]]
pack_record = Struct("@IIddd").pack_into


@dataclass(frozen=True, slots=True)
class HotPath:
    """The calls, and the handles by which the slow path steers them."""

    log: LogPair
    log_prediction: LogPrediction
    log_actual: LogActual
    set_handout: Callable[[Handout], None]
    get_handout: Callable[[], Handout]
    set_version: Callable[[int], None]


def void(mapped: Any, offset: int) -> None:
    """Mark a slot that was handed out but could not be filled, so that nobody waits for it."""
    if mapped is not None:
        pack_record(mapped, offset, 0, VOID << 16, 0.0, 0.0, 1.0)


def bind(
    codes: dict[Any, int],
    read: Callable[[Any], float],
    slow: Callable[..., None],
    with_features: Callable[..., None],
    lane: BlockCursor,
    float_rows: RowKinds,
    raw_rows: RowKinds,
) -> HotPath:
    """Make the calls.

    Parameters
    ----------
    codes
        Place codes that are written down.
    read
        Epoch seconds of a timestamp.
    slow, with_features
        What to call for everything out of the ordinary: ``slow(kind, place_id, timestamp, predicted, actual)``.
    lane
        Where the next block goes.
    float_rows, raw_rows
        How to pack a row of n features given as numbers or as bytes, its size, and its kind with its schema.
    """
    pack = pack_record
    handout: Callable[[], tuple[Any, int]] = exhausted
    memo: tuple[Any, float] = (None, 0.0)
    pair_tag, prediction_tag, actual_tag = PAIR << 16, PREDICTION << 16, ACTUAL << 16
    bools = (bool, np.bool_)
    nan, float32 = float("nan"), np.dtype(np.float32)
    version = 0

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        nonlocal memo
        mapped, offset = None, 0
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
            mapped, offset = handout()
            pack(mapped, offset, code, pair_tag, predicted, actual, time)
        except Exception:
            void(mapped, offset)
            slow(PAIR, place_id, timestamp, predicted, actual)

    def log_prediction(place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
        nonlocal memo
        if features is not None:
            try:
                last, time = memo
                if timestamp is not last:
                    time = read(timestamp)
                    memo = (timestamp, time)
                code = codes[place_id]
                if code < 2 and place_id.__class__ in bools:
                    raise TypeError
                if features.__class__ is tuple or features.__class__ is list:
                    count, row = len(features), features
                    pack_row, size, tail = float_rows[count]
                elif features.dtype is float32 and features.ndim == 1:
                    count, row = len(features), (features.tobytes(),)
                    pack_row, size, tail = raw_rows[count]
                else:
                    raise TypeError
                with lane.lock:
                    at = lane.at
                    if at + size > lane.end:
                        raise IndexError
                    after = (lane.handed - lane.left()) & 0xFFFFFFFF
                    pack_row(lane.view, at, size, 1, after, 0, version, 0, count, tail,
                             code, predicted, nan, time, *row, COMMITTED)  # fmt: skip
                    lane.at = at + size
                    lane.rows += 1
            except Exception:
                with_features(place_id, timestamp, predicted, features)
            return
        mapped, offset = None, 0
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
            mapped, offset = handout()
            pack(mapped, offset, code, prediction_tag, predicted, nan, time)
        except Exception:
            void(mapped, offset)
            slow(PREDICTION, place_id, timestamp, predicted, nan)

    def log_actual(place_id: Any, timestamp: Any, actual: Any) -> None:
        nonlocal memo
        mapped, offset = None, 0
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
            mapped, offset = handout()
            pack(mapped, offset, code, actual_tag, nan, actual, time)
        except Exception:
            void(mapped, offset)
            slow(ACTUAL, place_id, timestamp, nan, actual)

    def set_handout(function: Callable[[], tuple[Any, int]]) -> None:
        nonlocal handout
        handout = function

    def get_handout() -> Callable[[], tuple[Any, int]]:
        return handout

    def set_tags(number: int) -> None:
        nonlocal pair_tag, prediction_tag, actual_tag, version
        version = number
        pair_tag, prediction_tag, actual_tag = (number | kind << 16 for kind in (PAIR, PREDICTION, ACTUAL))

    return HotPath(log, log_prediction, log_actual, set_handout, get_handout, set_tags)
