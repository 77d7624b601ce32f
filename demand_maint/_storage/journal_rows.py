"""Single rows with members and features as one block each, packed by one prepared `struct`."""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np

from demand_maint._storage.segments import block_bytes

__all__ = ["RowPacker", "float_packer", "number_of", "row_bytes", "row_packer"]


_SHAPE = Struct("@HHHH")


class RowPacker:
    """Packs a block of one row with `count` members and features that are bytes already.

    Attributes
    ----------
    size
        Of the block, bytes.
    pack
        ``pack(buffer, offset, front, after, snapshot, shape, code, predicted, actual, time, members and features, commit word)``,
        the commit word last, as it is written.
    front
        The beginning of each such block.
    """

    __slots__ = ("count", "front", "pack", "size")

    def __init__(self, count: int) -> None:
        packing = Struct(f"@8sII8sI4xddd{4 * count}s{'4x' if count % 2 else ''}Q")
        self.count = count
        self.size = packing.size
        self.pack = packing.pack_into
        self.front = Struct("@II").pack(self.size, 1)
        assert packing.size == block_bytes(1, 0, count)

    def shape(self, version: int, tail: int, members: int = 0) -> bytes:
        """Return the part of the head that says what the columns are; `tail` holds the kind and the schema."""
        return _SHAPE.pack(version, members, self.count - members, tail)


@lru_cache(maxsize=256)
def row_packer(count: int) -> RowPacker:
    """How to pack rows of `count` features."""
    return RowPacker(count)


@lru_cache(maxsize=256)
def float_packer(count: int) -> Callable[..., bytes]:
    """Return the function that makes float32 bytes of `count` numbers."""
    return Struct(f"@{count}f").pack


def row_bytes(features: Any) -> bytes:
    """Float32 bytes of a feature row."""
    if features.__class__ is tuple or features.__class__ is list:
        return float_packer(len(features))(*features)
    return np.asarray(features, dtype=np.float32).tobytes()


def number_of(value: Any) -> float:
    """`value` as a float; NaN for text, None and whatever else is none."""
    if isinstance(value, str | bytes) or value is None:
        return float("nan")
    try:
        return float(value)
    except Exception:  # somebody's object in somebody's collector
        return float("nan")
