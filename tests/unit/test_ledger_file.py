"""The manager's memory on disk is read again whenever it is another one, and only then."""

from pathlib import Path

import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.ledger_file import LEDGER_FILE, LedgerFile
from demand_maint.core.ledger import MaintenanceLedger


def test_what_others_did_to_the_file_is_seen(tmp_path: Path) -> None:
    """A ledger written by somebody else, of the same length, a deleted one and one that came back are what is loaded."""
    mine, theirs = LedgerFile(Door(tmp_path)), LedgerFile(Door(tmp_path))
    assert mine.load() == MaintenanceLedger()
    for at in (1.0, 2.0, 3.0):
        theirs.save(MaintenanceLedger(last_check_at=at))
        assert mine.load().last_check_at == at
    mine.save(MaintenanceLedger(last_check_at=4.0))
    assert mine.load().last_check_at == theirs.load().last_check_at == 4.0
    (tmp_path / LEDGER_FILE).unlink()
    assert mine.load() == theirs.load() == MaintenanceLedger()
    theirs.save(MaintenanceLedger(last_check_at=5.0))
    assert mine.load().last_check_at == 5.0


def test_a_file_that_is_the_same_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks five times in a check reads the file once, and who wrote it does not read it at all."""
    writer, reader = LedgerFile(Door(tmp_path)), LedgerFile(Door(tmp_path))
    writer.save(MaintenanceLedger(last_check_at=1.0))
    reads: list[str] = []
    original = Door.read_bytes

    def counted(door: Door, rel: str, limit: int | None = None) -> bytes:
        reads.append(rel)
        return original(door, rel, limit)

    monkeypatch.setattr(Door, "read_bytes", counted)
    for _ in range(5):
        assert writer.load().last_check_at == 1.0
    assert not reads
    for _ in range(5):
        assert reader.load().last_check_at == 1.0
    assert reads == [LEDGER_FILE]
