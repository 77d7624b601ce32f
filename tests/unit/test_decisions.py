"""The decision journal keeps every entry and survives a torn line."""

from pathlib import Path

import numpy as np

from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.door import Door
from demand_maint.testing import VirtualClock

JANUARY, MARCH = 1_704_067_200.0, 1_709_251_200.0


def test_entries_come_back_in_order_and_by_time(tmp_path: Path) -> None:
    """Entries go to the file of their month and are read back in the window asked for."""
    journal = DecisionJournal(Door(tmp_path), VirtualClock(MARCH))
    journal.append({"at": JANUARY, "action": "nothing"})
    journal.append(
        {"action": "fine_tune", "evidence": {"mae": np.float64(2.5), "bad": float("nan"), "path": Path("x")}}
    )
    entries = list(journal.read())
    assert [entry["at"] for entry in entries] == [JANUARY, MARCH]
    assert entries[1]["evidence"] == {"mae": 2.5, "bad": None, "path": "x"}
    assert [entry["action"] for entry in journal.read(since=JANUARY + 1)] == ["fine_tune"]
    assert [entry["action"] for entry in journal.read(until=MARCH)] == ["nothing"]
    assert sorted(path.name for path in (tmp_path / "logs/decisions").iterdir()) == ["2024-01.jsonl", "2024-03.jsonl"]


def test_a_torn_line_costs_that_line_only(tmp_path: Path) -> None:
    """Half a line, foreign bytes and non-objects are skipped; the next entry is whole."""
    journal = DecisionJournal(Door(tmp_path), VirtualClock(JANUARY))
    journal.append({"n": 1})
    with (tmp_path / "logs/decisions/2024-01.jsonl").open("ab") as file:
        file.write(b'[1]\n\xff\xfe\n{"at": "x"}\n{"at": 17040672')
    journal.append({"n": 2})
    assert [entry["n"] for entry in journal.read()] == [1, 2]
