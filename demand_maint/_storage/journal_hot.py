"""The hot path: closures over what they need, since a cell costs less than an attribute.

Each call begins with the same six lines. They stand in each instead of in a function of their own, since calling one takes a
sixth of the whole budget (`python -m benchmarks.logging_overhead`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np

from demand_maint._storage.journal_calls import LogActual, LogPair, LogPrediction
from demand_maint._storage.journal_lanes import NO_SLOTS, RowKinds, Slots
from demand_maint._storage.journal_rows import float_packer
from demand_maint._storage.journal_stretch import void_block
from demand_maint._storage.segments import COMMITTED
from demand_maint.core.observations import ACTUAL, PAIR, PREDICTION, VOID

__all__ = ["HotPath", "bind", "pack_record"]

pack_record = Struct("@IIddd").pack_into
_BOOLS = (bool, np.bool_)  # True would be found as the place 1
_FLOAT32 = np.dtype(np.float32)
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class HotPath:
    """The calls, and the handles by which the slow path steers them."""

    log: LogPair
    log_prediction: LogPrediction
    log_actual: LogActual
    set_slots: Callable[[Slots], None]
    set_counting: Callable[[tuple[int, Callable[[], int]]], None]
    set_version: Callable[[int], None]


def bind(
    codes: dict[Any, int],
    read: Callable[[Any], float],
    slow: Callable[..., None],
    slow_row: Callable[..., None],
    row_kinds: RowKinds,
) -> HotPath:
    """Make the calls.

    Parameters
    ----------
    codes
        Place codes that are written down.
    read
        Epoch seconds of a timestamp.
    slow, slow_row
        What to call for everything out of the ordinary: ``slow(kind, place_id, timestamp, predicted, actual)``, and
        ``slow_row(place_id, timestamp, predicted, features)``.
    row_kinds
        How to write rows of features, by their length in bytes.
    """
    log_row, set_counting = _bind_row(codes, read, slow_row, row_kinds)
    log, pair_slots, pair_version = _bind_pair(codes, read, slow)
    log_prediction, prediction_slots, prediction_version = _bind_prediction(codes, read, slow, log_row)
    log_actual, actual_slots, actual_version = _bind_actual(codes, read, slow)

    def set_slots(slots: Slots) -> None:
        for put_slots in (pair_slots, prediction_slots, actual_slots):
            put_slots(slots)

    def set_version(number: int) -> None:
        for put_version in (pair_version, prediction_version, actual_version):
            put_version(number)

    return HotPath(log, log_prediction, log_actual, set_slots, set_counting, set_version)


_Steered = tuple[Any, Callable[[Slots], None], Callable[[int], None]]


def _bind_pair(codes: dict[Any, int], read: Callable[[Any], float], slow: Callable[..., None]) -> _Steered:
    pack, bools = pack_record, _BOOLS
    slots: Slots = NO_SLOTS
    memo: tuple[Any, float] = (None, 0.0)  # of the last timestamp, which the next record mostly shares
    tag = PAIR << 16

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        nonlocal memo
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
        except Exception:
            slow(PAIR, place_id, timestamp, predicted, actual)
            return
        offsets, mapped = slots
        for offset in offsets:  # the next one, which nobody else gets
            try:
                pack(mapped, offset, code, tag, predicted, actual, time)
            except Exception:
                _void(mapped, offset)
                slow(PAIR, place_id, timestamp, predicted, actual)
            return
        slow(PAIR, place_id, timestamp, predicted, actual)

    def put_slots(new: Slots) -> None:
        nonlocal slots
        slots = new

    def put_version(number: int) -> None:
        nonlocal tag
        tag = number | PAIR << 16

    return log, put_slots, put_version


def _bind_prediction(
    codes: dict[Any, int], read: Callable[[Any], float], slow: Callable[..., None], log_row: Callable[..., None]
) -> _Steered:
    pack, bools, nan = pack_record, _BOOLS, _NAN
    slots: Slots = NO_SLOTS
    memo: tuple[Any, float] = (None, 0.0)
    tag = PREDICTION << 16

    def log_prediction(place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
        nonlocal memo
        if features is not None:
            log_row(place_id, timestamp, predicted, features)
            return
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
        except Exception:
            slow(PREDICTION, place_id, timestamp, predicted, nan)
            return
        offsets, mapped = slots
        for offset in offsets:
            try:
                pack(mapped, offset, code, tag, predicted, nan, time)
            except Exception:
                _void(mapped, offset)
                slow(PREDICTION, place_id, timestamp, predicted, nan)
            return
        slow(PREDICTION, place_id, timestamp, predicted, nan)

    def put_slots(new: Slots) -> None:
        nonlocal slots
        slots = new

    def put_version(number: int) -> None:
        nonlocal tag
        tag = number | PREDICTION << 16

    return log_prediction, put_slots, put_version


def _bind_actual(codes: dict[Any, int], read: Callable[[Any], float], slow: Callable[..., None]) -> _Steered:
    pack, bools, nan = pack_record, _BOOLS, _NAN
    slots: Slots = NO_SLOTS
    memo: tuple[Any, float] = (None, 0.0)
    tag = ACTUAL << 16

    def log_actual(place_id: Any, timestamp: Any, actual: Any) -> None:
        nonlocal memo
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
        except Exception:
            slow(ACTUAL, place_id, timestamp, nan, actual)
            return
        offsets, mapped = slots
        for offset in offsets:
            try:
                pack(mapped, offset, code, tag, nan, actual, time)
            except Exception:
                _void(mapped, offset)
                slow(ACTUAL, place_id, timestamp, nan, actual)
            return
        slow(ACTUAL, place_id, timestamp, nan, actual)

    def put_slots(new: Slots) -> None:
        nonlocal slots
        slots = new

    def put_version(number: int) -> None:
        nonlocal tag
        tag = number | ACTUAL << 16

    return log_actual, put_slots, put_version


def _bind_row(
    codes: dict[Any, int], read: Callable[[Any], float], slow: Callable[..., None], row_kinds: RowKinds
) -> tuple[Callable[..., None], Callable[[tuple[int, Callable[[], int]]], None]]:
    bools, float32, nan, word = _BOOLS, _FLOAT32, _NAN, COMMITTED
    memo: tuple[Any, float] = (None, 0.0)
    counts: tuple[int, Callable[[], int]] = (0, int)

    def log_row(place_id: Any, timestamp: Any, predicted: Any, features: Any) -> None:
        nonlocal memo
        try:
            last, time = memo
            if timestamp is not last:
                time = read(timestamp)
                memo = (timestamp, time)
            code = codes[place_id]
            if code < 2 and place_id.__class__ in bools:
                raise TypeError
            kind = features.__class__
            if kind is tuple or kind is list:
                raw = float_packer(len(features))(*features)
            elif features.dtype is float32:
                raw = features.tobytes()
            else:
                raise TypeError
            offsets, mapped, pack, front, shape = row_kinds[len(raw)]
            handed, left = counts
            after = handed - left() & 0xFFFFFFFF
        except Exception:
            slow(place_id, timestamp, predicted, features)
            return
        for offset in offsets:
            try:
                pack(mapped, offset, front, after, 0, shape, code, predicted, nan, time, raw, word)
            except Exception:
                void_block(mapped, offset, len(raw) // 4)
                slow(place_id, timestamp, predicted, features)
            return
        slow(place_id, timestamp, predicted, features)

    def put_counting(new: tuple[int, Callable[[], int]]) -> None:
        nonlocal counts
        counts = new

    return log_row, put_counting


def _void(mapped: Any, offset: int) -> None:
    """Mark a slot that was handed out but could not be filled, so that nobody waits for it."""
    pack_record(mapped, offset, 0, VOID << 16, 0.0, 0.0, 1.0)
