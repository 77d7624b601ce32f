"""Where observations come from."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint.config import Config
from demand_maint.errors import ConfigError
from demand_maint.sources import HttpJsonSource, Observation, ReplaySource, load_source, observations_of, place_of


class Venue:
    venue_id = "north"


@pytest.mark.parametrize(
    ("venue", "place"),
    [(7, 7), ("7", "7"), (np.int64(7), 7), ({"place_id": 3, "id": 4}, 3), ({"id": "x"}, "x"), (Venue(), "north")],
)
def test_a_venue_is_its_id_or_something_that_has_one(venue: Any, place: Any) -> None:
    """Ids, mappings and objects are venues; 7 and "7" stay two places."""
    assert place_of(venue) == place
    assert type(place_of(venue)) is type(place)


@pytest.mark.parametrize("venue", [True, None, object(), {"name": "x"}, 1.5, [1]])
def test_anything_else_is_no_venue(venue: Any) -> None:
    """A bool, nothing, a fraction or an object without an id is refused in words."""
    with pytest.raises(TypeError, match=r"is no (venue|place)"):
        place_of(venue)


def test_answers_of_every_shape_become_observations() -> None:
    """Nothing, numbers, mappings, observations and lists of them are understood; now is the default time."""
    now = 50.0
    assert observations_of(None, 7, now) == []
    assert observations_of(np.float32(2.5), 7, now) == [Observation(place_id=7, timestamp=50.0, actual=2.5)]
    many = observations_of([{"actual": 1, "timestamp": "2026-01-01"}, {"actual": 2, "place_id": 8}, None, 3], 7, now)
    assert [(seen.place_id, seen.timestamp, seen.actual) for seen in many] == [
        (7, "2026-01-01", 1.0),
        (8, 50.0, 2.0),
        (7, 50.0, 3.0),
    ]
    for wrong in (True, "3", b"3", {"actual": "3"}, {"actual": True}):
        with pytest.raises((TypeError, ValueError)):
            observations_of(wrong, 7, now)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two places, three moments, one gap and one missing value."""
    path = tmp_path / "history.csv"
    path.write_text(
        "place_id,timestamp,actual,rain\n"
        "1,2026-01-01T01:00,11,0.5\n1,2026-01-01T00:00,10,0\n2,2026-01-01T00:00,20,0\n2,2026-01-01T01:00,,0\n1,2026-01-01T02:00,12,0\n"
    )
    return path


def played(source: ReplaySource) -> list[tuple[float, list[tuple[Any, float]]]]:
    """Every round of a replay: its time, and what the venues answered."""
    rounds = []
    while source.begin_round():
        answers = [seen for venue in source.venues for seen in asyncio.run(source(venue))]
        rounds.append((source.clock.now(), [(seen.place_id, seen.actual) for seen in answers]))
    return rounds


def test_a_file_is_played_moment_by_moment(history: Path) -> None:
    """Rows come in the order of time, one moment a round; the clock stands at it; a missing value is no observation."""
    source = ReplaySource(history)
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert source.venues == [1, 2]
    assert source.rounds_left == 3
    assert played(source) == [(start, [(1, 10.0), (2, 20.0)]), (start + 3600, [(1, 11.0)]), (start + 7200, [(1, 12.0)])]
    assert not source.begin_round()
    assert source.clock.monotonic() == 7200.0


def test_parquet_zones_and_features(history: Path, tmp_path: Path) -> None:
    """Parquet plays like CSV; naive stamps are in the zone; named columns travel along as features; `since` skips."""
    path = tmp_path / "history.parquet"
    pl.read_csv(history, try_parse_dates=True).write_parquet(path)
    source = ReplaySource(path, zone="Europe/London", feature_columns=("rain",), since="2026-01-01T01:00")
    assert source.rounds_left == 2
    source.begin_round()
    (seen,) = asyncio.run(source(1))
    assert seen.features == {"rain": 0.5}
    assert ReplaySource(path, zone="America/New_York").clock.now() == datetime(2026, 1, 1, 5, tzinfo=UTC).timestamp()


def test_a_file_that_cannot_be_played_is_explained(history: Path, tmp_path: Path) -> None:
    """A missing file and a missing column are ConfigErrors that say what to give."""
    with pytest.raises(ConfigError, match="cannot be replayed"):
        ReplaySource(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"no column 'demand'; it has place_id, timestamp, actual, rain"):
        ReplaySource(history, actual="demand")


class _Service(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, bytes]]

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Keep the test's output clean."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """An HTTP service whose answers the test sets, past any proxy."""
    monkeypatch.setenv("no_proxy", "*")
    answers: dict[str, tuple[int, bytes]] = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Service", (_Service,), {"answers": answers}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_service_is_asked_per_venue(service: tuple[str, dict[str, tuple[int, bytes]]]) -> None:
    """The place id goes into the address, quoted; values are found by their path; lists give many rows."""
    url, answers = service
    answers["/v/a%2Fb"] = (200, json.dumps({"now": {"count": 5}, "at": "2026-01-01T10:00"}).encode())
    source = HttpJsonSource(f"{url}/v/{{venue}}", actual="now.count", timestamp="at")
    assert source("a/b") == [{"actual": 5, "timestamp": "2026-01-01T10:00"}]
    answers["/l/1"] = (200, b'{"rows": [{"actual": 1}, {"actual": 2}]}')
    assert HttpJsonSource(f"{url}/l/{{venue}}", timestamp=None, rows="rows")({"id": 1}) == [
        {"actual": 1},
        {"actual": 2},
    ]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b"{}", "answered 500"),
        (200, b"<html>", "Expecting value"),
        (200, b'{"other": 1}', "nothing at 'actual'"),
        (200, b'{"actual": NaN}', "NaN is no JSON number"),
        (200, b"[" + b" " * (8 << 20) + b"]", "longer than 8 MiB"),
    ],
)
def test_a_service_that_answers_badly_fails_its_venue(
    service: tuple[str, dict[str, tuple[int, bytes]]], status: int, body: bytes, message: str
) -> None:
    """An error status, no JSON, a missing value, NaN, or too much is an error that says which."""
    url, answers = service
    answers["/1"] = (status, body)
    with pytest.raises((ConnectionError, ValueError), match=message):
        HttpJsonSource(f"{url}/{{venue}}", timestamp=None)(1)


def test_the_configured_source_is_found(history: Path, tmp_path: Path) -> None:
    """A file, an address, or module:object in the root; a class is called, and what cannot be found is told."""
    (tmp_path / "my_feed_module.py").write_text(
        "class Feed:\n    def __call__(self, venue): return 4.0\n\nnumber = 3\n"
    )
    assert isinstance(load_source(Config(source="history.csv"), tmp_path), ReplaySource)
    assert isinstance(load_source(Config(source="https://example.org/{venue}")), HttpJsonSource)
    feed = load_source(Config(source="my_feed_module:Feed"), tmp_path)
    assert feed is not None
    assert feed(1) == 4.0
    assert load_source(Config()) is None
    for wrong in ("my_feed_module:number", "my_feed_module:nothing", "no_such_module_here:x", "nonsense"):
        with pytest.raises(ConfigError, match=r"`source` names"):
            load_source(Config(source=wrong), tmp_path)
