"""Events told again as they were drained, from sealed files and from what is still in the journals."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.drain import Drain, DrainedRows
from demand_maint._storage.journal import JOURNAL
from demand_maint._storage.sealed import SEALED, Manifest, SealedHistory, SealedRows
from demand_maint._storage.segments import Rows, chosen, joined
from demand_maint.core.observations import Events

__all__ = ["Retelling", "segment_path"]

Floats = NDArray[np.float64]
Told = tuple[Rows, NDArray[np.uint32], Floats, Floats]
_COLUMNS = ("place", "version", "kind", "predicted", "actual", "timestamp", "observed_at")
_ORDER = "order"  # needed only where rows of several lanes are put in order
_READERS = 2
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class _Part:
    """A sealed file or a segment's rows, with what orders it among others."""

    first: float
    last: float
    lane: str
    segment: str
    name: str | None
    drained: DrainedRows | None


class Retelling:
    """Reads what was drained before.

    Parameters
    ----------
    door, sealed, drain
        Of the root.
    events
        Makes events of rows, their places, and when they were observed and their writer before.
    """

    def __init__(
        self, door: Door, sealed: SealedHistory, drain: Callable[[], Drain], events: Callable[..., Events]
    ) -> None:
        self._door, self._sealed, self._drain, self._events = door, sealed, drain, events

    def since(self, start: float | None, end: float | None = None) -> Iterator[Events]:
        """Events in the order in which they were drained: of sealed files that overlap the range, then of journals."""
        groups = _groups(self._parts(start, end))
        names = [(part.name, not _is_mixed(group)) for group in groups for part in group if part.name is not None]
        with _ReadAhead(self._read, names) as ahead:
            for group in groups:
                yield from self._told(group, ahead)

    def _parts(self, start: float | None, end: float | None) -> list[_Part]:
        parts: list[_Part] = []
        unsealed = self._drain().writers.unsealed()
        for name in self._sealed.names(start, end):
            manifest = self._sealed.manifest(name)
            if manifest is None:
                self._sealed.read(name)  # sets it aside
                continue
            if segment_path(manifest) in unsealed:
                continue  # sealing was interrupted: what was counted of it is told by the journal's cursor
            lane = f"{manifest.writer}/{manifest.segment[:1]}"
            parts.append(_Part(manifest.observed_first, manifest.observed_last, lane, manifest.segment, name, None))
        for found in self._drain().reread():
            lane = f"{found.writer}/{'r' if found.rows.after[0] % 2 else 'b'}"
            first, last = float(found.observed_at.min()), float(found.observed_at.max())
            parts.append(_Part(first, last, lane, f"~{int(found.rows.after[0]):012d}", None, found))
        parts.sort(key=lambda part: (part.first, part.lane, part.segment))
        return parts

    def _told(self, group: list[_Part], ahead: "_ReadAhead") -> Iterator[Events]:
        """Events of parts whose drains overlap; merged row by row where several lanes are among them."""
        if not _is_mixed(group):
            for part in group:
                found = self._opened(part, ahead)
                if found is not None:
                    yield self._events(*found)
            return
        opened = [(part, found) for part in group if (found := self._opened(part, ahead)) is not None]
        if not opened:
            return
        rows = joined([found[0] for _, found in opened])
        place = np.concatenate([found[1] for _, found in opened])
        observed = np.concatenate([found[2] for _, found in opened])
        before = np.concatenate([found[3] for _, found in opened])
        writers = sorted({part.lane.partition("/")[0] for part, _ in opened})
        rank = np.concatenate(
            [np.full(len(found[1]), writers.index(part.lane.partition("/")[0])) for part, found in opened]
        )
        order = np.lexsort((rows.after, rank, observed))
        yield self._events(chosen(rows, order), place[order], observed[order], before[order])

    def _opened(self, part: _Part, ahead: "_ReadAhead") -> Told | None:
        if part.drained is not None:
            drained = part.drained
            return drained.rows, drained.place, drained.observed_at, drained.observed_from
        found = ahead.next()
        if found is None:
            return None
        code_of = self._drain().code_of
        codes = np.array([code_of(place) for place in found.places], dtype=np.uint32)
        frame = found.frame
        before = frame["observed_from"].to_numpy() if "observed_from" in frame.columns else np.zeros(len(frame))
        return _rows_of(frame), codes.take(frame["place"].to_numpy()), frame["observed_at"].to_numpy(), before

    def _read(self, name: str, ordered: bool) -> SealedRows | None:
        columns = [*_COLUMNS, *([] if ordered else [_ORDER]), *self._optional_columns(name)]
        return self._sealed.read(name, columns)

    def _optional_columns(self, name: str) -> list[str]:
        manifest = self._sealed.manifest(name)
        if manifest is None:
            return []
        if not manifest.segment.startswith("b"):
            return ["observed_from"] if manifest.format > 1 else []
        try:
            schema = pl.read_parquet_schema(self._door.path(f"{SEALED}/{name}"))
        except (OSError, pl.exceptions.PolarsError):  # damaged; whoever reads it sets it aside
            return []
        return [column for column in schema if column in {"snapshot", "observed_from"} or column.startswith("member:")]


class _ReadAhead:
    """Reads files in threads while earlier ones are being counted: nearly all of reading happens outside the interpreter.

    Halves what filling the window takes on two cores (`python -m benchmarks.startup`).
    """

    def __init__(self, read: Callable[[str, bool], SealedRows | None], wanted: Sequence[tuple[str, bool]]) -> None:
        self._read = read
        self._wanted = deque(wanted)
        self._pool = ThreadPoolExecutor(_READERS, "demand-maint read") if len(wanted) > 1 else None
        self._waiting: deque[Future[SealedRows | None]] = deque()

    def __enter__(self) -> Self:
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def next(self) -> SealedRows | None:
        """Rows of the next file; ``None`` where it is gone or damaged."""
        if self._pool is None:
            return self._read(*self._wanted.popleft())
        future = self._waiting.popleft()
        self._fill()
        return future.result()

    def _fill(self) -> None:
        while self._pool is not None and self._wanted and len(self._waiting) < _AHEAD:
            self._waiting.append(self._pool.submit(self._read, *self._wanted.popleft()))


def segment_path(manifest: Manifest) -> str:
    """Path of the segment that a sealed file, which may be a part of it, was made of."""
    return f"{JOURNAL}/{manifest.writer}/{manifest.segment.partition('.')[0]}.seg"


def _groups(parts: list[_Part]) -> list[list[_Part]]:
    """Parts put together where their drains overlap."""
    groups: list[list[_Part]] = []
    until = -np.inf
    for part in parts:
        if not groups or part.first > until:
            groups.append([])
        groups[-1].append(part)
        until = max(until, part.last) if len(groups[-1]) > 1 else part.last
    return groups


def _is_mixed(group: list[_Part]) -> bool:
    """Whether parts of several lanes are among them."""
    return len({part.lane for part in group}) > 1


def _rows_of(frame: Any) -> Rows:
    members = [name for name in frame.columns if name.startswith("member:")]
    return Rows(
        frame["place"].to_numpy(),
        frame["version"].to_numpy(),
        frame["kind"].to_numpy(),
        frame["predicted"].to_numpy(),
        frame["actual"].to_numpy(),
        frame["timestamp"].to_numpy(),
        frame[_ORDER].to_numpy() if _ORDER in frame.columns else np.zeros(len(frame), dtype=np.int64),
        np.ascontiguousarray(frame.select(members).to_numpy()) if members else None,
        frame["snapshot"].to_numpy() if "snapshot" in frame.columns else None,
    )
