"""Reading a joblib or pickle dump of a CatBoostRegressor without running a line of it.

Unpickling calls what the file names. A CatBoostRegressor needs three names; every other global, a registered extension or a
persistent id ends the reading with an error that tells its name. And even the three are only looked up as inert stand-ins: the
real ``numpy.dtype`` crashes the interpreter on a crooked state (11 of 5 000 mutated dumps did), and the model's own bytes are all
that is wanted. Compressed files are unpacked here, in bounded steps, so that a small file cannot claim all memory.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Final

from joblib.numpy_pickle import NumpyUnpickler

from demand_maint.errors import DamagedModelError, DemandMaintError, ModelTooLargeError, UnsafePickleError

__all__ = ["ALLOWED_GLOBALS", "read_pickle", "unpack"]


class _Model:
    """Stands in for CatBoostRegressor: keeps the bytes of the model in its state, and nothing else."""

    data: bytes | None = None  # of the class: unpickling makes instances without __init__

    def __setstate__(self, state: Any) -> None:
        found = state.get("__model") if type(state) is dict else None
        self.data = bytes(found) if isinstance(found, bytes | bytearray) else None


class _Dtype:
    """Stands in for numpy.dtype; what it describes is not wanted."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _scalar(*_: Any) -> None:
    """Stand in for numpy's scalar; parameters of the old training are not wanted, the model holds its own."""


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("catboost.core", "CatBoostRegressor"): _Model,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "scalar"): _scalar,  # the spelling before numpy 2
}
ALLOWED_GLOBALS: Final = frozenset(_STAND_INS)

_STEP = 1 << 20
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_OPENERS: Final[tuple[tuple[bytes, Callable[[io.BytesIO], Any]], ...]] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw, mode="rb")),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
    (b"\x5d\x00", lzma.LZMAFile),
)


class _ModelUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
    """joblib's unpickler, for which nothing but `ALLOWED_GLOBALS` exists."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a global up where it is allowed; a dotted name never is."""
        found = _STAND_INS.get((module, name)) if type(module) is str and type(name) is str else None
        if found is None:
            raise UnsafePickleError(f"{module}.{name}"[:200])
        return found

    def get_extension(self, code: int) -> Any:
        """Refuse codes of the process-wide extension registry, whose cache skips `find_class`."""
        raise UnsafePickleError(f"copyreg extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise UnsafePickleError(f"persistent id {str(pid)[:40]!r}")


def unpack(data: bytes, limit_bytes: int) -> bytes:
    """Decompress what joblib may have compressed; plain pickles come back as they are.

    Parameters
    ----------
    limit_bytes
        Most bytes the result may have.

    Raises
    ------
    ModelTooLargeError
        More came out than allowed.
    DamagedModelError
        The compressed stream is broken, or of a kind that needs a package we do not have.
    """
    try:
        if data[:1] == b"\x78":
            return _inflate(data, limit_bytes)
        for magic, opener in _OPENERS:
            if data.startswith(magic):
                with opener(io.BytesIO(data)) as stream:
                    return _drain(stream, limit_bytes)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise DamagedModelError(
            f"The compressed model cannot be unpacked ({error}). Copy the file again from its source."
        ) from error
    if data.startswith(_LZ4_MAGIC):
        raise DamagedModelError(
            "The file is compressed with lz4, which is not read here. Save it as .cbm with model.save_model('model.cbm')."
        )
    return data


def _drain(stream: Any, limit_bytes: int) -> bytes:
    parts, total = [], 0
    while part := stream.read(_STEP):
        total += len(part)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _inflate(data: bytes, limit_bytes: int) -> bytes:
    engine = zlib.decompressobj()
    found = engine.decompress(data, limit_bytes + 1)
    if len(found) > limit_bytes:
        raise _too_large(limit_bytes)
    if not engine.eof:
        raise DamagedModelError("The compressed model ends too early. Copy the file again from its source.")
    return found


def _too_large(limit_bytes: int) -> ModelTooLargeError:
    return ModelTooLargeError(
        f"The model unpacks to more than {limit_bytes >> 20} MB. Raise storage.max_model_megabytes if it really is that large."
    )


def read_pickle(data: bytes, limit_bytes: int) -> bytes:
    """Return the ``.cbm`` bytes of the CatBoostRegressor in a joblib or pickle dump; they are not parsed yet.

    Raises
    ------
    UnsafePickleError
        The file names any other global; nothing was executed.
    DamagedModelError
        It is no pickle, or not one of a fitted CatBoostRegressor.
    """
    plain = unpack(data, limit_bytes)
    try:
        found = _ModelUnpickler("model", io.BytesIO(plain), False, None).load()
    except DemandMaintError:
        raise
    except (Exception, RecursionError) as error:  # a broken pickle raises whatever it meets first
        raise DamagedModelError(
            f"The file is no readable pickle of a model ({type(error).__name__}: {str(error)[:200]}). Save it again, best as .cbm."
        ) from error
    if type(found) is not _Model:
        kind = "a class" if isinstance(found, type) else f"a {type(found).__name__.lstrip('_').lower()}"
        raise DamagedModelError(f"The file holds {kind}, not a CatBoostRegressor. Deploy the model itself.")
    if found.data is None:
        raise DamagedModelError("The CatBoostRegressor in the file was never fitted. Deploy a fitted one.")
    return found.data
