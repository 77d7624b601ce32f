"""Named arrays and small facts in one byte string: what saved state is made of.

Format 1: 8 bytes length of the JSON head, the head, then each array at the next multiple of 8.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

FORMAT = 1


def pack(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> memoryview:
    """Put `facts` (JSON) and `arrays` into one buffer.

    >>> facts, arrays = unpack(pack({"n": 2}, {"x": np.array([1.5, 2.5])}))
    >>> facts["n"], arrays["x"].tolist()
    (2, [1.5, 2.5])
    """
    at = 0
    index: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        index[name] = [array.dtype.str, list(array.shape), at]
        at += _padded(array.nbytes)
    head = json.dumps({"format": FORMAT, "facts": facts, "arrays": index}, allow_nan=False).encode()
    begin = 8 + _padded(len(head))
    whole = np.zeros(begin + at, dtype=np.uint8)  # numpy's, since a bytearray is filled with the interpreter held
    out = whole.data
    out[:8] = len(head).to_bytes(8, "little")
    out[8 : 8 + len(head)] = head
    for name, array in arrays.items():
        offset = begin + index[name][2]
        target = whole[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        target[...] = array  # numpy copies without holding the interpreter
    return out


def unpack(data: bytes | bytearray | memoryview) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Facts and arrays (views of `data`) that `pack` put together.

    Raises
    ------
    ValueError
        Not such a buffer, or one of an unknown format.
    """
    length = int.from_bytes(data[:8], "little")
    head = json.loads(bytes(data[8 : 8 + length]))
    if head["format"] != FORMAT:
        raise ValueError(f"State of format {head['format']}, not {FORMAT}.")
    begin = 8 + _padded(length)
    arrays: dict[str, NDArray[Any]] = {}
    for name, (kind, shape, at) in head["arrays"].items():
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, dtype=dtype, count=count, offset=begin + at).reshape(shape)
    return head["facts"], arrays


def _padded(size: int) -> int:
    return (size + 7) & ~7
