"""The demo, cut to three weeks and small models: what it prints, what it leaves behind."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from demand_maint import demo
from demand_maint.cli import main
from demand_maint.demo import bikes, run_demo
from demand_maint.errors import ConfigError
from demand_maint.report import REPORT_FILE

SMALL = "[training]\nfull_iterations = 30\nfull_learning_rate = 0.2\nfine_tune_iterations = 20\n"

pytestmark = pytest.mark.catboost


def test_the_bikes_are_nine_years_of_hours() -> None:
    """The shipped data is read with local wall-clock time in the right zone, every key once."""
    frame = bikes()
    assert frame.height == frame.select("place_id", "timestamp").unique().height > 78_000
    assert float(frame["timestamp"].min() or 0.0) == 1_284_998_400.0  # type: ignore[arg-type]  # 2010-09-20 12:00 in Washington
    assert bool(np.isfinite(frame["actual"].to_numpy()).all())


def test_a_short_demo_prints_events_figures_and_leaves_a_working_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every event is a line, the table compares with frozen and the naive, and the commands work on the root."""
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS + SMALL)
    root, out = tmp_path / "root", io.StringIO()
    report = run_demo(root, out=out, until="2013-02-02")
    text = out.getvalue()
    assert "trained     fine-tune version 2 entered the line-up" in text
    assert "An operator rolls back" in text
    assert "MAE over 768 hours: maintained" in text
    assert {result.policy for result in report.policies} == {"default", "full-28d", "frozen", "naive"}
    assert report.complete
    page = (root / REPORT_FILE).read_text(encoding="utf-8")
    assert "Accuracy against cost" in page
    for command in (["status"], ["history"], ["config"], ["verify"], ["check"], ["explain"]):
        capsys.readouterr()
        assert main([*command, "--root", str(root), "--json"]) in {0, 3}, command
        assert json.loads(capsys.readouterr().out)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """The demo never writes into a folder that holds anything."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
