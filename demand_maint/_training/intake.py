"""Take a model file of unknown origin and its metadata in: everything about them is checked before a byte of them is trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from demand_maint._storage.door import Door
from demand_maint._storage.formats import MAX_JSON_BYTES, parse_json, sha256_hex
from demand_maint._storage.layout import STAGING
from demand_maint._storage.reading import FileTooLargeError, read_regular_file
from demand_maint.core.foreign_metadata import understand_metadata
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import (
    DamagedModelError,
    DamagedRegistryError,
    DeployRefusedError,
    ModelFileError,
    SchemaMismatchError,
)

if TYPE_CHECKING:  # looking at a root describes no jobs
    from demand_maint._training.requests import ModelInspection

__all__ = ["Inspector", "take_in"]


class Inspector(Protocol):
    """What looks at a foreign model file in a child; `WorkerPool.inspect` does."""

    def inspect(
        self,
        path: str,
        metadata: ModelMetadata | None = None,
        rows: Sequence[Sequence[float]] | None = None,
        *,
        output_directory: str,
        limit_bytes: int = ...,
    ) -> "ModelInspection":
        """Return what the file holds, or raise what is wrong with it."""


def take_in(
    path: Path,
    metadata_path: str | Path | None,
    *,
    door: Door,
    limit_bytes: int,
    now: float,
    pool: Inspector | None = None,
) -> tuple[bytes, ModelMetadata]:
    """Open the file in a child and take over the very bytes that were tried there, with metadata completed from the model.

    Parameters
    ----------
    path, metadata_path
        The files; ``None`` for metadata means ``<model>_metadata.json`` beside the model.
    door
        Root whose staging folder the child may write to.
    limit_bytes
        Largest model.
    now
        Epoch seconds.
    pool
        Looks at the file; ``None`` starts a worker pool.

    Raises
    ------
    DeployRefusedError
        No metadata, or none that can be read.
    ModelFileError, SchemaMismatchError, IncompatibleBaseError
        What is wrong with the model.
    """
    given, stated_hash = _read_metadata(path, metadata_path, now)
    if stated_hash is not None:
        _require_hash(path, limit_bytes, stated_hash)
    door.makedirs(STAGING)
    with door.building_dir(STAGING) as work:
        expected = given if given.features and given.loss else None
        found = _inspect(path, expected, str(door.path(work)), limit_bytes, pool)
        model = door.read_bytes(f"{work}/{Path(found.cbm_path).name}", limit_bytes)
    if sha256_hex(model) != found.sha256:
        raise DamagedModelError(f"{path} changed while it was looked at. Deploy it again.")
    if given.features and given.features != found.features:
        raise SchemaMismatchError(given.features, found.features)
    return model, msgspec.structs.replace(
        given,
        features=found.features,
        loss=found.loss if found.loss != "unknown" else given.loss,
        trees=found.trees,
        params=given.params or found.params,
    )


def _inspect(
    path: Path, expected: ModelMetadata | None, work: str, limit: int, pool: Inspector | None
) -> "ModelInspection":
    if pool is not None:
        return pool.inspect(str(path), expected, output_directory=work, limit_bytes=limit)
    from demand_maint._training.pool import WorkerPool  # noqa: PLC0415 - status and history need none of it

    with WorkerPool() as own:
        return own.inspect(str(path), expected, output_directory=work, limit_bytes=limit)


def _read_metadata(model: Path, path: str | Path | None, now: float) -> tuple[ModelMetadata, str | None]:
    """Metadata beside `model`, and the sha256 they state of it."""
    where = Path(path) if path is not None else model.with_name(f"{model.stem}_metadata.json")
    try:
        tree = parse_json(read_regular_file(where, MAX_JSON_BYTES), str(where))
        if not isinstance(tree, dict):
            raise DeployRefusedError(
                f"The metadata {where} are no JSON object. Write them as one, with features, loss and metrics.",
                ("metadata_malformed",),
            )
        metadata = understand_metadata(tree, now)
    except (FileNotFoundError, NotADirectoryError):
        if not model.exists():
            raise ModelFileError(f"{model} does not exist. Give the path of a .cbm or .joblib file.") from None
        raise DeployRefusedError(
            f"No metadata for {model}: {where} does not exist. Put the metadata file beside the model file.",
            ("metadata_missing",),
        ) from None
    except (ValueError, DamagedRegistryError, FileTooLargeError) as error:
        raise DeployRefusedError(f"The metadata {where} cannot be used: {error}", ("metadata_malformed",)) from None
    key = "joblib_sha256" if model.suffix == ".joblib" else "model_sha256"
    stated = tree.get(key, metadata.notes.get(key))
    return metadata, stated if isinstance(stated, str) else None


def _require_hash(path: Path, limit: int, stated: str) -> None:
    try:
        data = read_regular_file(path, limit)
    except (FileNotFoundError, NotADirectoryError, FileTooLargeError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from None
    if sha256_hex(data) != stated:
        raise DamagedModelError(f"{path} is not the file its metadata describe (sha256 differs). Copy it again.")
