"""A job inside somebody's executor: a plain function of plain values, with two small files for progress and cancel.

Whether the executor is a thread pool, a process pool or Dask cannot be known, so nothing but builtin values crosses, errors
included (an exception class that cannot be unpickled breaks a process pool for ever).
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from demand_maint._storage.door import Door
from demand_maint._training.child import Control, rebuild_error, run_child
from demand_maint._training.requests import Limits
from demand_maint.clock import SystemClock
from demand_maint.errors import DemandMaintError

__all__ = ["RemoteTicket", "run_remotely", "unpack_answer"]

PROGRESS_POLL_SECONDS = 0.5


class RemoteTicket(Struct, frozen=True):
    """Where one job's submitter and its supervisor leave notes for each other, on a file system both see."""

    directory: str
    identity: str
    grace: float

    @property
    def cancel_name(self) -> str:
        """File whose presence asks the job to stop."""
        return f".job-{self.identity}.cancel"

    @property
    def progress_name(self) -> str:
        """File with the newest progress."""
        return f".job-{self.identity}.progress"

    def ask_to_stop(self) -> None:
        """Leave the wish to stop."""
        Door(self.directory).replace(self.cancel_name, b"", sync=False)

    def asked_to_stop(self) -> bool:
        """Whether the wish is there."""
        return Door(self.directory).exists(self.cancel_name)

    def tell(self, done: int, total: int) -> None:
        """Leave the newest progress."""
        Door(self.directory).replace(self.progress_name, msgspec.json.encode([done, total]), sync=False)

    def told(self) -> tuple[int, int] | None:
        """Newest progress, if any."""
        try:
            return msgspec.json.decode(Door(self.directory).read_bytes(self.progress_name, 100), type=tuple[int, int])
        except (OSError, DemandMaintError, msgspec.MsgspecError):
            return None

    def close(self) -> None:
        """Remove both files."""
        for name in (self.cancel_name, self.progress_name):
            with contextlib.suppress(OSError, DemandMaintError):
                Door(self.directory).unlink(name, missing_ok=True)


class _RemoteControl(Control):
    """A control whose hand is a file."""

    def __init__(self, ticket: RemoteTicket) -> None:
        super().__init__()
        self._ticket = ticket

    @property
    def kill_at(self) -> float | None:
        """Look whether the file has appeared."""
        if self._kill_at is None and self._ticket.asked_to_stop():
            self.cancel(self._ticket.grace)
        return self._kill_at


def run_remotely(
    task: str, job: dict[str, Any], limits: dict[str, Any], ticket: dict[str, Any], command: list[str] | None
) -> dict[str, Any]:
    """Supervise one child here, wherever that is; never raises for what the job did."""
    where = msgspec.convert(ticket, RemoteTicket)
    try:
        answer = run_child(
            task,
            job,
            msgspec.convert(limits, Limits),
            control=_RemoteControl(where),
            on_progress=where.tell,
            command=command,
        )
    except DemandMaintError as error:
        facts = {
            key: value for key, value in vars(error).items() if isinstance(value, str | int | float | tuple | list)
        }
        return {"error": {"type": type(error).__name__, "message": str(error), "facts": facts}}
    return {"answer": answer}


def unpack_answer(told: Any) -> Any:
    """Return the answer of `run_remotely`, or raise the error it met."""
    if isinstance(told, dict) and "answer" in told:
        return told["answer"]
    raise rebuild_error(told["error"] if isinstance(told, dict) and isinstance(told.get("error"), dict) else {})


def relay_progress(ticket: RemoteTicket, over: threading.Event, on_progress: Callable[[int, int], None]) -> None:
    """Call `on_progress` with each new progress until `over`."""
    newest = None
    clock = SystemClock()
    started = clock.monotonic()
    while not over.wait(PROGRESS_POLL_SECONDS if clock.monotonic() - started > 1 else 0.05):
        if (found := ticket.told()) is not None and found != newest:
            newest = found
            on_progress(*found)
