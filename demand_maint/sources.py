"""Where observations come from: any callable, a file that is replayed, an HTTP service that answers in JSON.

A source is called with a venue, as the collector was given it, and returns what is new there: nothing (``None``), a number (the
demand now), a mapping with ``actual`` and maybe ``timestamp``, ``features``, ``place_id``, an `Observation`, or a list of these.
It may be a coroutine function; a plain one is called on a thread.
"""

import importlib
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from msgspec import Struct

from demand_maint._storage.stamps import place_key, shown, stamp_reader
from demand_maint.config import Config
from demand_maint.errors import ConfigError

__all__ = ["HttpJsonSource", "Observation", "ReplaySource", "Source", "load_source", "observations_of", "place_of"]

Source = Callable[[Any], Any]
MAX_ANSWER: Final = 8 << 20
_PLACE_KEYS: Final = ("place_id", "venue_id", "id")


class Observation(Struct, frozen=True, kw_only=True):
    """What was seen at one place.

    Parameters
    ----------
    timestamp
        Any time `datetime` or ISO text can say, or epoch seconds; naive means in the configured zone.
    features
        The row a prediction of this very slot uses, by name or in the model's order; ``None`` lets the feature builder work.
    """

    place_id: int | str
    timestamp: Any
    actual: float
    features: Any = None


def place_of(venue: Any) -> int | str:
    """Return the place id of a venue: itself, or its ``place_id``, ``venue_id`` or ``id``.

    >>> place_of(7), place_of({"id": "north", "name": "North"})
    (7, 'north')
    """
    if isinstance(venue, Mapping):
        found = next((venue[key] for key in _PLACE_KEYS if key in venue), None)
    elif isinstance(venue, str | int | np.integer | float):
        found = venue
    else:
        found = next((getattr(venue, key) for key in _PLACE_KEYS if hasattr(venue, key)), None)
    if found is None:
        raise TypeError(f"{shown(venue)} is no venue: give an id, or something with place_id, venue_id or id.")
    return place_key(found)


def observations_of(answer: Any, venue: Any, now: float) -> list[Observation]:
    """Read what a source returned for `venue`; a bare number was seen `now`.

    >>> [seen.actual for seen in observations_of({"actual": 3.5, "timestamp": "2026-01-01T10:00"}, 7, now=0.0)]
    [3.5]
    """
    if answer is None:
        return []
    if isinstance(answer, Observation):
        return [answer]
    if isinstance(answer, Mapping):
        if answer.get("actual") is None:
            raise ValueError(f"The source's answer has no `actual`; it has {shown(sorted(map(str, answer)))}.")
        return [
            Observation(
                place_id=place_key(answer["place_id"]) if "place_id" in answer else place_of(venue),
                timestamp=answer["timestamp"] if answer.get("timestamp") is not None else now,
                actual=_number(answer["actual"]),
                features=answer.get("features"),
            )
        ]
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
        return [seen for part in answer for seen in observations_of(part, venue, now)]
    return [Observation(place_id=place_of(venue), timestamp=now, actual=_number(answer))]


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{shown(value)} is no demand: a number is needed.")
    return float(value)


class ReplayClock:
    """Stands at the moment a replay has reached; monotonic time is the replayed time that has passed."""

    def __init__(self, start: float) -> None:
        self._start = self._now = start

    def now(self) -> float:
        """Epoch seconds of the newest round."""
        return self._now

    def monotonic(self) -> float:
        """Replayed seconds since the first round."""
        return self._now - self._start

    def move(self, now: float) -> None:
        """Go on to `now`."""
        self._now = max(now, self._now)


class ReplaySource:
    """Plays a CSV or Parquet file, one moment a round, at the speed of whoever collects.

    Parameters
    ----------
    path
        File with the columns `place`, `timestamp` and `actual`.
    feature_columns
        Columns handed on as the row's features.
    zone
        Of naive timestamps.
    since
        Skip rows before this time.

    Attributes
    ----------
    venues
        Every place of the file, in order.
    clock
        Stands at the moment of the current round; a collector without a clock of its own uses it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        place: str = "place_id",
        timestamp: str = "timestamp",
        actual: str = "actual",
        feature_columns: Sequence[str] = (),
        zone: str = "UTC",
        since: Any = None,
    ) -> None:
        self.path = Path(path)
        read = stamp_reader(zone)
        frame = _frame(self.path, (place, timestamp, actual, *feature_columns))
        stamps = _epochs(frame[timestamp], read)
        order = np.argsort(stamps, kind="stable")
        if since is not None:
            order = order[stamps[order] >= read(since)]
        self._stamps = stamps[order]
        self._actual = frame[actual].cast(pl.Float64).fill_null(np.nan).to_numpy()[order]
        self._features = frame.select(feature_columns)[order] if feature_columns else None
        self._places = [place_key(value) for value in frame[place].gather(order).to_list()]
        self.venues: list[int | str] = list(dict.fromkeys(self._places))
        self._edges = np.append(np.flatnonzero(np.diff(self._stamps, prepend=-1.0)), len(self._stamps))
        self._round = -1
        self._now: dict[int | str, list[Observation]] = {}
        self.clock = ReplayClock(float(self._stamps[0]) if len(self._stamps) else 0.0)

    @property
    def rounds_left(self) -> int:
        """Moments that are still to come."""
        return max(len(self._edges) - 2 - self._round, 0)

    def begin_round(self) -> bool:
        """Go on to the next moment; False at the end of the file."""
        self._now = {}
        if not self.rounds_left:
            return False
        self._round += 1
        first, last = int(self._edges[self._round]), int(self._edges[self._round + 1])
        self.clock.move(float(self._stamps[first]))
        for row in range(first, last):
            if np.isfinite(self._actual[row]):
                seen = Observation(
                    place_id=self._places[row],
                    timestamp=float(self._stamps[row]),
                    actual=float(self._actual[row]),
                    features=None if self._features is None else self._features.row(row, named=True),
                )
                self._now.setdefault(seen.place_id, []).append(seen)
        return True

    async def __call__(self, venue: Any) -> list[Observation]:
        """Return the venue's rows of this round."""
        return self._now.get(place_of(venue), [])


