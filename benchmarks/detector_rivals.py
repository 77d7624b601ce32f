"""What a user would pick instead of our test: the document's own rule, and River's detectors.

Each comes as a user would set it up, and *tuned*: with its threshold moved until it raises at most 1.2 false alarms a year on
the kind of streams it is then judged on. That is more than our test is given, which has one setting for all of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.detector_streams import REFERENCE, Stream

__all__ = ["BUDGET", "RIVALS", "TUNED_RIVALS", "Alarms", "Family", "tuned"]

#: False alarms a year that a tuned detector may raise.
BUDGET = 1.2
Alarms = Callable[[Stream], list[int]]
Family = tuple[Callable[[float], Alarms], Sequence[float]]


def raw_threshold(limit: float) -> Alarms:
    """Return the user's document: 7-day error against a fixed baseline; a week's pause after an alarm, as after a retrain."""

    def alarms(stream: Stream) -> list[int]:
        baseline = np.nanmean(stream.error[:REFERENCE])
        found: list[int] = []
        for day in range(len(stream.error) - REFERENCE):
            window = stream.error[REFERENCE + day - 6 : REFERENCE + day + 1]
            known = window[np.isfinite(window)]
            if len(known) and known.mean() / baseline - 1 > limit and (not found or day - found[-1] >= 7):
                found.append(day)
        return found

    return alarms


def adwin(delta: float) -> Alarms:
    """Return River's ADWIN on the raw daily error, changes for the worse only."""
    from river.drift import ADWIN

    return _river(lambda: ADWIN(delta=delta, clock=1, grace_period=10, min_window_length=5), logs=False)


def page_hinkley(height: float, *, logs: bool = False) -> Alarms:
    """Return River's Page-Hinkley test on the raw daily error, or on its log ratio to the seasonal-naive error."""
    from river.drift import PageHinkley

    return _river(lambda: PageHinkley(min_instances=7, delta=0.05, threshold=height, alpha=1.0, mode="up"), logs=logs)


def _river(make: Callable[[], Any], *, logs: bool) -> Alarms:
    def alarms(stream: Stream) -> list[int]:
        figures = stream.error / np.nanmean(stream.error[:REFERENCE])
        if logs:
            figures = np.log(stream.error / stream.naive)
            figures = figures - np.nanmean(figures[:REFERENCE][np.isfinite(figures[:REFERENCE])])
        detector, found = make(), []
        for day, value in enumerate(figures.tolist()):
            if not math.isfinite(value):
                continue
            before = getattr(detector, "estimation", 0.0)
            detector.update(value)
            worse = getattr(detector, "estimation", 1.0) > before
            if detector.drift_detected and worse and day >= REFERENCE:
                found.append(day - REFERENCE)
        return found

    return alarms


RIVALS: dict[str, Alarms] = {
    "raw 7 d > 15 %": raw_threshold(0.15),
    "raw 7 d > 25 %": raw_threshold(0.25),
    "River ADWIN, raw": adwin(0.002),
    "River Page-Hinkley, raw": page_hinkley(3.0),
    "River Page-Hinkley, log ratio": page_hinkley(3.0, logs=True),
}
#: Families and the settings tried, from the keenest on.
TUNED_RIVALS: dict[str, Family] = {
    "raw 7 d, tuned": (raw_threshold, (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)),
    "River ADWIN, raw, tuned": (adwin, (0.3, 0.1, 0.03, 0.01, 0.002, 0.0002)),
    "River Page-Hinkley, raw, tuned": (page_hinkley, tuple(np.geomspace(1.0, 40.0, 14).tolist())),
    "River Page-Hinkley, log, tuned": (partial(page_hinkley, logs=True), tuple(np.geomspace(1.0, 20.0, 14).tolist())),
}


def tuned(families: Mapping[str, Family], streams: Sequence[Stream]) -> dict[str, tuple[Alarms, float]]:
    """Return each family at its keenest setting that keeps the budget on `streams`, none of which has a shift, and the setting."""
    years = sum(stream.years for stream in streams)
    found = {}
    for name, (family, settings) in families.items():
        for setting in settings:
            alarms = family(setting)
            if sum(len(alarms(stream)) for stream in streams) / years <= BUDGET:
                break
        found[name] = (alarms, float(setting))
    return found
