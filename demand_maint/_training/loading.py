"""The one way from bytes to a model that predicts.

Bytes are read once, their sha256 is compared with what was committed, and those very bytes are parsed: a damaged ``.cbm`` loads
without a word (of 600 byte flips 57 predicted other numbers, 12 crashed the loader), so nothing unproven reaches the parser in
the collector. Files of unknown origin go through `WorkerPool.inspect`, which parses them in a child first.
"""

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.reading import FileTooLargeError, read_regular_file
from demand_maint.errors import CatBoostMissingError, DamagedModelError, ModelFileError, ModelTooLargeError, PathError

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

__all__ = [
    "DEFAULT_LIMIT_BYTES",
    "CatBoostModel",
    "Regressor",
    "cbm_to_joblib",
    "load_model",
    "model_facts",
    "parse_cbm",
    "read_model_file",
]

DEFAULT_LIMIT_BYTES = 512 << 20
LIVE_ROWS = 10_000
CBM_MAGIC = b"CBM1"
OWN_KEYS = "demand_maint."
# stored with the parameters, but about the run and not about the model
_CIRCUMSTANCES = frozenset(
    {"callbacks", "verbose", "logging_level", "allow_writing_files", "use_best_model", "thread_count", "train_dir"}
)
_EXPONENT_LOSSES = ("Poisson", "Tweedie")


class Regressor(Protocol):
    """A loaded model, as the rest of the package sees it."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Features in the order of the columns."""

    @property
    def tree_count(self) -> int:
        """Number of trees."""

    @property
    def loss(self) -> str:
        """The loss it was trained with, as CatBoost spells it."""

    @property
    def own_metadata(self) -> dict[str, str]:
        """What our training wrote into the model itself."""

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict (n, F) rows, float32 in Fortran order for n > 1; the width is not checked here."""

    def importances(self) -> dict[str, float]:
        """Share of each feature in the predictions' changes, in per cent."""


class CatBoostModel:
    """A CatBoostRegressor behind `Regressor`."""

    __slots__ = ("_apply", "_kind", "_model", "feature_names", "loss", "own_metadata", "tree_count")

    def __init__(self, model: "CatBoostRegressor") -> None:
        self._model = model
        self._apply = model.predict
        self.feature_names: tuple[str, ...] = tuple(model.feature_names_)
        self.tree_count: int = int(model.tree_count_)
        self.loss: str = loss_of(model)
        self._kind = "Exponent" if self.loss.startswith(_EXPONENT_LOSSES) else "RawFormulaVal"
        self.own_metadata: dict[str, str] = {
            key.removeprefix(OWN_KEYS): value for key, value in model.get_metadata().items() if key.startswith(OWN_KEYS)
        }

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict (n, F) rows; a single row goes in as a flat array, which CatBoost reads in half the time."""
        if len(rows) == 1:
            return np.array((self._apply(rows[0], self._kind, 0, 0, 1),))
        if len(rows) == 0:  # CatBoost would print that there are none
            return np.empty(0)
        # threads do not change the answer; for a live batch they only disturb the host
        threads = 1 if len(rows) <= LIVE_ROWS else -1
        found: NDArray[np.float64] = self._apply(rows, self._kind, 0, 0, threads)
        return found

    def importances(self) -> dict[str, float]:
        """Share of each feature in the predictions' changes, in per cent."""
        values = self._model.get_feature_importance()
        return {name: float(value) for name, value in zip(self.feature_names, values, strict=True)}


def loss_of(model: Any) -> str:
    """Return the loss a model was trained with, with its parameters, as ``Quantile:alpha=0.9``."""
    return str(training_params(model).get("loss_function", "")) or "unknown"


def training_params(model: Any) -> dict[str, Any]:
    """Parameters stored in the model by its own training: those given, and the ones that decide a warm start."""
    try:
        stored = json.loads(model.get_metadata()["params"])
        flat = {key: value for key, value in stored.get("flat_params", {}).items() if key not in _CIRCUMSTANCES}
        loss = stored.get("loss_function", {})
        flat["loss_function"] = _loss_text(loss) if isinstance(loss, dict) and loss.get("type") else "unknown"
        tree = stored.get("tree_learner_options", {})
        flat.setdefault("grow_policy", tree.get("grow_policy", "SymmetricTree"))
        flat.setdefault("depth", tree.get("depth", 6))
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"loss_function": "unknown", "grow_policy": "SymmetricTree"}
    return flat


def _loss_text(loss: dict[str, Any]) -> str:
    params = loss.get("params") or {}
    body = ";".join(f"{key}={value}" for key, value in sorted(params.items()) if not key.startswith("__"))
    return f"{loss['type']}:{body}" if body else str(loss["type"])


