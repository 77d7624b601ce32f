"""Rows with features as one block each, packed by one prepared `struct`."""

from struct import Struct
from typing import Any

import numpy as np

from demand_maint._storage.segments import block_bytes

__all__ = ["RowPacker", "number_of", "packers", "row_packer"]


class RowPacker:
    """Packs one block of one row with `count` features."""

    __slots__ = ("count", "pack", "raw", "size")

    def __init__(self, count: int, *, raw: bool) -> None:
        body = f"{4 * count}s" if raw else f"{count}f"
        packing = Struct(f"@IIIIHHHHI4xddd{body}{'4x' if count % 2 else ''}Q")
        self.count, self.raw = count, raw
        self.size = packing.size
        self.pack = packing.pack_into
        assert packing.size == block_bytes(1, 0, count)


_packers: dict[int, tuple[RowPacker, RowPacker]] = {}


def row_packer(features: Any) -> tuple[RowPacker, Any]:
    """Return how to pack a feature row, and its values as that wants them."""
    kind = features.__class__
    raw = False
    if kind is tuple or kind is list:
        count = len(features)
    else:
        row = np.ascontiguousarray(features, dtype=np.float32).reshape(-1)
        count, features, raw = len(row), (row.tobytes(),), True
    return packers(count)[raw], features


def packers(count: int) -> tuple[RowPacker, RowPacker]:
    """How to pack rows of `count` features given as numbers, and as bytes."""
    found = _packers.get(count)
    if found is None:
        found = _packers[count] = (RowPacker(count, raw=False), RowPacker(count, raw=True))
    return found


def number_of(value: Any) -> float:
    """`value` as a float; NaN for text, None and whatever else is none."""
    if isinstance(value, str | bytes) or value is None:
        return float("nan")
    try:
        return float(value)
    except Exception:  # somebody's object in somebody's collector
        return float("nan")
