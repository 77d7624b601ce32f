"""The serving benchmarks run, and what they check is true."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.catboost
def test_no_prediction_is_of_two_versions(big: bool) -> None:
    """Under swaps of real models every prediction equals that of the version it names."""
    swaps, seconds = (1000, "30") if big else (80, "2")
    command = [sys.executable, "-m", "benchmarks.hot_swap", "--swaps", str(swaps), "--seconds", seconds, "--json"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert found["of no single version"] == 0
    assert found["swaps"] == swaps
    assert found["predictions"] > 0


@pytest.mark.catboost
def test_the_overhead_is_measured() -> None:
    """The benchmark prints every figure the issue asks for."""
    command = [sys.executable, "-m", "benchmarks.predict_overhead", "--rounds", "2", "--json"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert len([name for name in found if "target" in name]) == 6
