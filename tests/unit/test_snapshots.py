"""State snapshots: the newest valid one wins."""

from pathlib import Path

import pytest

from demand_maint._storage import snapshots
from demand_maint._storage.door import Door
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint.errors import NewerFormatError, PathError


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    """Give an empty store."""
    return SnapshotStore(Door(tmp_path), "sums", keep=2)


def test_the_newest_is_returned_and_the_oldest_go(store: SnapshotStore) -> None:
    """Only the newest `keep` stay, and a number may be written again."""
    assert store.latest() is None
    for number in (1, 5, 9):
        store.save(number, b"state %d" % number)
    store.save(9, b"again")
    assert store.numbers() == [5, 9]
    assert store.latest() == (9, b"again")
    assert store.load(5) == b"state 5"
    assert store.load(1) is None


def test_some_of_the_older_ones_stay_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the newest the multiples of `every` stay, and of those not more than so many."""
    store = SnapshotStore(Door(tmp_path), "serving", keep=2, every=3)
    for number in range(1, 12):
        store.save(number, b"state")
    assert store.numbers() == [3, 6, 9, 10, 11]
    monkeypatch.setattr(snapshots, "KEPT_LONGER", 2)
    store.save(12, b"state")
    assert store.numbers() == [6, 9, 11, 12]


def test_any_damage_falls_back_to_the_one_before(store: SnapshotStore, tmp_path: Path) -> None:
    """Whichever byte is flipped or missing, the damaged snapshot is set aside and the older one is returned."""
    folder = tmp_path / "logs/state/sums"
    store.save(1, b"old")
    store.save(2, b"new")
    good = (folder / "000000000002.bin").read_bytes()
    damaged = [good[:size] for size in range(len(good))]
    damaged += [good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :] for at in range(len(good)) if at not in {5, 6, 7}]
    for data in damaged:
        (folder / "000000000002.bin").write_bytes(data)
        try:
            assert store.latest() == (1, b"old")
        except NewerFormatError:
            assert data[4:6] != good[4:6]
            continue
        assert (folder / "000000000002.bin.damaged").read_bytes() == data


def test_a_newer_format_is_left_alone(store: SnapshotStore, tmp_path: Path) -> None:
    """A snapshot of a newer release raises and stays where it is."""
    store.save(1, b"state")
    path = tmp_path / "logs/state/sums/000000000001.bin"
    data = bytearray(path.read_bytes())
    data[4] = 9
    path.write_bytes(data)
    with pytest.raises(NewerFormatError, match="format 9"):
        store.latest()
    assert path.read_bytes() == data


def test_a_name_cannot_leave_the_state_directory(tmp_path: Path) -> None:
    """A store's name is one path component below the root."""
    with pytest.raises(PathError):
        SnapshotStore(Door(tmp_path), "../../etc")