def _frame(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{path} cannot be replayed: {error}. Give a CSV or Parquet file.") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"{path} has no column {missing[0]!r}; it has {', '.join(frame.columns)}. Name yours: ReplaySource(path, place=..., timestamp=..., actual=...)."
        )
    return frame


def _epochs(stamps: pl.Series, read: Callable[[Any], float]) -> Any:
    """Epoch seconds (n,); aware and numeric columns at once, the others value by value."""
    if isinstance(stamps.dtype, pl.Datetime) and stamps.dtype.time_zone is not None:
        return stamps.dt.epoch("us").to_numpy() / 1e6
    if stamps.dtype.is_numeric():
        return stamps.cast(pl.Float64).to_numpy()
    distinct = stamps.unique()
    seconds = dict(zip(distinct.to_list(), (read(value) for value in distinct.to_list()), strict=True))
    return np.array([seconds[value] for value in stamps.to_list()], dtype=np.float64)


class HttpJsonSource:
    """Asks an HTTP service about each venue, with the standard library, on the collector's threads.

    Parameters
    ----------
    url
        Address with ``{venue}`` where the place id goes.
    actual, timestamp
        Where they stand in the answer, dots leading into objects: ``"occupancy.now"``. Without `timestamp` the answer is of now.
    rows
        Where a list of rows stands, for services that answer with several; ``""`` where the answer itself is the list.
    timeout
        Seconds to wait for the network.
    """

    def __init__(
        self,
        url: str,
        *,
        actual: str = "actual",
        timestamp: str | None = "timestamp",
        rows: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
            raise ConfigError("An HTTP source needs an address that begins with http:// or https://.")
        self.url, self._actual, self._timestamp, self._rows = url, actual, timestamp, rows
        self._headers = {"Accept": "application/json", "User-Agent": "demand-maint", **(headers or {})}
        self._timeout = timeout

    def __call__(self, venue: Any) -> list[dict[str, Any]]:
        """Fetch what is new at `venue`; blocks."""
        url = self.url.replace("{venue}", urllib.parse.quote(str(place_of(venue)), safe=""))
        request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 - scheme checked
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310 - scheme checked
                body = answer.read(MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise ConnectionError(f"the service answered {error.code}") from None
        if len(body) > MAX_ANSWER:
            raise ValueError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
        document = json.loads(body, parse_constant=_no_constant)
        found = document if self._rows is None else _inside(document, self._rows)
        return [self._row(row) for row in (found if isinstance(found, list) else [found])]

    def _row(self, row: Any) -> dict[str, Any]:
        seen = {"actual": _inside(row, self._actual)}
        if self._timestamp is not None:
            seen["timestamp"] = _inside(row, self._timestamp)
        return seen


def _inside(document: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        if not isinstance(document, dict) or key not in document:
            raise ValueError(f"the answer has nothing at {path!r}")
        document = document[key]
    return document


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def load_source(config: Config, root: str | Path = ".") -> Source | None:
    """Return the source that ``source`` in ``demand_maint.toml`` names: ``"module:object"``, a file, or an address.

    Raises
    ------
    ConfigError
        It cannot be imported, read or called.
    """
    named = config.source
    if not named:
        return None
    if named.startswith(("http://", "https://")):
        return HttpJsonSource(named)
    if named.endswith((".csv", ".parquet")):
        return ReplaySource(Path(root) / named, zone=config.zone)
    module, _, name = named.partition(":")
    sys.path.insert(0, str(Path(root).absolute()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"`source` names {named!r}, which cannot be imported: {error}. Write 'module:object', a file, or an address."
        ) from error
    finally:
        sys.path.remove(str(Path(root).absolute()))
    source = found() if isinstance(found, type) else found
    if not callable(source):
        raise ConfigError(f"`source` names {named!r}, which cannot be called with a venue.")
    return source  # type: ignore[no-any-return]  # callable, as just seen
