"""A replay on a terminal: one line per event, and one line that tells how far it is."""

from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from demand_maint.clock import SystemClock
from demand_maint.core.chronicle import verdict_words
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import GateVerdict
from demand_maint.replay_life import LifeEvent

__all__ = ["ProgressLine", "event_line"]

WORDS = {
    "drift": "drift",
    "candidate": "trained",
    "deployed": "deployed",
    "rejected": "rejected",
    "vetoed": "vetoed",
    "rolled_back": "rolled back",
    "failed": "failed",
}
KINDS = {"fine_tune": "fine-tune", "full_retrain": "full retrain"}
BAR = 24
QUIET_SECONDS = 10.0


def event_line(event: LifeEvent, zone: str) -> str:
    """Say in one line what happened, when, and by which figures."""
    local = int(TimeGrid(zone, 60).local([event.at])[0])
    when = f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=local):%Y-%m-%d %H:%M}"
    return f"{when}  {event.policy:<9} {WORDS.get(event.kind, event.kind):<11} {_what(event)}"


def _what(event: LifeEvent) -> str:
    result = event.result
    if event.kind == "drift" or not result:
        return event.text
    subject = KINDS.get(result["action"], "")
    version = f"version {result['version']}" if result["version"] is not None else ""
    figures = verdict_words(_verdict(result["verdict"]))
    head = " ".join(part for part in (subject, version) if part)
    tail = figures or event.text
    if event.kind == "candidate":
        return f"{head} entered the line-up; {result['reason']}"
    return f"{head}: {tail}" if head else tail


def _verdict(value: Any) -> GateVerdict | None:
    if not isinstance(value, dict):
        return None
    return GateVerdict(**{name: value[name] for name in GateVerdict.__struct_fields__ if name in value})


class ProgressLine:
    """The share done and the time left, rewritten in place on a terminal, now and then a line elsewhere.

    Parameters
    ----------
    stream
        Where to write.
    label
        What is going on.
    """

    def __init__(self, stream: TextIO, label: str = "replay") -> None:
        self._stream, self._label = stream, label
        self._live = bool(getattr(stream, "isatty", lambda: False)())
        self._shown = ""
        self._next = 0.0

    def __call__(self, share: float, left: float | None) -> None:
        """Tell that `share` (0 .. 1) is done and about `left` seconds remain."""
        now = SystemClock().monotonic()
        if not self._live and now < self._next and share < 1:
            return
        self._next = now + QUIET_SECONDS
        filled = round(BAR * share)
        remaining = "" if left is None or share >= 1 else f", about {_duration(left)} left"
        text = f"{self._label} [{'#' * filled}{'.' * (BAR - filled)}] {100 * share:3.0f} %{remaining}"
        if text == self._shown:
            return
        self._write(text)

    def line(self, text: str) -> None:
        """Print a line above the progress line."""
        self._clear()
        self._stream.write(f"{text}\n")
        if self._live and self._shown:
            self._stream.write(self._shown)
        self._stream.flush()

    def close(self) -> None:
        """Take the progress line away."""
        self._clear()
        self._shown = ""
        self._stream.flush()

    def _write(self, text: str) -> None:
        self._clear()
        self._shown = text
        self._stream.write(text if self._live else f"{text}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._live and self._shown:
            self._stream.write("\r\x1b[K")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"
