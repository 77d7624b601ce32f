"""Figures of which each follows from the one before, worked out again only from where their values are other ones.

Judging one more day then costs one day and not all of them, and what comes out is what working out all of them gives.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recurrence"]

State = TypeVar("State")
Floats = NDArray[np.float64]
#: States remembered, the newest: values that change further back are worked out from the first.
KEPT = 40


class Recurrence(Generic[State]):
    """Runs `step` over values, and remembers what came out.

    Parameters
    ----------
    step
        ``step(state, value)`` gives the next state, which may be the same object changed, and what to keep of it.
    copy
        Makes a state that further steps leave alone; needed where `step` changes the one it is given.

    Examples
    --------
    >>> steps = []
    >>> total = Recurrence(lambda state, value: (steps.append(value) or state + value, state + value))
    >>> total.run(0.0, np.array([1.0, 2.0]))[1].tolist(), total.run(0.0, np.array([1.0, 2.0, 3.0]))[1].tolist()
    ([1.0, 3.0], [1.0, 3.0, 6.0])
    >>> steps
    [1.0, 2.0, 3.0]
    """

    __slots__ = ("_copy", "_found", "_start", "_states", "_step", "_values")

    def __init__(
        self, step: Callable[[State, float], tuple[State, object]], copy: Callable[[State], State] = lambda state: state
    ) -> None:
        self._step, self._copy = step, copy
        self._start: object = None
        self._states: dict[int, State] = {}
        self._values: Floats = np.empty(0)
        self._found: Floats = np.empty(0)

    def run(self, start: State, values: Floats, key: object = None) -> tuple[State, Floats]:
        """Return the state after all `values`, none of them NaN, and what was kept after each, (n,) or (n, outputs).

        Parameters
        ----------
        key
            Equal where `start` is the same; `start` itself by default.
        """
        key = start if key is None else key
        if key != self._start:
            self._start, self._values, self._states = key, np.empty(0), {0: self._copy(start)}
        done = self._same(values)
        state, outputs = self._copy(self._states[done]), []
        for count, value in enumerate(values[done:].tolist(), done + 1):
            state, output = self._step(state, value)
            outputs.append(output)
            if count > len(values) - KEPT:
                self._states[count] = self._copy(state)
        found = np.array(outputs, dtype=np.float64)
        if done:
            found = np.concatenate([self._found[:done], found]) if outputs else self._found[:done]
        self._values, self._found = values, found
        self._states = {
            at: kept for at, kept in self._states.items() if at <= len(values) and (not at or at > len(values) - KEPT)
        }
        return state, found

    def _same(self, values: Floats) -> int:
        """Return after how many values, which are the ones of the last time, a state is known."""
        shared = min(len(values), len(self._values))
        other = np.flatnonzero(values[:shared] != self._values[:shared])
        same = int(other[0]) if len(other) else shared
        return same if same in self._states else 0
