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
from collections.abc import Iterable
from typing import Any, Protocol, Self, runtime_checkable

import msgspec
from msgspec import Struct

__all__ = ["DegradationTest", "Detector", "DriftState", "ForeignDetector", "run_detector", "threshold"]


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
    """

    retrain_alarm: bool = False
    warn_alarm: bool = False
    statistic: float | None = None
    retrain_threshold: float | None = None
    warn_threshold: float | None = None
    since: float | None = None
    effect: float | None = None
    days: int = 0
    centre: float | None = None
    scale: float | None = None


def threshold(false_alarms_per_year: float) -> float:
    """Return the height of the cumulative sum that a stream in control passes so many times a year.

    >>> threshold(1.0) > threshold(12.0)
    True
    """
    return max(2.0, 5.2 - 1.15 * math.log(false_alarms_per_year))


class DegradationTest:
    """Self-centring, self-scaling Page-Hinkley test in two grades.

    Parameters
    ----------
    retrain_per_year, warn_per_month
        False alarms the two grades may raise on a stream in control.
    centre, centre_days
        Where the stream is expected to stand, and how many days of data that is worth.
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

    ALLOWANCE = 0.5
    CLIP = 3.0

    __slots__ = (
        "_centre",
        "_centre_days",
        "_days",
        "_onset",
        "_retrain",
        "_scale",
        "_scale_days",
        "_since_onset",
        "_sum",
        "_sum_y",
        "_warn",
    )

    def __init__(
        self,
        retrain_per_year: float = 1.0,
        warn_per_month: float = 1.0,
        *,
        centre: float = 0.0,
        centre_days: float = 14.0,
        scale: float = 0.15,
        scale_days: float = 7.0,
    ) -> None:
        self._retrain = threshold(retrain_per_year)
        self._warn = min(threshold(12.0 * warn_per_month), self._retrain)
        self._centre = centre
        self._centre_days = centre_days
        self._scale = scale
        self._scale_days = scale_days
        self._sum = 0.0
        self._sum_y = 0.0
        self._days = 0
        self._since_onset = 0
        self._onset = -1

    def update(self, value: float) -> None:
        """Take one day's log ratio; NaN is a day without a figure."""
        if math.isnan(value):
            return
        excess = value - self._centre
        z = min(max(excess / self._scale, -self.CLIP), self.CLIP)
        total = self._sum + z - self.ALLOWANCE
        if total <= 0.0:
            self._sum, self._onset, self._since_onset, self._sum_y = 0.0, -1, 0, 0.0
        else:
            if self._onset < 0:
                self._onset = self._days
            self._since_onset += 1
            self._sum_y += excess
            self._sum = min(total, 2.0 * self._retrain)
        self._days += 1
        if self._sum < self._warn:
            self._learn(z)

    def _learn(self, z: float) -> None:
        self._centre_days = min(self._centre_days + 1.0, 60.0)
        self._centre += z * self._scale / self._centre_days
        self._scale_days = min(self._scale_days + 1.0, 60.0)
        self._scale += (1.2533 * abs(z) - 1.0) * self._scale / self._scale_days

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
        effect = math.expm1(self._sum_y / self._since_onset) if self._since_onset else None
        return DriftState(
            retrain_alarm=self.drift_detected,
            warn_alarm=self.warning_detected,
            statistic=self._sum,
            retrain_threshold=self._retrain,
            warn_threshold=self._warn,
            effect=effect,
            days=self._days,
            centre=self._centre,
            scale=self._scale,
        )

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on later, in plain JSON types."""
        return {name.lstrip("_"): getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the test that `state` was taken from."""
        test = cls()
        for name in cls.__slots__:
            setattr(test, name, state[name.lstrip("_")])
        return test


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


def run_detector(detector: Detector, values: Iterable[float], day_starts: Iterable[float]) -> DriftState:
    """Feed `values` (one a day, oldest first) and return what the detector says at the end.

    Parameters
    ----------
    day_starts
        Epoch second at which each of those days begins.
    """
    starts: list[float] = []
    for value, start in zip(values, day_starts, strict=True):
        detector.update(value)
        if not math.isnan(value):
            starts.append(start)
    if not isinstance(detector, DegradationTest):
        return DriftState(retrain_alarm=detector.drift_detected, warn_alarm=detector.warning_detected, days=len(starts))
    state = detector.summary()
    onset = detector.onset
    since = starts[-onset] if onset is not None and 0 < onset <= len(starts) else None
    return msgspec.structs.replace(state, since=since)
