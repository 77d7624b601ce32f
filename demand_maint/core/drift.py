"""Is the champion getting worse? A sequential test on one number a day, whatever its noise.

The number is the log ratio of the champion's daily error to the error that day deserved (`core.difficulty`). The test is a
Page-Hinkley one-sided cumulative sum, standardised: it carries its own running centre and a robust running scale, so that one
setting serves 30 and 500 rows a day, and it learns from days in control only. Its threshold follows from the false alarms a
user accepts per year.

References
----------
E. S. Page, Continuous inspection schemes, Biometrika 41 (1954); D. V. Hinkley, Inference about the change-point from
cumulative sum tests, Biometrika 58 (1971).
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, Self, runtime_checkable

import msgspec
import numpy as np
from msgspec import Struct

from demand_maint.core.recurrence import Recurrence
from demand_maint.core.view import Floats

__all__ = [
    "DegradationTest",
    "Detector",
    "DriftState",
    "ForeignDetector",
    "TestMemory",
    "learn",
    "run_detector",
    "run_test",
    "threshold",
]


@runtime_checkable
class Detector(Protocol):
    """What a degradation detector looks like; River's detectors fit through `ForeignDetector`."""

    @property
    def drift_detected(self) -> bool:
        """Whether the stream is in alarm."""

    @property
    def warning_detected(self) -> bool:
        """Whether it is suspicious."""

    def update(self, value: float) -> None:
        """Take one day's log ratio; NaN is a day without a figure."""

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on later, in plain JSON types."""


class DriftState(Struct, frozen=True, kw_only=True):
    """What the sequential test says at the end of the last full day.

    Parameters
    ----------
    retrain_alarm, warn_alarm
        The two grades: at most one false alarm a year and a month by default.
    statistic, retrain_threshold, warn_threshold
        In standard deviations; ``None`` for a detector that has none.
    since
        Start of the day the change is estimated to have begun, epoch seconds.
    effect
        Degradation since then.
    days
        Days with figures the test has seen.
    calm_days
        Days with figures since the last one in warning.
    set_aside
        Days up to the last one that were like no other and therefore say nothing (`core.difficulty`).
    """

    retrain_alarm: bool = False
    warn_alarm: bool = False
    statistic: float | None = None
    retrain_threshold: float | None = None
    warn_threshold: float | None = None
    since: float | None = None
    effect: float | None = None
    days: int = 0
    calm_days: int = 0
    set_aside: int = 0
    centre: float | None = None
    scale: float | None = None


#: Height of the sum by false alarms per year, from `benchmarks.detector_scorecard` (the worst of its stationary streams).
_HEIGHTS = {0.125: 9.0, 0.25: 7.9, 0.5: 6.6, 1.0: 5.5, 2.0: 4.4, 4.0: 3.5, 12.0: 2.45, 24.0: 1.85, 52.0: 1.25}


def threshold(false_alarms_per_year: float) -> float:
    """Return the height of the cumulative sum that a stream in control passes so many times a year.

    >>> threshold(1.0) > threshold(12.0)
    True
    """
    rates = sorted(_HEIGHTS)
    wanted = min(max(false_alarms_per_year, rates[0]), rates[-1])
    for low, high in pairwise(rates):
        if wanted <= high:
            share = math.log(wanted / low) / math.log(high / low)
            return _HEIGHTS[low] + share * (_HEIGHTS[high] - _HEIGHTS[low])
    return _HEIGHTS[rates[-1]]


class DegradationTest:
    """Self-centring, self-scaling Page-Hinkley test in two grades.

    Each day's figure is measured from the running centre in units of the running scale, widened by what one day tells about
    the next (an AR(1) estimate), and summed above an allowance; the sum starts anew at zero. The allowance is what models in
    control wander off for weeks (`WANDER`, a log ratio), within a part of the day-to-day noise that is worth waiting for, and
    more while the centre rests on few days. The test learns from days in control only.

    Parameters
    ----------
    retrain_per_year, warn_per_month
        False alarms the two grades may raise on a stream in control.
    centre, centre_days
        Where the stream is expected to stand, and how many days of data that is worth; without it the first 7 days tell.
    scale, scale_days
        The same for its day-to-day standard deviation.

    Examples
    --------
    >>> test = DegradationTest(centre=0.0, scale=0.1)
    >>> for value in [0.02, -0.05, 0.01, 0.3, 0.28, 0.31, 0.29]:
    ...     test.update(value)
    >>> test.drift_detected
    True
    """

    WANDER = 0.12
    ALLOWANCE = (0.3, 0.55)
    UNSURE = 0.4
    CLIP = 3.0
    BURN_IN = 7
    MEMORY = 365.0
    USUAL_SCALE = 0.3

    __slots__ = (
        "_centre",
        "_centre_days",
        "_days",
        "_excess",
        "_first",
        "_last",
        "_onset",
        "_persistence",
        "_retrain",
        "_scale",
        "_scale_days",
        "_sum",
        "_warn",
    )

    def __init__(
        self,
        retrain_per_year: float = 1.0,
        warn_per_month: float = 1.0,
        *,
        centre: float | None = None,
        centre_days: float = 28.0,
        scale: float | None = None,
        scale_days: float = 28.0,
    ) -> None:
        self._retrain = threshold(retrain_per_year)
        self._warn = min(threshold(12.0 * warn_per_month), self._retrain)
        self._first: list[float] | None = [] if centre is None else None
        self._centre = 0.0 if centre is None else centre
        self._centre_days = float(self.BURN_IN) if centre is None else max(centre_days, 1.0)
        self._scale = self.USUAL_SCALE if scale is None else max(scale, 0.02)
        self._scale_days = (0.0 if centre is None else 5.0) if scale is None else max(scale_days, 1.0)
        self._persistence = 0.15
        self._last = 0.0
        self._sum = 0.0
        self._excess = 0.0
        self._days = 0
        self._onset = -1

    def update(self, value: float) -> None:
        """Take one day's figure; NaN is a day without one."""
        if math.isnan(value):
            return
        if self._first is not None:
            self._begin(value)
            return
        excess = value - self._centre
        z = excess / self._scale
        wide = math.sqrt((1.0 + self._persistence) / (1.0 - self._persistence))
        clip, (least, most) = self.CLIP, self.ALLOWANCE
        allowance = min(max(self.WANDER / (wide * self._scale), least), most) + self.UNSURE / math.sqrt(
            self._centre_days
        )
        step = min(max(z / wide, -clip), clip) - allowance
        total = self._sum + step
        if total <= 0.0:
            self._sum = 0.0
            self._onset = -1
        else:
            if self._onset < 0:
                self._onset = self._days
                self._excess = 0.0
            self._excess += excess
            self._sum = min(total, 1.5 * self._retrain)
        self._days += 1
        if self._sum <= self._retrain:
            self._learn(z)
        self._last = min(max(z, -2.5), 2.5)

    def _begin(self, value: float) -> None:
        """Collect the first days; their mean without the extremes is the centre."""
        first = self._first
        assert first is not None
        first.append(value)
        self._days += 1
        if len(first) < self.BURN_IN:
            return
        kept = sorted(first)[1:-1]
        self._centre = sum(kept) / len(kept)
        spread = 1.2533 * sum(abs(v - self._centre) for v in first) / len(first)
        days = self._scale_days + self.BURN_IN
        self._scale = max((self._scale * self._scale_days + spread * self.BURN_IN) / days, 0.02)
        self._scale_days = days
        self._first = None

    def _learn(self, z: float) -> None:
        self._centre_days = min(self._centre_days + 1.0, self.MEMORY)
        near = min(max(z, -2.5), 2.5)
        self._centre += near * self._scale / self._centre_days
        self._scale_days = min(self._scale_days + 1.0, self.MEMORY)
        self._scale = max(self._scale * (1.0 + (1.27 * min(abs(z), 3.0) - 1.0) / self._scale_days), 0.02)
        pull = 1.0 / max(self._scale_days, 40.0)
        self._persistence = min(max(self._persistence + pull * (near * self._last - self._persistence), 0.0), 0.6)

    def copy(self) -> Self:
        """Return a test that goes on from here by itself."""
        return self.from_state(self.state() | {"first": None if self._first is None else self._first.copy()})

    def rearm(self, centre: float | None = None, centre_days: float = 0.0) -> None:
        """Start the sum anew, as after an alarm that was dealt with.

        Parameters
        ----------
        centre, centre_days
            A new model's expected figure and the days behind it; by default the centre stays.
            Scale and persistence are the stream's own and stay in any case.
        """
        self._sum, self._onset, self._excess = 0.0, -1, 0.0
        if centre is not None:
            self._centre, self._centre_days, self._first = centre, max(centre_days, 1.0), None

    def recentre(self) -> None:
        """Start the sum anew and let the next days tell the centre; scale and persistence stay."""
        self.rearm()
        self._first = []
        self._centre_days = float(self.BURN_IN)
        self._scale_days = min(self._scale_days, 60.0)

    @property
    def drift_detected(self) -> bool:
        """Whether the retrain grade is in alarm."""
        return self._sum > self._retrain

    @property
    def warning_detected(self) -> bool:
        """Whether the warning grade is in alarm."""
        return self._sum > self._warn

    @property
    def statistic(self) -> float:
        """Height of the cumulative sum, standard deviations."""
        return self._sum

    @property
    def onset(self) -> int | None:
        """How many updates ago the present rise began, ``None`` where there is none."""
        return self._days - self._onset if self._onset >= 0 else None

    def summary(self) -> DriftState:
        """Return the state of the alarm; the caller knows which day the onset was."""
        ready = self._first is None
        return DriftState(
            retrain_alarm=self.drift_detected,
            warn_alarm=self.warning_detected,
            statistic=self._sum,
            retrain_threshold=self._retrain,
            warn_threshold=self._warn,
            effect=math.expm1(self._excess / (self._days - self._onset)) if self._onset >= 0 else None,
            days=self._days,
            centre=self._centre if ready else None,
            scale=self._scale if ready else None,
        )

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on later, in plain JSON types."""
        return {word: getattr(self, name) for name, word in self._words()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from."""
        test = cls()
        for name, word in cls._words():
            setattr(test, name, state[word])
        return test

    @classmethod
    @cache
    def _words(cls) -> tuple[tuple[str, str], ...]:
        """Each of its values by the name it has here and in a state."""
        return tuple((name, name.lstrip("_")) for name in cls.__slots__)


