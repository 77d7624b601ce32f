"""A quiet thread beside a journal: spare segments before they are needed, durability on time, healing when the disk is back."""

import threading
from collections.abc import Callable

from demand_maint._storage.journal import Journal
from demand_maint.log import get_logger

__all__ = ["JournalKeeper"]

_log = get_logger("keeper")


class JournalKeeper:
    """Calls `care` every `seconds`, and sooner when a segment begins.

    Parameters
    ----------
    journal
        Its first record starts the thread; a forked child gets its own.
    care
        What to do; runs in the thread.
    seconds
        Longest time between two calls.
    """

    def __init__(self, journal: Journal, care: Callable[[], object], seconds: float) -> None:
        self._journal = journal
        self._care = care
        self._seconds = seconds
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        journal.on_segment = self.nudge

    def nudge(self) -> None:
        """Start the thread if it is not there, and have it look now."""
        thread = self._thread
        if self._stopping:
            return
        if thread is None or not thread.is_alive():
            self._wake = threading.Event()
            self._thread = threading.Thread(target=self._run, name="demand-maint journal", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """End the thread; idempotent."""
        self._stopping = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)

    def _ended(self) -> bool:
        return self._stopping

    def _run(self) -> None:
        while not self._ended():
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._ended():
                return
            try:
                self._journal.maintain()
                self._care()
            except Exception as error:  # the collector must go on; the next turn tries again
                _log.warning("journal_care_failed", reason=f"{type(error).__name__}: {error}")
