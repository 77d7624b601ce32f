"""The hot path: three closures over what they need, since a cell costs less than an attribute."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from typing import Any

import numpy as np

from demand_maint._storage.journal_calls import LogActual, LogPair, LogPrediction
from demand_maint._storage.journal_lanes import Handout, RowKinds, exhausted
from demand_maint._storage.journal_stretch import void_block
from demand_maint._storage.segments import COMMITTED
from demand_maint._storage.stamps import LATEST
from demand_maint.core.observations import ACTUAL, PAIR, PREDICTION, VOID

__all__ = ["HotPath", "bind", "pack_record"]

pack_record = Struct("@IIddd").pack_into


@dataclass(frozen=True, slots=True)
class HotPath:
    """The calls, and the handles by which the slow path steers them."""

    log: LogPair
    log_prediction: LogPrediction
    log_actual: LogActual
    set_handout: Callable[..., None]
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
    row_kinds: tuple[RowKinds, RowKinds],
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
    row_kinds
        For rows of n features given as numbers, and as bytes: who hands out a slot, how to pack it, its size, and its kind
        with its schema.
    """
    pack = pack_record
    handout: Handout = exhausted
    float_rows, raw_rows = row_kinds
    counts: tuple[int, Callable[[], int]] = (0, int)
    moment, latest = datetime, LATEST
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
                if timestamp.__class__ is moment and timestamp.tzinfo is not None:
                    time = timestamp.timestamp()
                    if not 0.0 < time <= latest:
                        time = read(timestamp)
                else:
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
        mapped, offset = None, 0
        if features is not None:
            size = count = 0
            try:
                last, time = memo
                if timestamp is not last:
                    if timestamp.__class__ is moment and timestamp.tzinfo is not None:
                        time = timestamp.timestamp()
                        if not 0.0 < time <= latest:
                            time = read(timestamp)
                    else:
                        time = read(timestamp)
                    memo = (timestamp, time)
                code = codes[place_id]
                if code < 2 and place_id.__class__ in bools:
                    raise TypeError
                if features.__class__ is tuple or features.__class__ is list:
                    count, row = len(features), features
                    hand, pack_row, size, tail = float_rows[count]
                elif features.dtype is float32 and features.ndim == 1:
                    count, row = len(features), (features.tobytes(),)
                    hand, pack_row, size, tail = raw_rows[count]
                else:
                    raise TypeError
                handed, left = counts
                mapped, offset = hand()
                pack_row(mapped, offset, size, 1, (handed - left()) & 0xFFFFFFFF, 0, version, 0, count, tail,
                         code, predicted, nan, time, *row, COMMITTED)  # fmt: skip
            except Exception:
                if mapped is not None:
                    void_block(mapped, offset, size, count)
                with_features(place_id, timestamp, predicted, features)
            return
        try:
            last, time = memo
            if timestamp is not last:
                if timestamp.__class__ is moment and timestamp.tzinfo is not None:
                    time = timestamp.timestamp()
                    if not 0.0 < time <= latest:
                        time = read(timestamp)
                else:
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
                if timestamp.__class__ is moment and timestamp.tzinfo is not None:
                    time = timestamp.timestamp()
                    if not 0.0 < time <= latest:
                        time = read(timestamp)
                else:
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

    def set_handout(function: Handout, counting: tuple[int, Callable[[], int]] | None = None) -> None:
        nonlocal handout, counts
        counts = counting or counts
        handout = function

    def get_handout() -> Handout:
        return handout

    def set_tags(number: int) -> None:
        nonlocal pair_tag, prediction_tag, actual_tag, version
        version = number
        pair_tag, prediction_tag, actual_tag = (number | kind << 16 for kind in (PAIR, PREDICTION, ACTUAL))

    return HotPath(log, log_prediction, log_actual, set_handout, get_handout, set_tags)