class ForeignDetector:
    """A detector of another library, River's among them: ``update(x)`` and ``drift_detected``.

    Parameters
    ----------
    detector
        Any such object; ``warning_detected`` is used where it has one.
    """

    __slots__ = ("_days", "detector")

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self._days = 0

    def update(self, value: float) -> None:
        """Hand one day's log ratio on; days without a figure are left out."""
        if not math.isnan(value):
            self.detector.update(value)
            self._days += 1

    @property
    def drift_detected(self) -> bool:
        """Whether the detector is in alarm."""
        return bool(self.detector.drift_detected)

    @property
    def warning_detected(self) -> bool:
        """Whether it warns; a detector of one grade warns when it alarms."""
        return bool(getattr(self.detector, "warning_detected", False)) or self.drift_detected

    def state(self) -> dict[str, Any]:
        """Return the public numbers of the detector; health replays the days instead of restoring them."""
        plain = {
            name: value
            for name, value in vars(self.detector).items()
            if isinstance(value, (bool, int, float, str)) and not name.startswith("_")
        }
        return {"days": self._days} | plain


class TestMemory:
    """What the built-in test came to on days that are mostly still the same the next time."""

    __test__ = False  # no test of pytest's
    __slots__ = ("before", "since")

    def __init__(self) -> None:
        self.before = Recurrence(_next_day, DegradationTest.copy)
        self.since = Recurrence(_next_day, DegradationTest.copy)


