"""Newcomers and regressions: how soon a member is worth its weight."""

import numpy as np

from demand_maint.config import PolicyConfig, ServingConfig
from demand_maint.core.promotion import probation_verdict
from demand_maint.core.serving import Member
from demand_maint.core.versions import ModelMetadata
from tests.unit.core.lineup.world import DAY, PLACES, START, World


def test_a_newcomer_starts_from_its_own_claim() -> None:
    """Whose own figures are worse than what is served starts with less; good ones prove nothing yet."""
    weights = []
    for mae in (10.0, 20.0, 60.0, 80.0):
        world = World([1])
        world.live(10, {1: (0.0, 0.2), 0: (0.0, 0.2)})
        metadata = ModelMetadata(
            features=("x",), loss="RMSE", kind="fine_tune", created_at=0.0, metrics={"mae": mae, "naive_mae": 40.0}
        )
        world.line_up.seat([1, 2], {2: metadata}, at=START + 10.0 * DAY, places=PLACES)
        world.snapshots.append(world.snap())
        weights.append(world.weight(Member(2), Member(2, True)))
    assert weights[0] == weights[1] > weights[2] >= weights[3]
    assert 0.001 < weights[3] < weights[0] < 0.99


def test_a_newcomer_far_off_the_mark_is_gone_the_next_day() -> None:
    """A model with five times the error keeps next to no weight after one day of truth."""
    world = World([1])
    world.live(10, {1: (0.0, 0.1), 0: (0.0, 0.15)})
    world.line_up.seat([1, 2], {}, at=START + 10.0 * DAY, places=PLACES)
    world.snapshots.append(world.snap())
    assert world.weight(Member(2), Member(2, True)) > 0.2
    world.live(1, {1: (0.0, 0.1), 2: (0.0, 0.75), 0: (0.0, 0.15)})
    assert world.weight(Member(2), Member(2, True)) < 0.02


def test_small_differences_count_where_days_are_quiet() -> None:
    """A model that is 5 % worse every single day loses most of its weight; amid days that swing by half it keeps its share."""
    left = []
    for swing in (0.0, 0.5):
        world = World([1, 2], serving=ServingConfig(calibration_half_life_days=30.0))
        rng = np.random.default_rng(3)
        for _ in range(12):
            first, second = 0.1 * np.exp(swing * rng.normal(size=2))
            world.live(1, {1: (0.0, first), 2: (0.0, 1.05 * second), 0: (0.0, 0.3)}, shared=1.0)
        left.append(world.weight(Member(2), Member(2, True)))
    assert left[0] < 0.3
    assert left[0] < 0.6 * left[1]


def test_a_member_that_errs_to_the_other_side_is_worth_more_than_its_error() -> None:
    """Of two equally bad members the one that balances the others gets more weight."""
    world, weights, served, best = World([1, 2, 3], calibrate=False), [], 0.0, 0.0
    for day in range(16):
        world.live(1, {1: (0.10, 0.02), 2: (0.12, 0.02), 3: (-0.12, 0.02), 0: (0.12, 0.02)})
        if day >= 6:
            weights.append((world.weight(Member(2)), world.weight(Member(3))))
            rows = world.batches[-1]
            served += float(np.abs(rows.served - rows.actual).sum())
            best += float(np.abs(rows.members[:, 0] - rows.actual).sum())
    same_side, other_side = np.mean(weights, axis=0)
    assert other_side > 2 * same_side
    assert served < 0.8 * best


def test_a_newcomers_levels_start_from_its_own_sums() -> None:
    """Per place, out-of-sample actual over predicted is the first level, shrunk as usual."""
    metadata = ModelMetadata(
        features=("x",), loss="RMSE", kind="full", created_at=0.0,
        levels={"a": [1500.0, 1000.0, 10.0], "b": [1000.0, 1000.0, 10.0], "c": [1000.0, 1000.0, 10.0]},
    )  # fmt: skip
    world = World([1])
    world.live(5, {1: (0.0, 0.1), 0: (0.0, 0.2)})
    world.line_up.seat([2, 1], {2: metadata}, at=START + 5.0 * DAY, places=PLACES)
    levels = world.snap().levels[:, 0]
    assert levels[0] > 1.2
    assert levels[1] == levels[2] < levels[0]


def test_a_forced_regression_loses_its_weight_and_is_taken_back(big: bool) -> None:
    """A model 25 % worse, deployed by force, loses half its weight within 2 days of labels and is rolled back within 4 (median)."""
    halved, taken_back = [], []
    for seed in range(200 if big else 41):
        world = World([1], seed)
        world.live(12, {1: (0.0, 0.1), 0: (0.0, 0.2)})
        world.line_up.seat([2, 1], {}, at=START + 12.0 * DAY, places=PLACES)
        world.snapshots.append(world.snap())
        at_first = world.weight(Member(2), Member(2, True))
        days_to_half = days_to_rollback = 99
        for day in range(1, 8):
            world.live(1, {1: (0.0, 0.1), 2: (0.0, 0.125), 0: (0.0, 0.2)}, shared=0.95)
            if world.weight(Member(2), Member(2, True)) <= at_first / 2:
                days_to_half = min(days_to_half, day)
            pairs = world.line_up.paired_days(1, 2)
            verdict = probation_verdict(
                pairs, PolicyConfig(), since_day=START // DAY + 12, today=START // DAY + world.day
            )
            if verdict.verdict == "worse":
                days_to_rollback = min(days_to_rollback, day)
        halved.append(days_to_half)
        taken_back.append(days_to_rollback)
    assert np.median(halved) <= 2
    assert np.median(taken_back) <= 4
