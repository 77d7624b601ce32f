"""A logging process is killed again and again, with roll-overs, drains and late truths in flight."""

import random
import subprocess
import sys
from pathlib import Path

import journal_life as life
import numpy as np
import polars as pl
import pytest

from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

LIVES_PER_ROOT = 10


def expected(operations: int) -> pl.DataFrame:
    """Rows that the first `operations` operations stand for."""
    predicted = (operations + 1) // 2
    known = max(operations // 2 - life.LAG, 0)
    keys = np.arange(predicted)
    rows = pl.DataFrame(
        {
            "place_id": keys % life.PLACES,
            "slot": life.START + keys // life.PLACES * life.STEP,
            "predicted": keys.astype(float),
            "actual": np.where(keys < known, 2.0 * keys, np.nan),
        }
    )
    rare = np.repeat(keys[keys % life.RARE == 7], life.MANY)
    beside = pl.DataFrame(
        {
            "place_id": life.PLACES + np.arange(len(rare)) % life.MANY,
            "slot": life.START + rare // life.PLACES * life.STEP,
            "predicted": rare.astype(float),
            "actual": np.full(len(rare), np.nan),
        }
    )
    return pl.concat([rows, beside]).sort("slot", "place_id")


@pytest.mark.timeout(24 * 3600)  # the whole campaign takes its time
def test_kill_9_at_any_instant_loses_doubles_and_invents_nothing(tmp_path: Path, big: bool) -> None:
    """Every acknowledged record is there once after each death, and at most the one in flight beside them."""
    kills = 10_000 if big else 100
    dice = random.Random(20261123)
    process = subprocess.Popen(
        [sys.executable, life.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for batch in range(kills // LIVES_PER_ROOT):
            root = tmp_path / str(batch)
            root.mkdir()
            acknowledged = 0
            for _ in range(LIVES_PER_ROOT):
                process.stdin.write(f"{root} {dice.uniform(2, 260 if big else 160):.1f}\n")
                process.stdin.flush()
                count, code = map(int, process.stdout.readline().split())
                assert code == -9
                assert count >= acknowledged
                acknowledged = count
            check(root, acknowledged)
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def check(root: Path, acknowledged: int) -> None:
    """Compare what a new monitor finds with what was acknowledged; an operation in flight may have been repeated."""
    clock = VirtualClock(life.key_of(acknowledged)[1] + 86400.0)
    with ModelMonitor(root, life.CONFIG, clock) as monitor:
        records = monitor.records().select("place_id", "slot", "predicted", "actual")
        counts = monitor.counts()
        assert not monitor.verify()
    extra = len(records) - len(expected(acknowledged))
    assert extra in {0, 1, 1 + life.MANY}
    found = records.sort("slot", "place_id")
    for operations in (acknowledged, acknowledged + 1):
        if found.equals(expected(operations)):
            break
    else:
        raise AssertionError(f"{len(found)} rows are not those of {acknowledged} operations")
    # a life begins again with the operation in flight when the one before was killed
    many, single = divmod(counts["replaced"] + counts["duplicates"], 1 + life.MANY)
    assert many + single <= LIVES_PER_ROOT
    assert counts["corrected"] == counts["orphans"] == 0