def _next_day(test: DegradationTest, value: float) -> tuple[DegradationTest, bool]:
    test.update(value)
    return test, test.warning_detected


def learn(test: DegradationTest, values: Floats, memory: TestMemory) -> DegradationTest:
    """Return `test` after the days (n,) of earlier champions, which teach it the noise."""
    return memory.before.run(test, values[~np.isnan(values)], test.state())[0]


def run_test(test: DegradationTest, values: Floats, day_starts: Floats, memory: TestMemory) -> DriftState:
    """Return what `run_detector` does for the built-in test; of days it judged before only what is new is worked out."""
    known = ~np.isnan(values)
    test, warned = memory.since.run(test, values[known], test.state())
    loud = np.flatnonzero(warned)
    return _at_the_end(test, day_starts[known], len(warned) - (int(loud[-1]) + 1 if len(loud) else 0))


def run_detector(detector: Detector, values: Iterable[float], day_starts: Iterable[float]) -> DriftState:
    """Feed `values` (one a day, oldest first) and return what the detector says at the end.

    Parameters
    ----------
    day_starts
        Epoch second at which each of those days begins.
    """
    starts: list[float] = []
    calm = 0
    for value, start in zip(values, day_starts, strict=True):
        detector.update(value)
        if not math.isnan(value):
            starts.append(start)
            calm = 0 if detector.warning_detected else calm + 1
    if isinstance(detector, DegradationTest):
        return _at_the_end(detector, starts, calm)
    return DriftState(
        retrain_alarm=detector.drift_detected,
        warn_alarm=detector.warning_detected,
        days=len(starts),
        calm_days=calm,
    )


def _at_the_end(test: DegradationTest, starts: Sequence[float] | Floats, calm: int) -> DriftState:
    """Say what a test that saw days with these `starts` says now, the last `calm` of them without a warning."""
    onset = test.onset
    since = float(starts[-onset]) if onset is not None and 0 < onset <= len(starts) else None
    return msgspec.structs.replace(test.summary(), since=since, calm_days=calm)
