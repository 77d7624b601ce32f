"""What moves on a terminal while something takes long."""

from typing import TextIO

from demand_maint.clock import Clock, SystemClock

__all__ = ["TrainingLine"]

BAR = 24
_AGAIN_SECONDS = 0.1


class TrainingLine:
    """One line that follows a training, rewritten in place; silent where the stream is no terminal.

    Call it as ``on_progress(trees_done, trees_in_all)``, from any thread.
    """

    def __init__(self, stream: TextIO, label: str = "training", clock: Clock | None = None) -> None:
        self._stream, self._label = stream, label
        self._clock = clock or SystemClock()
        self._live = bool(stream.isatty())
        self._began: float | None = None
        self._next = 0.0
        self._dirty = False

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` trees are grown."""
        if not self._live or total <= 0:
            return
        now = self._clock.monotonic()
        if self._began is None or done <= 1:
            self._began = now
        if now < self._next and done < total:
            return
        self._next = now + _AGAIN_SECONDS
        share = min(done / total, 1.0)
        left = (now - self._began) / share * (1 - share) if share > 0 else 0.0
        filled = round(BAR * share)
        tail = f", about {left:.0f} s left" if done < total and now > self._began else ""
        bar = "#" * filled + "." * (BAR - filled)
        self._stream.write(f"\r\x1b[K{self._label} [{bar}] {done}/{total} trees{tail}")
        self._stream.flush()
        self._dirty = True

    def close(self) -> None:
        """Take the line away."""
        if self._dirty:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._dirty = False
