"""Features by name: whatever a caller holds becomes one float32 matrix in the model's own order.

CatBoost takes a reordered array without a word and predicts something else; so names decide wherever there are names, and an
array without names has to have exactly the model's width.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.errors import SchemaMismatchError

__all__ = ["FeatureSchema", "column_of"]

Rows = NDArray[np.float32]


def column_of(features: Any, name: str) -> Any:
    """Return the column that stands beside the features in a frame or dict, as it is there; ``None`` where there is none."""
    if isinstance(features, Mapping):
        return features.get(name)
    if isinstance(features, list) and features and isinstance(features[0], Mapping):
        return [row[name] for row in features] if all(name in row for row in features) else None
    columns = getattr(features, "columns", None)
    if columns is None or name not in columns:
        return None
    return features[name]


class FeatureSchema:
    """Names and order of a model's features.

    Parameters
    ----------
    names
        One name per column.

    Examples
    --------
    >>> FeatureSchema(("lag", "hour")).rows({"hour": 8, "lag": 2.5, "other": 1}).tolist()
    [[2.5, 8.0]]
    """

    __slots__ = ("_pick", "_width", "names")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._width = len(self.names)
        # one name makes itemgetter return a bare value
        self._pick: Any = itemgetter(*self.names) if self._width > 1 else lambda row: (row[self.names[0]],)

    def rows(self, features: Any, columns: Sequence[str] | None = None) -> Rows:
        """Float32 matrix (n, F), in Fortran order.

        Parameters
        ----------
        features
            A row as dict, rows as a list of dicts, a dict of columns, a frame (Polars, pandas, anything with ``columns`` and
            ``frame[name]``), an array or a sequence of numbers.
        columns
            Names of an array's columns; without them the array has to have the model's width and is taken as it is.

        Raises
        ------
        SchemaMismatchError
            A feature is missing, or an array has another width.
        """
        if type(features) is dict or isinstance(features, Mapping):
            return self._from_mapping(features)
        if isinstance(features, np.ndarray):
            return self._from_array(features, columns)
        if hasattr(features, "columns"):
            return self._from_frame(features)
        if isinstance(features, list | tuple) and features and isinstance(features[0], Mapping):
            return self._from_dicts(features)
        return self._from_array(np.asarray(features, dtype=np.float32), columns)

    def _from_mapping(self, row: Mapping[str, Any]) -> Rows:
        try:
            values = self._pick(row)
        except KeyError:
            raise SchemaMismatchError(self.names, tuple(map(str, row))) from None
        first = values[0]
        if isinstance(first, float | int | np.generic) or first is None:
            return np.array((values,), dtype=np.float32)
        return self._from_columns([np.asarray(value, dtype=np.float32) for value in values])

    def _from_dicts(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        try:
            return np.asfortranarray(np.array([self._pick(row) for row in rows], dtype=np.float32))
        except KeyError:
            bad = next(row for row in rows if not set(self.names) <= set(row))
            raise SchemaMismatchError(self.names, tuple(map(str, bad))) from None

    def _from_columns(self, columns: Sequence[Any]) -> Rows:
        matrix = np.empty((len(columns[0]), self._width), dtype=np.float32, order="F")
        for position, column in enumerate(columns):
            matrix[:, position] = column
        return matrix

    def _from_frame(self, frame: Any) -> Rows:
        names = list(frame.columns)
        if not set(self.names) <= set(names):
            raise SchemaMismatchError(self.names, tuple(map(str, names)))
        columns = [frame[name] for name in self.names]
        return self._from_columns([c.to_numpy() if hasattr(c, "to_numpy") else np.asarray(c) for c in columns])

    def _from_array(self, array: NDArray[Any], columns: Sequence[str] | None) -> Rows:
        if array.ndim == 1:
            array = array.reshape(1, -1)
        if columns is not None and tuple(columns) != self.names:
            if array.ndim != 2 or array.shape[1] != len(columns) or not set(self.names) <= set(columns):
                raise SchemaMismatchError(self.names, tuple(columns))
            where = {name: position for position, name in enumerate(columns)}
            array = array[:, [where[name] for name in self.names]]
        if array.ndim != 2 or array.shape[1] != self._width:
            width = array.shape[-1] if array.ndim else 0
            raise SchemaMismatchError(self.names, width)
        return np.asarray(array, dtype=np.float32, order="F")
