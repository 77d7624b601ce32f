"""What a user would pick instead of the journal, behind one call, and how many of its records outlive a kill -9."""

import csv
import json
import logging
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "MissingPeerError", "Peer", "die_logging"]

Log = Callable[..., Any]


class MissingPeerError(Exception):
    """The package is not installed; `demand-maint[bench]` brings it."""


@dataclass(frozen=True)
class Peer:
    """How to open it, how to count what it kept, and how much slower than the floor it may be expected to be."""

    open: Callable[[Path], Log]
    count: Callable[[Path], int | str]
    slowness: int = 1


def _ours(root: Path) -> Log:
    from demand_maint._storage.door import Door
    from demand_maint._storage.journal import Journal

    return Journal(Door(root)).log


def _ours_count(root: Path) -> int:
    from demand_maint._storage.door import Door
    from demand_maint._storage.drain import Drain

    return sum(len(part.rows) for part in Drain(Door(root), []).read(0.0))


def _lines(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in root.iterdir())


def _nothing(root: Path) -> str:
    del root
    return "0"


def _list(root: Path) -> Log:
    del root
    kept: list[Any] = []
    return lambda place_id, timestamp, predicted, actual: kept.append((place_id, timestamp, predicted, actual))


def _csv(root: Path, *, flush: bool) -> Log:
    file = (root / "log.csv").open("w", newline="")
    writer = csv.writer(file)

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        writer.writerow((place_id, timestamp, predicted, actual))
        if flush:
            file.flush()

    return log


def _csv_each(root: Path) -> Log:
    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        with (root / "log.csv").open("a", newline="") as file:
            csv.writer(file).writerow((place_id, timestamp, predicted, actual))

    return log


def _sqlite(root: Path) -> Log:
    base = sqlite3.connect(root / "log.db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE log (place, timestamp, predicted, actual)")

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        base.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (place_id, timestamp.isoformat(), predicted, actual))

    return log


def _sqlite_count(root: Path) -> int:
    base = sqlite3.connect(root / "log.db")
    try:
        return int(base.execute("SELECT count(*) FROM log").fetchone()[0])
    finally:
        base.close()


def _logging(root: Path) -> Log:
    logger = logging.getLogger(f"peer.{id(root)}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.FileHandler(root / "log.txt"))
    return lambda place_id, timestamp, predicted, actual: logger.info(
        "%s %s %s %s", place_id, timestamp, predicted, actual
    )


def _structlog(root: Path) -> Log:
    import structlog

    logger = structlog.wrap_logger(
        structlog.WriteLogger((root / "log.jsonl").open("w")),
        processors=[structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.BoundLogger,
    )
    return lambda place_id, timestamp, predicted, actual: logger.msg(
        "p", place_id=place_id, timestamp=timestamp, predicted=predicted, actual=actual
    )


def _river(root: Path) -> Log:
    del root
    try:
        from river import metrics, utils
    except ImportError as error:
        raise MissingPeerError("river") from error
    rolling = utils.Rolling(metrics.MAE(), window_size=10_000)

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        del place_id, timestamp
        rolling.update(actual, predicted)

    return log


def _prometheus(root: Path) -> Log:
    del root
    try:
        from prometheus_client import CollectorRegistry, Histogram
    except ImportError as error:
        raise MissingPeerError("prometheus-client") from error
    errors = Histogram("error", "absolute error", ["place"], registry=CollectorRegistry())

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        del timestamp
        errors.labels(place_id).observe(abs(predicted - actual))

    return log


def _polars(root: Path) -> Log:
    del root
    import polars as pl

    frame = pl.DataFrame({"place_id": ["a"], "timestamp": [datetime.now(UTC)], "predicted": [1.0], "actual": [1.0]})

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        row = {"place_id": [place_id], "timestamp": [timestamp], "predicted": [predicted], "actual": [actual]}
        frame.extend(pl.DataFrame(row))

    return log


def _write(root: Path) -> Log:
    descriptor = os.open(root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        os.write(descriptor, f"{place_id},{timestamp},{predicted},{actual}\n".encode())

    return log


def _json(root: Path) -> Log:
    file = (root / "log.jsonl").open("w", buffering=1)

    def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        file.write(json.dumps([place_id, timestamp.isoformat(), predicted, actual]) + "\n")

    return log


PEERS: dict[str, Peer] = {
    "ours": Peer(_ours, _ours_count),
    "list.append(tuple)": Peer(_list, _nothing),
    "river Rolling(MAE)": Peer(_river, _nothing, 10),
    "prometheus_client Histogram": Peer(_prometheus, _nothing, 10),
    "os.write per record": Peer(_write, _lines, 10),
    "csv buffered": Peer(lambda root: _csv(root, flush=False), _lines, 10),
    "csv flushed": Peer(lambda root: _csv(root, flush=True), _lines, 20),
    "csv open-append-close": Peer(_csv_each, _lines, 100),
    "json lines": Peer(_json, _lines, 50),
    "SQLite WAL autocommit": Peer(_sqlite, _sqlite_count, 100),
    "stdlib logging FileHandler": Peer(_logging, _lines, 50),
    "structlog to a file": Peer(_structlog, _lines, 50),
    "polars 1-row extend": Peer(_polars, _nothing, 500),
}


def die_logging(name: str, root: str, count: int) -> None:
    """Log `count` records and die at once."""
    log = PEERS[name].open(Path(root))
    now = datetime.now(UTC)
    for i in range(count):
        log(place_id="place", timestamp=now, predicted=float(i), actual=1.0)
    os.kill(os.getpid(), signal.SIGKILL)