def parse_cbm(data: bytes, **params: Any) -> "CatBoostRegressor":
    """Parse ``.cbm`` bytes as they are; only for bytes that were proven, or in a child process."""
    if not data.startswith(CBM_MAGIC):
        shown = "is empty" if not data else f"begins with {data[:4]!r}"
        raise DamagedModelError(
            f"The model {shown}, a .cbm begins with 'CBM1'. Deploy a file saved by model.save_model."
        )
    try:
        from catboost import CatBoostError, CatBoostRegressor  # noqa: PLC0415  # costs a second: only where a model is touched
    except ImportError as error:
        raise CatBoostMissingError(str(error)) from error

    model = CatBoostRegressor(**params)
    try:
        model.load_model(blob=data)
    except (CatBoostError, MemoryError, UnicodeDecodeError, ValueError) as error:
        raise DamagedModelError(f"CatBoost cannot read the model: {str(error)[:300]}. Deploy a whole file.") from error
    return model


def model_facts(model: Any) -> dict[str, Any]:
    """Structure of a parsed model; refuses what a demand model cannot be.

    Raises
    ------
    ModelFileError
        Several outputs, no trees, unnamed or repeated features, or features that are no numbers.
    """
    names = [str(name) for name in model.feature_names_]
    bias = model.get_scale_and_bias()[1]
    dimension = len(bias) if isinstance(bias, list | tuple | np.ndarray) else 1
    if not names or len(set(names)) != len(names):
        raise ModelFileError(
            "The model's features have no distinct names. Train it with a Pool that has feature_names."
        )
    others = [
        *model.get_cat_feature_indices(),
        *model.get_text_feature_indices(),
        *model.get_embedding_feature_indices(),
    ]
    if others:
        shown = ", ".join(repr(names[index]) for index in others[:5])
        raise ModelFileError(f"The model has features that are no numbers ({shown}). Encode them before training.")
    if not model.tree_count_:
        raise ModelFileError("The model has no trees. Deploy a fitted model.")
    if dimension != 1:
        raise ModelFileError(
            f"The model (loss {loss_of(model)}) answers with {dimension} numbers per row, demand is one. Train it with a loss such as RMSE."
        )
    return {"features": tuple(names), "trees": int(model.tree_count_), "dimension": dimension, "loss": loss_of(model)}


def load_model(data: bytes, *, sha256: str | None = None) -> CatBoostModel:
    """Make a model that predicts from the bytes of a ``.cbm``.

    Parameters
    ----------
    sha256
        Hex digest the bytes must have; leave it out only for bytes this process made itself.

    Raises
    ------
    DamagedModelError
        Other bytes than the ones committed, or no model.
    ModelFileError
        A model of a kind that cannot serve demand.
    """
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise DamagedModelError(
                f"The model's sha256 is {found[:16]}..., {sha256[:16]}... was committed. Run `demand-maint verify`, then `demand-maint rollback`."
            )
    model = parse_cbm(data)
    model_facts(model)
    return CatBoostModel(model)


def read_model_file(path: str | os.PathLike[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> bytes:
    """Read a model file once, whole; anything but a regular file within the cap is refused before a byte is read.

    Raises
    ------
    ModelFileError
        Missing, a directory, a symbolic link, a FIFO or a device.
    ModelTooLargeError
        Longer than `limit_bytes`.
    """
    shown = str(path)
    try:
        data = read_regular_file(os.fspath(path), limit_bytes)
    except FileTooLargeError as error:
        raise ModelTooLargeError(
            f"{shown!r} is over the {limit_bytes >> 20} MB that are allowed ({error.strerror}). Raise storage.max_model_megabytes if that is right."
        ) from error
    except (OSError, PathError) as error:
        raise ModelFileError(f"{shown!r} cannot be read: {error} Give the path of a .cbm or .joblib file.") from error
    if not data:
        raise DamagedModelError(f"{shown!r} is empty. Copy it again from its source.")
    return data


def cbm_bytes(model: Any) -> bytes:
    """Bytes that ``save_model`` would write, without a file."""
    if not model.is_fitted():
        raise DamagedModelError("The model was never fitted. Deploy a fitted one.")
    return bytes(model._serialize_model())  # noqa: SLF001  # save_model needs a path


def cbm_to_joblib(data: bytes) -> bytes:
    """Return the joblib dump of a model of ours: the export that plain ``joblib.load`` reads."""
    import joblib  # noqa: PLC0415  # only where an export is written

    model = parse_cbm(data)
    loss = loss_of(model)
    if loss.startswith(_EXPONENT_LOSSES):
        # a model loaded from .cbm forgets that predict() means exp(raw) for these; its dump shall remember
        model = parse_cbm(data, loss_function=loss)
    stream = io.BytesIO()
    joblib.dump(model, stream)
    return stream.getvalue()
