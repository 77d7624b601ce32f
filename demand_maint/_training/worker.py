"""The child process: one request in, one answer out, then the end.

``python -m demand_maint._training.worker`` reads one JSON line from stdin and answers in marked JSON lines on what was its
stdout. Numbers, names and paths are all that crosses; user code, CatBoost and crash traces may write to stdout and stderr as
they like. A watchdog thread ends the process (and its group) when the parent is gone, when its memory or time is up, and hears
"cancel"; CatBoost releases the interpreter lock while it fits, so the watchdog works inside a fit.
"""

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from demand_maint._training.requests import Limits, Request
from demand_maint.clock import SystemClock
from demand_maint.errors import DemandMaintError

if TYPE_CHECKING:
    from demand_maint._training.backend import FitControl

__all__ = ["CANCEL", "EXIT_DEADLINE", "EXIT_MEMORY", "EXIT_PARENT_GONE", "MARK", "main"]

MARK = b"\x01demand-maint "
CANCEL = b"cancel"
EXIT_MEMORY, EXIT_DEADLINE, EXIT_PARENT_GONE = 96, 97, 98
# the parent ends a late child first; this is for a parent that is stopped or hangs itself
OVERTIME_SECONDS = 10.0
WATCH_SECONDS = 0.25
WATCH_MEMORY_SECONDS = 0.05
MEGABYTE = 1 << 20
NICEST = 19

Task = Callable[[dict[str, Any], "FitControl"], Any]


def main(tasks: dict[str, Task] | None = None) -> int:
    """Serve one request; `tasks` maps its name to a callable that gets the job's builtin values."""
    channel = _Channel()
    faulthandler.enable()
    line, rest = _read_line()
    if not line:
        return EXIT_PARENT_GONE
    request = msgspec.json.decode(line, type=Request)
    cancelled = threading.Event()
    watchdog = _Watchdog(request.limits, cancelled, rest)
    threading.Thread(target=watchdog.run, name="demand-maint-watchdog", daemon=True).start()
    _restrain(request.limits)  # after the watchdog has begun: Linux restrains threads, and it has to be in time
    answer = _answer(request, tasks or TASKS, cancelled, channel)
    channel.send(answer)
    sys.stderr.flush()
    # straight out: no interpreter shutdown that native threads or exit hooks could hang in
    os._exit(0 if "answer" in answer else 1)


def _answer(
    request: Request, tasks: dict[str, Task], cancelled: threading.Event, channel: "_Channel"
) -> dict[str, Any]:
    try:
        from demand_maint._training.backend import FitControl  # noqa: PLC0415  # heavy: after the watchdog runs

        control = FitControl(_Progress(channel, request.progress_seconds), cancelled)
        return {"answer": msgspec.to_builtins(tasks[request.task](request.job, control))}
    except DemandMaintError as error:
        return {"error": {"type": type(error).__name__, "message": _text(error), "facts": _facts(error)}}
    except MemoryError as error:
        return {"failed": {"reason": "memory", "detail": f"Out of memory: {_text(error)}."}}
    except BaseException as error:  # whatever it was, the parent gets a sentence
        with contextlib.suppress(Exception):  # for the tail of stderr
            traceback.print_exc()
        return {"failed": {"reason": "error", "detail": f"{type(error).__name__}: {_text(error)[:1000]}."}}


def _text(error: BaseException) -> str:
    """Return its words, as far as it has any and JSON can carry them."""
    try:
        return str(error).encode("utf-8", "replace").decode("utf-8")
    except Exception:  # somebody else's __str__
        return "(no message)"


def _facts(error: BaseException) -> dict[str, Any]:
    """Return the error's attributes as far as JSON can carry them."""
    facts = {}
    for key, value in vars(error).items():
        with contextlib.suppress(TypeError, ValueError):
            facts[key] = msgspec.json.decode(msgspec.json.encode(value))
    return facts


