"""From a line-up's sums to weights and levels.

The weight of a member at a place is proportional to exp(-sharpness x excess): its discounted error relative to the best
member's, the place's own shrunk to the pool's.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from demand_maint.config import ServingConfig
from demand_maint.core.calibration import LevelCalibration, discounts, effective_days
from demand_maint.core.lineup_state import (
    ACTUAL,
    CALIBRATED_LOSS,
    FORECAST,
    LOSS,
    REFERENCE,
    SERVED,
    LineUpState,
    N,
    Seat,
)
from demand_maint.core.serving import Member

__all__ = ["SEED_DAYS", "Weigher"]

Floats = NDArray[np.float64]
Table = NDArray[np.float32]
NEWCOMER_WEIGHT = 0.5  # the imputed past of a newcomer counts this much
NEWCOMER_RANGE = (0.8, 1.5)  # and it claims to be no better or worse than this, relative to the champion
SEED_DAYS = 1.0  # days of evidence that a newcomer's out-of-sample level counts
TINY = 1e-9


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
        for code, (_, row) in self.state.frozen.items():
            if row is not None:
                weights[code] = _frozen_weights(row[0], members, weights[code])
                levels[code] = [row[1].get(version, levels[code, k]) for k, version in enumerate(columns)]
        return weights, levels

    def weights(self, members: tuple[Member, ...]) -> Floats:
        """Weights (P + 1, M): the champion alone while warming up or where nothing is known."""
        serving, sums = self.serving, self.state.sums
        champion_only = np.zeros((sums.places + 1, len(members)))
        champion_only[:, 0] = 1.0
        if sums.span <= serving.warm_up_days:
            return champion_only
        own, pool = self.excess(members)
        if not np.isfinite(pool).any():
            return champion_only
        count = self._discounted(SERVED, N)
        daily = count.mean() / max(effective_days(sums.span, serving.half_life_days), 1.0) if len(count) else 0.0
        prior = serving.prior_days * daily
        trust = np.divide(count, count + prior, out=np.zeros_like(count), where=count > 0)[:, None]
        known = np.isfinite(pool)
        pooled = np.where(known, pool, 0.0)
        own = np.where(np.isfinite(own), own, pooled)
        every = np.where(known, np.vstack([trust * own + (1 - trust) * pooled, pooled]), np.inf)
        weights = np.exp(-serving.sharpness * (every - every.min(axis=1, keepdims=True)))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)

    def excess(self, members: tuple[Member, ...]) -> tuple[Floats, Floats]:
        """Relative excess error over the best member: (P, M) each place's own, and (M,) pooled; NaN where unknown."""
        evidence = [self._evidence(member) for member in members]
        loss = np.stack([mine for mine, _ in evidence], axis=1)
        reference = np.stack([its for _, its in evidence], axis=1)
        own = _over_best(loss, reference)
        pool = _over_best(loss.sum(axis=0)[None], reference.sum(axis=0)[None])[0]
        return own, pool

    def levels(self, version: int) -> Floats:
        """Levels (P + 1,) of a version, the pooled one last."""
        sums, half_life = self.state.sums, self.serving.calibration_half_life_days
        seat = self.state.seats[version]
        if version == 0 or sums.newest is None:
            return np.ones(sums.places + 1)
        actual = self._discounted(seat.slot, ACTUAL, half_life)
        forecast = self._discounted(seat.slot, FORECAST, half_life)
        seeded = len(seat.actual)
        age = max(sums.newest - seat.day, 0)
        if seeded:
            fade = float(discounts(np.array([float(age)]), half_life)[0])
            actual[:seeded] += fade * np.asarray(seat.actual)
            forecast[:seeded] += fade * np.asarray(seat.forecast)
        return self.calibration.levels(actual, forecast, min(age + 1, sums.span) + (SEED_DAYS if seeded else 0.0))

    def newcomer_ratio(self, skill: float | None) -> float | None:
        """Error a newcomer is expected to make, relative to the served one; ``None`` to start beside the others.

        Parameters
        ----------
        skill
            Its out-of-sample error over the seasonal naive's on the same rows.
        """
        state = self.state
        champion, naive = state.seats.get(state.columns[0]) if state.columns else None, state.seats.get(0)
        if skill is None or champion is None or naive is None:
            return None
        live_naive, live_champion = self._pooled(naive), self._pooled(champion)
        if live_naive is None or live_champion is None:
            return None
        claim = min(max(skill * live_naive / live_champion, NEWCOMER_RANGE[0]), NEWCOMER_RANGE[1])
        # half its own claim, half the champion's standing: the holdout of a training is short
        return live_champion * float(np.sqrt(claim))

    def _evidence(self, member: Member) -> tuple[Floats, Floats]:
        """Discounted error (P,) of a member and of what was served on the same rows, a newcomer's imputed past included."""
        seat = self.state.seats[member.version]
        loss = self._discounted(seat.slot, CALIBRATED_LOSS if member.calibrated else LOSS)
        reference = self._discounted(seat.slot, REFERENCE)
        if member.version:
            sums = self.state.sums
            past = (sums.day < seat.day)[:, None] * sums.valid
            gap = np.maximum(sums.data[SERVED, LOSS] - sums.data[seat.slot, REFERENCE], 0.0) * past
            imputed = NEWCOMER_WEIGHT * (discounts(sums.ages, self.serving.half_life_days) @ gap)
            ratio = seat.ratio if seat.ratio is not None else self._usual_ratio()
            loss, reference = loss + ratio * imputed, reference + imputed
        return loss, reference

    def _usual_ratio(self) -> float:
        """Error of the models that have live evidence relative to what was served; 1 where there is none."""
        ratios = [self._pooled(self.state.seats[version]) for version in self.state.columns if version]
        known = [ratio for ratio in ratios if ratio is not None]
        return float(np.mean(known)) if known else 1.0

    def _pooled(self, seat: Seat) -> float | None:
        loss, reference = self._discounted(seat.slot, LOSS).sum(), self._discounted(seat.slot, REFERENCE).sum()
        return float(loss / reference) if reference > TINY else None

    def _discounted(self, slot: int, field: int, half_life: float | None = None) -> Floats:
        """Discounted sum over days, (P,)."""
        sums = self.state.sums
        weight = discounts(sums.ages, half_life or self.serving.half_life_days)
        return np.asarray(weight @ (sums.data[slot, field] * sums.valid), dtype=np.float64)


def _over_best(loss: Floats, reference: Floats) -> Floats:
    """Error relative to the best member's, minus 1; NaN for a member without evidence."""
    ratio = np.divide(loss, reference, out=np.full(loss.shape, np.inf), where=reference > TINY)
    best = ratio.min(axis=1, keepdims=True)
    excess = np.full(ratio.shape, np.nan)
    np.divide(ratio, np.maximum(best, TINY), out=excess, where=np.isfinite(ratio))
    return excess - 1.0


def _frozen_weights(row: dict[Member, float], members: tuple[Member, ...], fresh: Table) -> Table:
    """Give back the frozen weights of those who still sit; the fresh ones where nobody of them does."""
    kept = np.array([row.get(member, 0.0) for member in members], dtype=np.float32)
    if set(row) == set(members):
        return kept
    total = kept.sum()
    return kept / total if total > 0 else fresh
