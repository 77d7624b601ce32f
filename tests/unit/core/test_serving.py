"""Serving snapshots: bytes, arithmetic and words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.serving import NAIVE, Member, Mixer, PlaceIndex, ServingSnapshot, explain
from demand_maint.errors import DamagedRegistryError, NewerFormatError

MEMBERS = (Member(3), Member(3, True), Member(2), NAIVE)


def snapshot(seed: int = 0, places: tuple[int | str, ...] = ("a", 1, "1")) -> ServingSnapshot:
    """A snapshot with random weights and levels."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4), len(places) + 1).astype(np.float32)
    levels = rng.uniform(0.5, 2.0, (len(places) + 1, 3)).astype(np.float32)
    return ServingSnapshot(7, 1.7e9, (3, 2, 0), MEMBERS, places, weights, levels)


def test_bytes_give_the_same_snapshot_back() -> None:
    """Decoding what was encoded changes no bit, and places keep their types."""
    one = snapshot()
    two = ServingSnapshot.decode(one.encode())
    assert two.encode() == one.encode()
    assert two.places == ("a", 1, "1")
    assert [type(place) for place in two.places] == [str, int, str]
    assert (two.weights == one.weights).all()
    assert two.champion == 3


@pytest.mark.parametrize("payload", [b"", b"\x90", b"rubbish", snapshot().encode()[:-5]])
def test_damaged_bytes_are_refused(payload: bytes) -> None:
    """What is no whole snapshot raises a typed error."""
    with pytest.raises(DamagedRegistryError):
        ServingSnapshot.decode(payload)


def test_a_newer_format_is_named() -> None:
    """A snapshot of a later release is refused as such, not as damage."""
    payload = bytearray(snapshot().encode())
    payload[1] = 9
    with pytest.raises(NewerFormatError):
        ServingSnapshot.decode(bytes(payload))


def test_tables_of_the_wrong_shape_are_refused() -> None:
    """Weights for fewer places than there are ids cannot be served."""
    whole = snapshot()
    with pytest.raises(DamagedRegistryError):
        ServingSnapshot(1, 0.0, whole.columns, whole.members, ("a",), whole.weights, whole.levels)


def test_the_mixture_is_the_weighted_sum_of_its_members() -> None:
    """Folding levels into factors gives the plain definition's value."""
    whole = snapshot()
    raw = np.array([[10.0, 20.0, 30.0]], dtype=np.float32)
    expected = (
        whole.weights[1, 0] * 10
        + whole.weights[1, 1] * 10 * whole.levels[1, 0]
        + whole.weights[1, 2] * 20
        + whole.weights[1, 3] * 30
    )
    assert Mixer(whole).mix(np.array([1]), raw)[0] == pytest.approx(expected, rel=1e-6)


VALUES = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan")))


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=9), st.integers(0, 99), st.integers(0, 3))
def test_a_row_is_served_alike_alone_and_in_a_batch(rows: list[tuple[float, ...]], seed: int, code: int) -> None:
    """One row, many rows and the explanation give the same bits, whatever was missing."""
    whole = snapshot(seed)
    mixer = Mixer(whole)
    raw = np.array(rows, dtype=np.float32)
    many = mixer.mix(np.full(len(raw), code), raw)
    ones = np.array([mixer.mix_one(code, row) for row in raw.tolist()])
    place = (*whole.places, "new")[code]
    told = np.array([explain(whole, place, row).served for row in raw])
    assert many.tobytes() == ones.tobytes() == told.tobytes() or np.array_equal(many, ones, equal_nan=True)
    assert np.array_equal(ones, told, equal_nan=True)


def test_who_fails_gives_its_weight_to_the_others() -> None:
    """Without the naive the rest is averaged by their own weights; without anybody there is NaN."""
    whole = snapshot()
    mixer = Mixer(whole)
    full = np.array([[10.0, 20.0, np.nan]], dtype=np.float32)
    w, level = whole.weights[0].astype(float), whole.levels[0].astype(float)
    expected = (w[0] * 10 + w[1] * 10 * level[0] + w[2] * 20) / (w[0] + w[1] + w[2])
    assert mixer.mix(np.array([0]), full)[0] == pytest.approx(expected)
    assert np.isnan(mixer.mix(np.array([0]), np.full((1, 3), np.nan, dtype=np.float32))[0])


def test_a_member_without_weight_can_still_step_in() -> None:
    """Where nobody with a weight has a value, the first that has one serves."""
    weights = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    whole = ServingSnapshot(1, 0.0, (3, 0), (Member(3), NAIVE), ("a",), weights, np.ones((2, 2), dtype=np.float32))
    raw = np.array([[np.nan, 5.0]], dtype=np.float32)
    assert Mixer(whole).mix(np.array([0]), raw)[0] == 5.0
    assert Mixer(whole).mix_one(0, raw[0].tolist()) == 5.0


def test_places_of_different_types_are_different() -> None:
    """1, "1", True and numpy's 1 go where they belong; what is no place id gets the pooled row."""
    index = PlaceIndex((1, "1", "a"))
    assert index.codes([1, "1", True, None, 1.5, "zz"]).tolist() == [0, 1, 3, 3, 3, 3]
    assert index.codes(np.array([1, 2])).tolist() == [0, 3]
    assert index.codes(np.array(["1", "a"])).tolist() == [1, 2]
    assert index.code(np.int64(1)) == 0


def test_an_explanation_names_the_members() -> None:
    """The words say who made the value, by how much, and who was left out."""
    whole = snapshot()
    text = explain(whole, "a", np.array([10.0, np.nan, 30.0], dtype=np.float32)).text
    assert "snapshot 7" in text
    assert "model 3, level-calibrated" in text
    assert "dropped: model 2" in text
    assert "seasonal naive" in text
    assert "pooled weights" in explain(whole, "elsewhere", np.ones(3, dtype=np.float32)).text
