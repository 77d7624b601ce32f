"""From a line-up's sums to weights and levels.

The weight of a member at a place is proportional to exp(-s R), R being its discounted regret relative to the discounted served
error, the place's own shrunk to the pool's, and s being `sharpness` over the standard error of the pool's R, at least `LEAST`.

A difference of 2 % that recurs every day thus weighs as much as one of 20 % amid such swings, and one sharpness fits quiet and
wild streams alike: a second-order learning rate, as in Gaillard, Stoltz and van Erven, *A second-order bound with excess losses*,
COLT 2014, with discounts. The floor is for a newcomer far off the mark, before its days tell how it scatters.
`python -m benchmarks.policy_frontier` shows what this is worth.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from demand_maint.config import ServingConfig
from demand_maint.core.calibration import LevelCalibration, daily_discounts, discounts, effective_days
from demand_maint.core.lineup_state import (
    ACTUAL,
    CALIBRATED_REGRET,
    FORECAST,
    LOSS,
    REFERENCE,
    REGRET,
    SERVED,
    LineUpState,
    N,
    Seat,
)
from demand_maint.core.serving import Member

__all__ = ["SEED_DAYS", "Regrets", "Weigher", "regret"]

Floats = NDArray[np.float64]
Table = NDArray[np.float32]
DIRECT = 0.3  # part of a regret that is the member's own error; the rest is what it would do to the served one
LEAST = 5.0  # a weight falls at least this fast with the regret
WORST_CLAIM = 0.5  # no newcomer is believed to be worse than this, relative to what is served
USUAL_SCATTER = 0.05  # of a member's daily regret, until the days tell
SCATTER_DAYS = 2.0  # how many days the usual scatter counts
SEED_DAYS = 1.0  # days of evidence that a newcomer's out-of-sample figures count
TINY = 1e-9


def regret(value: Floats, served: Floats, actual: Floats) -> Floats:
    """How much better (n,) the served values would have been without leaning towards a member's values.

    Mostly the slope of the served error in the direction of the member: one that errs to the other side than the mixture is
    worth more than its own error says. The rest is its own error over the served one, so that a bad member cannot live on
    being different.

    >>> regret(np.array([12.0, 9.0]), np.array([11.0, 11.0]), np.array([10.0, 10.0])).round(2).tolist()
    [1.0, -1.4]
    """
    slope = np.sign(served - actual) * (value - served)
    own = np.abs(value - actual) - np.abs(served - actual)
    return np.asarray((1.0 - DIRECT) * slope + DIRECT * own, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Regrets:
    """Discounted regrets of M members relative to the discounted served error.

    Attributes
    ----------
    own, pool
        (P, M) each place's, and (M,) of all places together.
    error
        (M,) standard error of `pool`.
    """

    own: Floats
    pool: Floats
    error: Floats


@dataclass(slots=True)
class Weigher:
    """Reads a line-up's state; changes nothing.

    Parameters
    ----------
    state
        The sums and seats.
    serving
        Half-lives, sharpness, priors and warm-up.
    """

    state: LineUpState
    serving: ServingConfig
    calibration: LevelCalibration = field(init=False)

    def __post_init__(self) -> None:
        self.calibration = LevelCalibration(
            self.serving.calibration_half_life_days, self.serving.calibration_prior_days
        )

    def tables(self, members: tuple[Member, ...]) -> tuple[Table, Table]:
        """Weights (P + 1, M) and levels (P + 1, K) as float32, the pool's in the last row."""
        columns = self.state.columns
        weights = self.weights(members).astype(np.float32)
        levels = np.stack([self.levels(version) for version in columns], axis=1).astype(np.float32)
        for code, row in self.state.frozen.items():
            if row is not None:
                weights[code] = _frozen_weights(row[0], members, weights[code])
                levels[code] = [row[1].get(version, levels[code, k]) for k, version in enumerate(columns)]
        return weights, levels

    def weights(self, members: tuple[Member, ...]) -> Floats:
        """Weights (P + 1, M): the champion alone while warming up or where nothing is known."""
        serving, sums = self.serving, self.state.sums
        regrets = self.regrets(members) if sums.span > serving.warm_up_days else None
        every = np.zeros((sums.places + 1, len(members)))
        if regrets is None:
            every[:, 0] = 1.0
            return every
        count = self._discounted(SERVED, N)
        prior = serving.prior_days * count.mean() / max(effective_days(sums.span, serving.half_life_days), 1.0)
        trust = np.divide(count, count + prior, out=np.zeros_like(count), where=count > 0)[:, None]
        every[:-1], every[-1] = trust * regrets.own + (1 - trust) * regrets.pool, regrets.pool
        every *= np.maximum(serving.sharpness / regrets.error, LEAST)
        weights = np.exp(every.min(axis=1, keepdims=True) - every)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)

    def regrets(self, members: tuple[Member, ...]) -> Regrets | None:
        """Regrets of all members; ``None`` where nothing was served wrongly yet."""
        sums = self.state.sums
        decay = daily_discounts(sums.days, self.serving.half_life_days)
        served = self._discounted(SERVED, LOSS)
        total = float(served.sum())
        if total <= TINY:
            return None
        span = slice(sums.days - int(sums.span), None)
        days = float(decay[span].sum())
        usual = SCATTER_DAYS * (USUAL_SCATTER * total / days) ** 2
        seats = [self.state.seats[member.version] for member in members]
        fields = [CALIBRATED_REGRET if member.calibrated else REGRET for member in members]
        sum_of = sums.data[[seat.slot for seat in seats], fields]
        by_day = sum_of.sum(axis=2)
        pool = by_day @ decay / total
        around = decay[span] * (by_day[:, span] - pool[:, None] * total / days)
        error = np.sqrt((around * around).sum(axis=1) + usual) / total
        claims = self._claims(seats) / days
        own = np.zeros((len(members), sums.places))
        np.divide(decay @ sum_of, served, out=own, where=served > TINY)
        return Regrets((claims[:, None] + own).T, pool + claims, error)

    def levels(self, version: int) -> Floats:
        """Levels (P + 1,) of a version, the pooled one last."""
        sums, half_life = self.state.sums, self.serving.calibration_half_life_days
        seat = self.state.seats[version]
        if version == 0 or sums.newest is None:
            return np.ones(sums.places + 1)
        weight = daily_discounts(sums.days, half_life)
        actual, forecast = weight @ sums.data[seat.slot, [ACTUAL, FORECAST]]
        seeded = len(seat.actual)
        age = max(sums.newest - seat.day, 0)
        if seeded:
            fade = float(discounts(np.array([float(age)]), half_life)[0])
            actual[:seeded] += fade * np.asarray(seat.actual)
            forecast[:seeded] += fade * np.asarray(seat.forecast)
        return self.calibration.levels(actual, forecast, min(age + 1, sums.span) + (SEED_DAYS if seeded else 0.0))

    def claim(self, skill: float | None) -> float:
        """How much worse than what is served a newcomer is by its own account, relative, from 0 to `WORST_CLAIM`.

        A good account proves nothing yet, a bad one is believed for a while.

        Parameters
        ----------
        skill
            Its out-of-sample error over the seasonal naive's on the same rows.
        """
        naive = self.state.seats.get(0)
        live_naive = self._pooled(naive) if naive is not None else None
        if skill is None or live_naive is None:
            return 0.0
        return min(max(skill * live_naive - 1.0, 0.0), WORST_CLAIM)

    def _claims(self, seats: list[Seat]) -> Floats:
        """Return what is left of the claims of seats, in days of served error."""
        ages = np.array([float((self.state.sums.newest or 0) + 1 - seat.day) for seat in seats])
        claims = np.array([seat.claim for seat in seats])
        return DIRECT * claims * SEED_DAYS * discounts(ages, self.serving.half_life_days)

    def _pooled(self, seat: Seat) -> float | None:
        loss, reference = self._discounted(seat.slot, LOSS).sum(), self._discounted(seat.slot, REFERENCE).sum()
        return float(loss / reference) if reference > TINY else None

    def _discounted(self, slot: int, field: int) -> Floats:
        """Discounted sum over days, (P,)."""
        sums = self.state.sums
        weight = daily_discounts(sums.days, self.serving.half_life_days)
        return np.asarray(weight @ sums.data[slot, field], dtype=np.float64)


def _frozen_weights(row: dict[Member, float], members: tuple[Member, ...], fresh: Table) -> Table:
    """Give back the frozen weights of those who still sit; the fresh ones where nobody of them does."""
    kept = np.array([row.get(member, 0.0) for member in members], dtype=np.float32)
    if set(row) == set(members):
        return kept
    total = kept.sum()
    return kept / total if total > 0 else fresh
