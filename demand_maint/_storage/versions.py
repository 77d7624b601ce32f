"""Immutable model versions: one directory each, complete before it gets its number."""

import contextlib
import errno
import secrets

from demand_maint._storage.door import TEMP, Door, Stamp
from demand_maint._storage.formats import (
    MAX_JSON_BYTES,
    decode_metadata,
    decode_sums,
    encode_metadata,
    encode_sums,
    sha256_hex,
)
from demand_maint._storage.layout import (
    ARCHIVE,
    METADATA_FILE,
    MODEL_FILE,
    QUARANTINE,
    SUMS_FILE,
    version_dir,
    version_number,
)
from demand_maint._storage.reading import FileTooLargeError
from demand_maint.core.versions import FileHashes, ModelMetadata
from demand_maint.errors import DamagedModelError, DamagedRegistryError, ModelTooLargeError, PathError, RegistryError

__all__ = ["VersionStore"]

_MAX_SUMS_BYTES = 4096


class VersionStore:
    """Version directories under ``data/models/archive``.

    Parameters
    ----------
    door
        The root's door.
    max_model_bytes
        Largest model that is written or read.
    """

    __slots__ = ("_door", "_proven", "_readable", "max_model_bytes")

    def __init__(self, door: Door, max_model_bytes: int) -> None:
        self._door = door
        self.max_model_bytes = max_model_bytes
        self._readable: set[str] = set()
        self._proven: dict[int, tuple[FileHashes, list[Stamp | None]]] = {}

    def numbers(self) -> list[int]:
        """Numbers there are, ascending."""
        return [n for name in self._door.listdir(ARCHIVE) if (n := version_number(name)) is not None]

    def add(self, model: bytes, metadata: ModelMetadata, above: int) -> tuple[int, FileHashes]:
        """Write a complete version and give it the first free number over `above`."""
        if not model:
            raise DamagedModelError("The model is empty. Train it again.")
        if len(model) > self.max_model_bytes:
            raise ModelTooLargeError(_too_large("the model", len(model), self.max_model_bytes))
        text = encode_metadata(metadata)
        hashes = FileHashes(model=sha256_hex(model), metadata=sha256_hex(text))
        sums = encode_sums({MODEL_FILE: hashes.model, METADATA_FILE: hashes.metadata})
        self._door.makedirs(ARCHIVE)
        with self._door.building_dir(ARCHIVE) as work:
            self._door.write_new(f"{work}/{MODEL_FILE}", model)
            self._door.write_new(f"{work}/{METADATA_FILE}", text)
            self._door.write_new(f"{work}/{SUMS_FILE}", sums)
            self._door.sync_dir(work)
            number = max([above, *self.numbers()]) + 1
            while not self._door.rename_new(work, version_dir(number)):
                number += 1
        return number, hashes

    def sums(self, number: int) -> FileHashes:
        """Hashes that stand beside the files."""
        rel = f"{version_dir(number)}/{SUMS_FILE}"
        sums = decode_sums(self._read(rel, _MAX_SUMS_BYTES), rel)
        try:
            return FileHashes(model=sums[MODEL_FILE], metadata=sums[METADATA_FILE])
        except KeyError as error:
            raise DamagedRegistryError(f"{rel} does not name {error.args[0]}.") from None

    def model(self, number: int, expected: FileHashes) -> bytes:
        """Bytes of the model, the very ones that were hashed and found right.

        Raises
        ------
        DamagedModelError
            They differ from what was committed, or there is no such regular file.
        ModelTooLargeError
            Over the cap.
        """
        rel = f"{version_dir(number)}/{MODEL_FILE}"
        try:
            data = self._read(rel, self.max_model_bytes)
        except DamagedRegistryError as error:
            raise DamagedModelError(str(error)) from None
        if sha256_hex(data) != expected.model:
            raise DamagedModelError(
                f"{rel} is damaged: its sha256 is not the committed {expected.model[:12]}... "
                "Roll back, or deploy the model again."
            )
        return data

    def metadata(self, number: int, expected: FileHashes) -> ModelMetadata:
        """Metadata of the version, checked like the model."""
        return decode_metadata(self._metadata_bytes(number, expected), f"{version_dir(number)}/{METADATA_FILE}")

    def _metadata_bytes(self, number: int, expected: FileHashes) -> bytes:
        rel = f"{version_dir(number)}/{METADATA_FILE}"
        data = self._read(rel, MAX_JSON_BYTES)
        if sha256_hex(data) != expected.metadata:
            raise DamagedRegistryError(
                f"{rel} is damaged: its sha256 is not the committed {expected.metadata[:12]}... Roll back, or deploy again."
            )
        return data

    def fault(self, number: int, expected: FileHashes | None) -> str | None:
        """Return what is wrong with a version, in words; ``None`` where it is whole. An unreadable disk is no damage and raises."""
        stamps = self._stamps(number)
        try:
            hashes = expected or self.sums(number)
            self.model(number, hashes)
            if hashes.metadata not in self._readable:  # the same bytes are readable for ever
                self.metadata(number, hashes)
                self._readable.add(hashes.metadata)
            else:
                self._metadata_bytes(number, hashes)
        except (DamagedModelError, DamagedRegistryError, ModelTooLargeError) as error:
            return str(error)
        self._proven[number] = hashes, stamps
        return None

    def unchanged(self, number: int, expected: FileHashes | None) -> bool:
        """Whether `fault` found these very files whole before, as far as their stamps tell; nothing is read."""
        hashes, stamps = self._proven.get(number, (None, None))
        return hashes is not None and hashes == expected and stamps == self._stamps(number)

    def _stamps(self, number: int) -> list[Stamp | None]:
        return [self._door.stamp(f"{version_dir(number)}/{name}") for name in (MODEL_FILE, METADATA_FILE)]

    def quarantine(self, number: int) -> str:
        """Move a version out of the archive, keeping its bytes; tell where to."""
        self._door.makedirs(QUARANTINE)
        target = f"{QUARANTINE}/version-{number:06d}-{secrets.token_hex(4)}"
        self._door.rename(version_dir(number), target)
        return target

    def retire(self, number: int) -> str:
        """Take a version out of sight in one step; `forget` removes it, `restore` brings it back."""
        hidden = f"{ARCHIVE}/{TEMP}{secrets.token_hex(6)}-retired-{number:06d}"
        self._door.rename(version_dir(number), hidden)
        self._proven.pop(number, None)
        return hidden

    def restore(self, hidden: str, number: int) -> None:
        """Undo `retire`."""
        self._door.rename_new(hidden, version_dir(number))

    def forget(self, hidden: str) -> None:
        """Remove a retired version for good; what cannot be removed now is swept at the next start."""
        with contextlib.suppress(OSError):
            self._door.rmtree(hidden)

    def _read(self, rel: str, limit: int) -> bytes:
        try:
            return self._door.read_bytes(rel, limit)
        except FileTooLargeError:
            raise ModelTooLargeError(_too_large(rel, self._door.entry(rel).st_size, limit)) from None
        except PathError as error:
            raise DamagedRegistryError(f"{rel} is no model file of ours: {error}") from None
        except (FileNotFoundError, NotADirectoryError):
            if self._door.exists(rel.rpartition("/")[0]):
                raise DamagedRegistryError(f"{rel} is missing. Roll back, or deploy again.") from None
            raise RegistryError(
                f"There is no version {rel.split('/')[-2]} here: never added, retired by storage.keep, or in {QUARANTINE}."
            ) from None
        except OSError as error:
            if error.errno == errno.EISDIR:
                raise DamagedRegistryError(f"{rel} is a directory.") from None
            raise


def _too_large(what: str, size: int, limit: int) -> str:
    return f"{what} has {size} bytes, over the limit of {limit}. Raise storage.max_model_megabytes, or use a smaller model."