class _Channel:
    """The answers' own descriptor; descriptor 1 leads nowhere from now on."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one marked line, whole."""
        line = memoryview(MARK + msgspec.json.encode(message) + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


class _Progress:
    """Progress lines, no more often than asked."""

    def __init__(self, channel: _Channel, seconds: float) -> None:
        self._channel, self._seconds, self._clock = channel, seconds, SystemClock()
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = self._clock.monotonic()
        if now >= self._next or done == total:
            self._next = now + self._seconds
            self._channel.send({"progress": [done, total]})


def _read_line() -> tuple[bytes, bytes]:
    """Return the request line and what came after it, without a buffer that would swallow later commands."""
    held = b""
    while b"\n" not in held:
        part = os.read(0, 1 << 16)
        if not part:
            return b"", b""
        held += part
    line, _, rest = held.partition(b"\n")
    return line, rest


def _restrain(limits: Limits) -> None:
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(limits.nice)
    if limits.nice == NICEST and hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # only there does whoever else wakes up get the processor at once
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        import resource  # noqa: PLC0415  # POSIX only
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.hard_memory and limits.memory_megabytes is not None:
        cap = limits.memory_megabytes * MEGABYTE
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (cap, cap))


def resident_bytes(pid: int | str = "self") -> int | None:
    """Resident memory of a process; ``None`` where /proc does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class _Watchdog:
    """Ends the process when nobody waits for it any more, or it took too much."""

    def __init__(self, limits: Limits, cancelled: threading.Event, rest: bytes) -> None:
        self._limits, self._cancelled, self._held = limits, cancelled, rest
        self._parent = os.getppid()
        self._clock = SystemClock()
        self._end = self._clock.monotonic() + limits.deadline_seconds + OVERTIME_SECONDS

    def run(self) -> None:
        """Watch until the process ends."""
        wait = WATCH_SECONDS if self._limits.memory_megabytes is None else WATCH_MEMORY_SECONDS
        while True:
            if self._input_within(wait):
                part = os.read(0, 1 << 12)
                if not part:
                    _end(EXIT_PARENT_GONE)
                self._held += part
                while b"\n" in self._held:
                    word, _, self._held = self._held.partition(b"\n")
                    if word == CANCEL:
                        self._cancelled.set()
            self._check()

    def _input_within(self, seconds: float) -> bool:
        if os.name == "nt":
            return True  # select knows no pipes there; the read blocks, and the parent enforces the limits
        return bool(select.select([0], [], [], seconds)[0])

    def _check(self) -> None:
        # a forked sibling may hold our stdin open after the parent has died
        if os.getppid() != self._parent:
            _end(EXIT_PARENT_GONE)
        if self._clock.monotonic() > self._end:
            _end(EXIT_DEADLINE)
        limit = self._limits.memory_megabytes
        if limit is not None and (resident_bytes() or 0) > limit * MEGABYTE:
            _end(EXIT_MEMORY)


def _end(status: int) -> None:
    """Leave at once; where the parent is gone, take the group along."""
    if status == EXIT_PARENT_GONE and hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(status)


def _train(job: dict[str, Any], control: "FitControl") -> Any:
    from demand_maint._training.backend import train  # noqa: PLC0415  # see _answer
    from demand_maint.core.jobs import TrainingJob  # noqa: PLC0415

    return train(msgspec.convert(job, TrainingJob), control)


def _inspect(job: dict[str, Any], _control: "FitControl") -> Any:
    from demand_maint._training.inspection import inspect  # noqa: PLC0415  # see _answer
    from demand_maint._training.requests import InspectJob  # noqa: PLC0415

    return inspect(msgspec.convert(job, InspectJob))


def _evaluate(job: dict[str, Any], _control: "FitControl") -> Any:
    from demand_maint._training.inspection import evaluate  # noqa: PLC0415  # see _answer
    from demand_maint._training.requests import EvaluateJob  # noqa: PLC0415

    return evaluate(msgspec.convert(job, EvaluateJob))


TASKS: dict[str, Task] = {"train": _train, "inspect": _inspect, "evaluate": _evaluate}

if __name__ == "__main__":
    sys.exit(main())
