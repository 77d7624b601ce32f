"""Sealed observations: Parquet files with a manifest beside each, and the demand that was there before us.

``logs/predictions/<oldest>-<newest>-<writer>-<segment>.parquet`` holds the rows of one segment as they were logged, times in
epoch seconds; its ``.json`` names places, counts and the sha256 of the Parquet file. The two times in the name are whole
seconds, so that a reader opens only what overlaps its window. Manifest format 2: the file has the column ``observed_from``; in
one of format 1 it is taken as 0, which is to say that nothing is known of it.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.door import Door, Stamp
from demand_maint._storage.segments import Rows
from demand_maint.errors import PathError
from demand_maint.log import get_logger

__all__ = ["HISTORY", "QUARANTINE", "SEALED", "Manifest", "SealedHistory", "SealedRows"]

SEALED = "logs/predictions"
HISTORY = "data/history"
QUARANTINE = "logs/quarantine"
MANIFEST_FORMAT = 2
_NAME = re.compile(r"(\d{10})-(\d{10})-(.+)\.parquet")
_SLIM = "~.parquet"
_log = get_logger("sealed")

Place = int | str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed file holds; `places` by the code used in its rows, times in epoch seconds."""

    writer: str
    segment: str
    rows: int
    oldest: float
    newest: float
    observed_first: float
    observed_last: float
    sha256: str
    places: list[int | str]
    features: list[str] = []
    format: int = MANIFEST_FORMAT


class SealedRows(msgspec.Struct, frozen=True):
    """Rows of a sealed file with its places; ``order`` sorts rows of one writer as they were logged."""

    writer: str
    places: list[int | str]
    frame: pl.DataFrame


