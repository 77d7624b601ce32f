"""From bytes to a model that predicts: what is refused, and that the rest is CatBoost's own answer."""

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from catboost import CatBoostRegressor, Pool

from demand_maint._training.loading import cbm_to_joblib, load_model, parse_cbm, read_model_file
from demand_maint._training.pickles import read_pickle
from demand_maint.errors import CatBoostMissingError, DamagedModelError, ModelFileError, ModelTooLargeError

pytestmark = pytest.mark.catboost


def digest(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


def fitted(lab: Any, **params: Any) -> CatBoostRegressor:
    """Fit a model of another kind."""
    frame = lab.demand()
    model = CatBoostRegressor(**({"iterations": 5, "verbose": False, "allow_writing_files": False} | params))
    return model.fit(Pool(lab.matrix(frame), frame["actual"].to_numpy(), feature_names=list(lab.features)))


def test_predictions_are_catboosts_own(lab: Any, base_bytes: bytes) -> None:
    """One row or many, in C or Fortran order, as float64 arrays of the right length and bit for bit CatBoost's."""
    model, reference = load_model(base_bytes), CatBoostRegressor()
    reference.load_model(blob=base_bytes)
    rows = lab.matrix(lab.demand(40, seed=5))
    for some in (rows, np.ascontiguousarray(rows), rows[:1], np.ascontiguousarray(rows[:1]), rows[:2]):
        found = model.predict(some)
        assert found.dtype == np.float64
        assert found.shape == (len(some),)
        np.testing.assert_array_equal(found, reference.predict(some))


def test_no_rows_are_no_predictions_and_no_words(base_bytes: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """An empty round is answered by an empty array; nothing is printed, as CatBoost would."""
    model = load_model(base_bytes)
    assert model.predict(np.zeros((0, len(model.feature_names)), dtype=np.float32)).shape == (0,)
    assert capfd.readouterr() == ("", "")


def test_a_model_says_what_it_is(base_bytes: bytes) -> None:
    """Names, loss, trees and importances come from the model itself."""
    model = load_model(base_bytes, sha256=digest(base_bytes))
    assert (model.feature_names, model.loss, model.tree_count) == (("lag", "hour", "noise"), "RMSE", 20)
    assert sum(model.importances().values()) == pytest.approx(100)
    assert model.own_metadata == {}


def test_every_flipped_byte_is_refused(base_bytes: bytes, *, big: bool) -> None:
    """Two thousand random flips of one byte: each is another file than the one committed, and none reaches the parser."""
    rng, wanted = np.random.default_rng(0), digest(base_bytes)
    for _ in range(50_000 if big else 2000):
        damaged = bytearray(base_bytes)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        with pytest.raises(DamagedModelError, match="sha256"):
            load_model(bytes(damaged), sha256=wanted)


def test_every_truncation_is_refused(base_bytes: bytes, *, big: bool) -> None:
    """However much is missing at the end, or was added there, the model is refused."""
    wanted = digest(base_bytes)
    for length in range(0, len(base_bytes), 1 if big else 97):
        with pytest.raises(DamagedModelError):
            load_model(base_bytes[:length], sha256=wanted)
    with pytest.raises(DamagedModelError):
        load_model(base_bytes + b"\0", sha256=wanted)


@pytest.mark.parametrize("data", [b"", b"CBM", b"\x80\x04.", b"CBM1", b"CBM1" + b"\xff" * 64, b"{}" * 100])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    """Nothing, another format, or a mere beginning is a DamagedModelError also without a digest to compare."""
    with pytest.raises(DamagedModelError):
        load_model(data)


@pytest.mark.parametrize("loss", ["RMSEWithUncertainty", "MultiQuantile:alpha=0.1,0.9"])
def test_a_model_with_several_answers_is_refused(lab: Any, loss: str) -> None:
    """Demand is one number per row; the message names the loss and how many numbers it gives."""
    data = fitted(lab, loss_function=loss)._serialize_model()
    with pytest.raises(ModelFileError, match=f"{loss[:8]}.*2 numbers per row"):
        load_model(data)


def test_a_model_with_text_categories_is_refused(lab: Any) -> None:
    """Features that are no numbers cannot be served from float32 rows, and the message names them."""
    frame = lab.demand().to_dict(as_series=False)
    rows = list(zip(map(str, frame["hour"]), frame["lag"], strict=True))
    model = CatBoostRegressor(iterations=3, verbose=False, allow_writing_files=False)
    model.fit(Pool(rows, frame["actual"], cat_features=[0], feature_names=["hour", "lag"]))
    with pytest.raises(ModelFileError, match="'hour'"):
        load_model(model._serialize_model())


def test_what_is_no_regular_file_is_refused(tmp_path: Path, base_bytes: bytes) -> None:
    """A directory, a link, a FIFO, a device, a missing, empty or overlong file and an impossible path each get an error at once."""
    model = tmp_path / "model.cbm"
    model.write_bytes(base_bytes)
    link, fifo, empty = tmp_path / "link.cbm", tmp_path / "fifo.cbm", tmp_path / "empty.cbm"
    link.symlink_to(model)
    os.mkfifo(fifo)
    empty.touch()
    for bad in (tmp_path, link, fifo, "/dev/zero", tmp_path / "missing.cbm", "a\0b"):
        with pytest.raises(ModelFileError):
            read_model_file(bad)
    with pytest.raises(DamagedModelError, match="empty"):
        read_model_file(empty)
    with pytest.raises(ModelTooLargeError, match="max_model_megabytes"):
        read_model_file(model, limit_bytes=len(base_bytes) - 1)
    assert read_model_file(model, limit_bytes=len(base_bytes)) == base_bytes


@pytest.mark.parametrize("loss", ["RMSE", "Poisson"])
def test_the_export_loads_with_plain_joblib_and_predicts_the_same(lab: Any, loss: str) -> None:
    """rf_model.joblib is an ordinary dump; what it predicts, and what comes back from it, is what the .cbm predicts."""
    data = fitted(lab, loss_function=loss)._serialize_model()
    dump = cbm_to_joblib(data)
    rows = lab.matrix(lab.demand(20, seed=5))
    expected = load_model(data).predict(rows)
    np.testing.assert_array_equal(joblib.load(io.BytesIO(dump)).predict(rows), expected)
    np.testing.assert_array_equal(load_model(read_pickle(dump, len(dump))).predict(rows), expected)


def test_without_catboost_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CatBoost cannot be imported, the message is the document's and ends with the remedy."""
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(CatBoostMissingError, match=r"CatBoost not available: .*pip install catboost"):
        parse_cbm(b"CBM1" + bytes(64))
