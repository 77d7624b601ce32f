"""The policy frontier's own machinery, on a stream small enough for every run."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.catboost
def test_the_frontier_lives_through_a_shift(tmp_path: Path) -> None:
    """On two places that shift, the mixture beats the frozen model and every fit it made is on the bill."""
    script = (
        "import json, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from benchmarks.policy_frontier import frontier\n"
        "print(json.dumps(frontier('tiny', 28, report=lambda line: None)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, check=True)
    table = msgspec.json.decode(done.stdout)["policies"]
    ours = table["ours: mixture"]
    assert ours["mae"] < 0.97 * table["frozen"]["mae"]
    assert ours["mae"] < table["ours: champion"]["mae"]
    assert ours["cpu"] > 0
    assert ours["fine_tune fits"] >= 1
    assert table["full retrain every 7 d"]["fits"] == 3
