"""What the best possible test could do on a stream: a bound, not a rival.

The oracle is told in hindsight where the stream stands without the shift, how much it scatters from day to day and for how long
(as a first-order autoregression), and how large the shift will be; only when it comes it does not know. For normal figures its
cumulative sum of log likelihood ratios is the quickest test there is (Moustakides, Annals of Statistics 14, 1986). Where ours
falls short and the oracle does too, the stream is to blame.
"""

import math
from functools import partial

import numpy as np

from benchmarks.detector_rivals import BUDGET, Alarms, Family
from benchmarks.detector_streams import REFERENCE, Stream, daily_figures

__all__ = ["HEIGHTS", "oracle"]

#: A day counts for at most so many standard deviations, as in our test.
CLIP = 3.0
#: Multiples, tried from the keenest on, of the height that keeps the budget on normal figures.
HEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)


def oracle(effect: float) -> Family:
    """Return the oracle for a shift of the error by `effect`, and the multiples of its height."""
    return partial(_oracle, effect), HEIGHTS


def _oracle(effect: float, multiple: float) -> Alarms:
    def alarms(stream: Stream) -> list[int]:
        figures = daily_figures(stream)[REFERENCE:]
        usual, spread = _hindsight(daily_figures(stream.unshifted or stream)[REFERENCE:])
        half = math.log1p(effect) / spread / 2.0
        height, total = multiple * _height(half, 365.0 / BUDGET), 0.0
        found = []
        for day, figure in enumerate(figures.tolist()):
            if math.isnan(figure):
                continue
            total = max(total + min(max((figure - usual) / spread, -CLIP), CLIP) - half, 0.0)
            if total > height:
                found.append(day)
                total = 0.0
        return found

    return alarms


def _hindsight(figures: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation, the latter widened by what a day tells about the next."""
    usual, spread = float(np.nanmean(figures)), float(np.nanstd(figures))
    away = figures - usual
    told = min(max(float(np.nanmean(away[1:] * away[:-1])) / spread**2, 0.0), 0.9)
    return usual, spread * math.sqrt((1.0 + told) / (1.0 - told))


def _height(half: float, days: float) -> float:
    """Return the height passed every so many days by a sum with an allowance of `half` (D. Siegmund, Sequential Analysis, 1985)."""
    low, high = 0.0, 300.0
    while high - low > 1e-3:
        middle = (low + high) / 2.0
        power = 2.0 * half * middle
        if power < 500.0 and (math.exp(power) - power - 1.0) / (2.0 * half**2) < days:
            low = middle
        else:
            high = middle
    return max(low - 1.166, 0.0)
