"""The ready-made webhook, against a real HTTP server of the standard library."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from demand_maint.core.events import DriftDetected
from demand_maint.hooks import HookBus, webhook

EVENT = DriftDetected(at=1.5, status="critical", degradation=float("nan"), mae=3.0, baseline_mae=2.0, places=("7",))


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with the statuses it is told, and remembers what was posted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.bodies: list[tuple[str, bytes, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/secret-token"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, body, self.headers.get("X-Key")))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Keep the test's output clean."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Serve on a free port, past any proxy."""
    monkeypatch.setenv("no_proxy", "*")
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_event_is_posted_as_json(receiver: Receiver) -> None:
    """The body is the event with its kind, NaN as null, with the headers that were asked for."""
    webhook(receiver.url, headers={"X-Key": "k"})(EVENT)
    path, body, key = receiver.bodies[0]
    assert (path, key) == ("/secret-token", "k")
    document = json.loads(body)
    assert document["event"] == "DriftDetected"
    assert document["degradation"] is None
    assert document["places"] == ["7"]


def test_a_body_can_be_made_to_measure(receiver: Receiver) -> None:
    """A chat that wants {"text": ...} gets it."""
    webhook(receiver.url, body=lambda event: {"text": type(event).__name__})(EVENT)
    assert json.loads(receiver.bodies[0][1]) == {"text": "DriftDetected"}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_failure_is_tried_again(receiver: Receiver, status: int) -> None:
    """A 5xx or a 429 is followed by another attempt, until one is taken."""
    receiver.answers = [status, status, 200]
    webhook(receiver.url, pause=0.001)(EVENT)
    assert len(receiver.bodies) == 3


def test_a_lasting_refusal_is_not_tried_again_and_does_not_tell_the_address(receiver: Receiver) -> None:
    """A 404 fails at once; the message names the host, never the path, which often is a secret."""
    receiver.answers = [404]
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1 answered 404") as caught:
        webhook(receiver.url, pause=0.001)(EVENT)
    assert len(receiver.bodies) == 1
    assert "secret" not in str(caught.value)


def test_a_dead_server_is_reported_after_the_last_attempt() -> None:
    """Nobody listening: every attempt is made, then the failure tells how many."""
    with pytest.raises(ConnectionError, match=r"could not be reached.*attempt 2 of 2"):
        webhook("http://127.0.0.1:9/x", attempts=2, pause=0.001)(EVENT)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "example.org/x", "https://"])
def test_only_web_addresses_are_taken(url: str) -> None:
    """Anything but http and https is refused when the hook is made."""
    with pytest.raises(ValueError, match="http:// or https://"):
        webhook(url)


async def test_on_the_bus_it_neither_blocks_the_loop_nor_hides_its_failure(receiver: Receiver) -> None:
    """Registered as a hook it posts from its own thread, and a refusal is named by host."""
    bus = HookBus(timeout=5.0)
    bus.start()
    bus.add(webhook(receiver.url, attempts=1), DriftDetected)
    receiver.answers = [204, 500]
    bus.emit(EVENT)
    bus.emit(EVENT)
    assert await bus.drain(5.0)
    (status,) = bus.status()
    assert (status.name, status.delivered, status.failed) == ("webhook(127.0.0.1)", 1, 1)
    await bus.aclose(1.0)