class SealedHistory:
    """Sealed segments and imported history of a root."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._manifests: dict[str, Manifest] = {}
        self._ends: dict[
            str, tuple[Stamp | None, float]
        ] = {}  # newest time of imported files, as long as they are the same
        self._verified: set[str] = set()
        self.damaged: list[str] = []

    def names(self, start: float | None = None, end: float | None = None) -> list[str]:
        """Sealed files that may hold rows with `start` <= timestamp < `end`."""
        out: list[str] = []
        present = set(listed := self._door.listdir(SEALED))
        for name in listed:
            match = _NAME.fullmatch(name)
            if match is None or f"{name.removesuffix('.parquet')}{_SLIM}" in present:
                continue
            if (end is not None and int(match[1]) >= end) or (start is not None and int(match[2]) < int(start)):
                continue
            out.append(name)
        return out

    def seal(
        self,
        writer: str,
        segment: str,
        rows: Rows,
        place: NDArray[np.uint32],
        observed_at: NDArray[np.float64],
        observed_from: NDArray[np.float64],
        places: Sequence[Place],
        names: tuple[str, ...] = (),
    ) -> str | None:
        """Write the rows of a segment; return the file's name, ``None`` where there is nothing to keep."""
        if not len(rows):
            return None
        there = np.zeros(len(places), dtype=bool)
        there[place] = True
        used, codes = np.flatnonzero(there), (np.cumsum(there) - 1).take(place)
        sane = rows.time[(rows.time >= 0) & (rows.time < 4_294_000_000)]
        oldest, newest = (float(sane.min()), float(sane.max())) if len(sane) else (0.0, 0.0)
        features = _feature_names(rows, names)
        frame = pl.DataFrame(_columns(rows, codes, (observed_at, observed_from), features))
        name = f"{int(oldest):010d}-{int(newest):010d}-{writer}-{segment}.parquet"
        manifest = Manifest(
            writer=writer,
            segment=segment,
            rows=len(rows),
            oldest=oldest,
            newest=newest,
            observed_first=float(observed_at.min()),
            observed_last=float(observed_at.max()),
            sha256="",
            places=[places[code] for code in used.tolist()],
            features=features,
        )
        self._put(name, frame, manifest)
        return name

    def _put(self, name: str, frame: pl.DataFrame, manifest: Manifest) -> None:
        """Write the manifest, then the file it is about: a manifest alone is nothing."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True)
        data = buffer.getvalue()
        manifest = msgspec.structs.replace(manifest, sha256=hashlib.sha256(data).hexdigest())
        self._door.replace(f"{SEALED}/{name}.json", msgspec.json.encode(manifest))
        self._door.replace(f"{SEALED}/{name}", data)
        self._manifests[name] = manifest

    def ended_before(self, edge: float) -> list[str]:
        """Files whose newest row is older than `edge`."""
        return [name for name in self.names() if int(name[11:21]) < edge - 1]

    def strip_features(self, name: str) -> None:
        """Keep the rows of a file without the feature rows beside them."""
        manifest = self.manifest(name)
        if manifest is None or not manifest.features:
            return
        found = self.read(name)
        if found is None:
            return
        slim = f"{name.removesuffix('.parquet')}{_SLIM}"
        frame = found.frame.select(pl.exclude("^feature:.*$"))
        self._put(slim, frame, msgspec.structs.replace(manifest, features=[]))
        self.remove(name)

    def manifest(self, name: str) -> Manifest | None:
        """Return what a sealed file says of itself; ``None`` where there is nothing that can be understood."""
        known = self._manifests.get(name)
        if known is None:
            try:
                known = msgspec.json.decode(self._door.read_bytes(f"{SEALED}/{name}.json"), type=Manifest)
            except (FileNotFoundError, PathError, msgspec.MsgspecError):
                return None
            if known.format > MANIFEST_FORMAT:
                return None
            self._manifests[name] = known
        return known

    def read(self, name: str, columns: Sequence[str] | None = None, *, verify: bool = False) -> SealedRows | None:
        """Rows of a sealed file; a damaged one is set aside, named in the log, and ``None`` comes back.

        Raises
        ------
        OSError
            The disk did not give the file, which says nothing against it: it stays where it is, to be read again.
        """
        manifest = self.manifest(name)
        source: Path | bytes = self._door.path(f"{SEALED}/{name}")
        try:
            if manifest is None:
                raise ValueError("its manifest is missing or unreadable")
            if verify or name not in self._verified:  # a flipped byte may read as other data without an error
                source = self._door.read_bytes(f"{SEALED}/{name}")
                if hashlib.sha256(source).hexdigest() != manifest.sha256:
                    raise ValueError("its bytes are not what was sealed")
                self._verified.add(name)
            frame = pl.read_parquet(source, columns=list(columns) if columns is not None else None)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("segment_not_read", segment=name, reason=str(error), remedy="it is read again the next time")
            raise
        except Exception as error:  # polars raises several kinds for a damaged file
            self.quarantine(name, str(error))
            return None
        return SealedRows(manifest.writer, manifest.places, frame)

    def rows(
        self, start: float | None = None, end: float | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[SealedRows]:
        """Rows of the files that overlap a range of time."""
        for name in self.names(start, end):
            found = self.read(name, columns)
            if found is not None:
                yield found

    def keep_copy(self, segment: str) -> None:
        """Keep a copy of a segment whose drained rows have changed; what can be read of it is sealed all the same."""
        copy = f"{QUARANTINE}/{segment.replace('/', '-')}"
        _log.error("segment_damaged", segment=segment, copy=copy)
        self.damaged.append(segment)
        self._door.makedirs(QUARANTINE)
        self._door.replace(copy, self._door.read_bytes(segment))

    def verify(self) -> list[str]:
        """Sealed and imported files that are not what was written, those set aside earlier by this object included."""
        for name in self.names():
            self.read(name, ["kind"], verify=True)
        bad = list(self.damaged)
        bad += [f"{HISTORY}/{name}" for name in self._imports() if not self._history_is_whole(name)]
        return bad

    def quarantine(self, name: str, reason: str) -> None:
        """Set a damaged file aside; nothing is deleted."""
        _log.error("segment_quarantined", segment=name, reason=reason)
        self._manifests.pop(name, None)
        self.damaged.append(f"{SEALED}/{name}")
        self._door.makedirs(QUARANTINE)
        for part in (name, f"{name}.json"):
            if self._door.exists(f"{SEALED}/{part}"):
                self._door.rename(f"{SEALED}/{part}", f"{QUARANTINE}/{part}")

    def remove(self, name: str) -> None:
        """Let a sealed file go."""
        self._manifests.pop(name, None)
        self._door.unlink(f"{SEALED}/{name}", missing_ok=True)
        self._door.unlink(f"{SEALED}/{name}.json", missing_ok=True)

    # demand from before

    def import_history(self, frame: pl.DataFrame) -> str:
        """Keep demand from before us: place_id (int or text), timestamp (epoch seconds), actual, and more columns."""
        name = f"{len(self._imports()) + 1:06d}.parquet"
        digest = self._write(f"{HISTORY}/{name}", frame)
        self._door.replace(f"{HISTORY}/{name}.sha256", f"{digest}  {name}\n".encode())
        return name

    def imported(self, since: float = 0) -> list[pl.DataFrame]:
        """Return imported frames that are whole, oldest import first; without those known to end before `since`."""
        frames: list[pl.DataFrame] = []
        for name in self._imports():
            stamp = self._door.stamp(f"{HISTORY}/{name}")
            known, end = self._ends.get(name, (None, 0.0))
            if (known == stamp and end < since) or not self._history_is_whole(name):
                continue
            frame = pl.read_parquet(self._door.path(f"{HISTORY}/{name}"))
            self._ends[name] = stamp, float(frame["timestamp"].cast(pl.Float64).max() or 0.0)  # type: ignore[arg-type]  # a number
            frames.append(frame)
        return frames

    def _imports(self) -> list[str]:
        return [name for name in self._door.listdir(HISTORY) if re.fullmatch(r"\d{6}\.parquet", name)]

    def _history_is_whole(self, name: str) -> bool:
        try:
            wanted = self._door.read_bytes(f"{HISTORY}/{name}.sha256", 200).split()[0].decode()
            whole = _sha256(self._door.path(f"{HISTORY}/{name}")) == wanted
        except (OSError, IndexError):
            whole = False
        if not whole:
            _log.error("history_damaged", file=name, remedy="import it again with demand-maint init --history FILE")
        return whole

    def _write(self, path: str, frame: pl.DataFrame) -> str:
        """Write a Parquet file durably; return its sha256."""
        digest = ""

        def write(temporary: Path) -> None:
            nonlocal digest
            frame.write_parquet(temporary, compression="zstd", compression_level=1, statistics=True)
            digest = _sha256(temporary)

        self._door.write_frame(path, write)
        return digest


def _feature_names(rows: Rows, names: tuple[str, ...]) -> list[str]:
    if rows.features is None:
        return []
    width = rows.features.shape[1]
    return list(names) if len(names) == width else [f"feature_{i}" for i in range(width)]


def _columns(
    rows: Rows, codes: NDArray[np.intp], observed: tuple[NDArray[np.float64], NDArray[np.float64]], features: list[str]
) -> dict[str, NDArray[np.generic]]:
    columns: dict[str, NDArray[np.generic]] = {
        "place": codes.astype(np.uint32),
        "version": rows.version,
        "kind": rows.kind,
        "predicted": rows.predicted,
        "actual": rows.actual,
        "timestamp": rows.time,
        "observed_at": observed[0],
        "observed_from": observed[1],
        "order": rows.after,
    }
    if rows.snapshot is not None and rows.snapshot.any():
        columns["snapshot"] = rows.snapshot
    if rows.members is not None:
        columns |= {f"member:{i}": rows.members[:, i] for i in range(rows.members.shape[1])}
    if rows.features is not None:
        columns |= {f"feature:{name}": rows.features[:, i] for i, name in enumerate(features)}
    return columns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
