"""One child process, from start to its certain end, as its supervisor sees it.

The child gets a session (and so a process group) of its own, its request on stdin, and until it answers three limits: a
deadline, a memory limit and a cancel request. Whatever happens, the group is killed before the leader is reaped, so nothing of
it survives, and the caller gets an answer or one typed error; the child's stdout goes nowhere and its stderr is kept by its tail.
"""

import contextlib
import os
import queue
import signal
import site
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

import demand_maint.errors
from demand_maint._training.requests import Limits, Request, module_of
from demand_maint._training.worker import CANCEL, EXIT_DEADLINE, EXIT_MEMORY, EXIT_PARENT_GONE, MARK, resident_bytes
from demand_maint.clock import Clock, SystemClock
from demand_maint.errors import DemandMaintError, TrainingCancelledError, TrainingError, TrainingFailedError
from demand_maint.log import get_logger

__all__ = ["Control", "run_child", "worker_command"]

log = get_logger("training")

POLL_SECONDS = 0.1
STDERR_TAIL_BYTES = 4096
# a flood is read slowly: it costs its sender time, and the host's interpreter nothing
FLOOD_PAUSE_SECONDS = 0.02
READ_BYTES = 1 << 16
LONGEST_ANSWER_BYTES = 4 << 20
GOODBYE_SECONDS = 5.0
# a group of its own, to be ended whole, but the host's session: Linux shares processors between sessions first, and only within
# one does it look at who is the nicer ("autogroup", sched(7)), so that in a session of its own a child would press on the host
_GROUP: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}
OWN_EXITS = {EXIT_MEMORY: "memory", EXIT_DEADLINE: "deadline", EXIT_PARENT_GONE: "parent-gone"}


class Control:
    """The caller's hand on a running child: `cancel` asks it to stop, and after `grace` seconds makes it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._kill_at: float | None = None
        self.pid: int | None = None

    def cancel(self, grace: float) -> None:
        """Ask the child to stop; it is killed `grace` seconds from now. A later call may only shorten that."""
        moment = self._clock.monotonic() + grace
        if self._kill_at is None or moment < self._kill_at:
            self._kill_at = moment

    @property
    def kill_at(self) -> float | None:
        """Monotonic time at which the child is killed; ``None`` while nobody cancelled."""
        return self._kill_at


def worker_command(task: str) -> list[str]:
    """Return the command that starts a worker for `task`: this interpreter, our module, and no look into the working directory."""
    if not sys.executable:
        raise TrainingFailedError(
            "error", "This process does not know its Python interpreter (sys.executable is empty)."
        )
    return [sys.executable, "-P", "-m", module_of(task)]


def _search_path() -> str:
    """Return what the parent finds modules in and a fresh interpreter would not: its script's folder, entries it added.

    What every interpreter has by itself stays out, since PYTHONPATH comes before the standard library.
    """
    usual = {str(Path(entry).resolve()) for entry in (*sysconfig.get_paths().values(), *_site_folders())}
    home = Path(demand_maint.errors.__file__).resolve().parents[1]
    paths = [str(home), *(str(Path(entry).resolve()) for entry in sys.path if entry)]
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    added = [path for path in paths if path not in usual and not Path(path).is_relative_to(standard)]
    return os.pathsep.join(dict.fromkeys(path for path in added if not path.endswith(".zip") or Path(path).exists()))


def _site_folders() -> list[str]:
    folders = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [*site.getsitepackages(), *folders]


def _environment(threads: int) -> dict[str, str]:
    """Return the parent's environment with its module search path, and as many threads as the job may have."""
    count = str(threads)
    return os.environ | {
        "PYTHONPATH": _search_path(),
        "POLARS_MAX_THREADS": count,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }


def run_child(
    task: str,
    job: dict[str, Any],
    limits: Limits,
    *,
    control: Control | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    command: Sequence[str] | None = None,
    clock: Clock | None = None,
) -> Any:
    """Run one request in a child, and return the builtin values of its answer.

    Raises
    ------
    TrainingFailedError
        The child crashed, was killed, ran out of time or memory, or ended without an answer.
    TrainingCancelledError
        `control` asked for it.
    DemandMaintError
        The typed error the child met.
    """
    child = _Child(command or worker_command(task), limits, control or Control(clock), clock or SystemClock())
    request = Request(task=task, job=job, limits=limits)
    return child.supervise(msgspec.json.encode(request) + b"\n", on_progress)


class _Child:
    """A started process with its two readers."""

    def __init__(self, command: Sequence[str], limits: Limits, control: Control, clock: Clock) -> None:
        self._limits, self._control, self._clock = limits, control, clock
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._tail = b""
        self._over = threading.Event()
        self._ended_because: str | None = None
        self._status: int | None = None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(limits.threads),
                **_GROUP,
                bufsize=0,
            )
        except OSError as error:
            raise TrainingFailedError("error", f"No child process could be started: {error}.") from error
        control.pid = self._process.pid

    def supervise(self, request: bytes, on_progress: Callable[[int, int], None] | None) -> Any:
        """Wait for the answer within the limits; nothing of the child is left afterwards."""
        readers = [
            threading.Thread(target=self._read_answers, name="demand-maint-answers", daemon=True),
            threading.Thread(target=self._read_stderr, args=(request,), name="demand-maint-stderr", daemon=True),
        ]
        final: dict[str, Any] | None = None
        try:
            for reader in readers:
                reader.start()
            final = self._wait(on_progress)
        finally:
            self._bury(readers)
        return self._judge(final)

    def _wait(self, on_progress: Callable[[int, int], None] | None) -> dict[str, Any] | None:
        """Return the final message; ``None`` where the child ended or had to be ended without one."""
        end = self._clock.monotonic() + self._limits.deadline_seconds
        cancel_sent = False
        while True:
            with contextlib.suppress(queue.Empty):
                message = self._messages.get(timeout=POLL_SECONDS)
                if message is None:
                    self._outlive(end)
                    return None
                if "progress" not in message:
                    return message
                _report(on_progress, message["progress"])
            if self._control.kill_at is not None and not cancel_sent:
                cancel_sent = True
                self._say(CANCEL + b"\n")
            if self._must_end(end) or (self._exited() and self._messages.empty()):
                return self._last_words()

    def _outlive(self, end: float) -> None:
        """Its answers are closed: wait for its end, which may still need to be forced."""
        while not self._exited() and not self._must_end(end):
            self._over.wait(POLL_SECONDS)

    def _last_words(self) -> dict[str, Any] | None:
        """Answer that was on its way when the child ended."""
        if self._ended_because is not None:
            return None
        with contextlib.suppress(queue.Empty):
            while (message := self._messages.get(timeout=0.5)) is not None:
                if "progress" not in message:
                    return message
        return None

    def _must_end(self, end: float) -> bool:
        """Whether a limit is reached; the reason is kept."""
        now = self._clock.monotonic()
        kill_at, limit = self._control.kill_at, self._limits.memory_megabytes
        if kill_at is not None and now >= kill_at:
            self._ended_because = "cancelled"
        elif now >= end:
            self._ended_because = "deadline"
        elif limit is not None and (resident_bytes(self._process.pid) or 0) > limit << 20:
            self._ended_because = "memory"
        return self._ended_because is not None

    def _exited(self) -> bool:
        """Whether the leader has ended; it is not reaped, so that its group's number cannot be anybody else's yet."""
        if hasattr(os, "waitid"):
            try:
                return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            except ChildProcessError:  # the host ignores SIGCHLD: the kernel reaped it
                return True
        return self._process.poll() is not None

    def _bury(self, readers: list[threading.Thread]) -> None:
        """Give an answered child a moment to leave, end the whole group, reap, and close everything."""
        if self._ended_because is None:
            leave = self._clock.monotonic() + GOODBYE_SECONDS
            while not self._exited() and self._clock.monotonic() < leave:
                self._over.wait(0.01)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._status = self._process.wait(GOODBYE_SECONDS)
        self._over.set()
        for reader in readers:
            if reader.ident is not None:
                reader.join(1.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _judge(self, final: dict[str, Any] | None) -> Any:
        if final is not None and "answer" in final:
            return final["answer"]
        if self._control.kill_at is not None and (
            final is None or final.get("error", {}).get("type") == "TrainingCancelledError"
        ):
            raise TrainingCancelledError("Training was stopped on request; nothing was deployed.")
        if final is not None and "error" in final:
            raise rebuild_error(final["error"])
        if final is not None and isinstance(final.get("failed"), dict):
            raise self._failure(str(final["failed"].get("reason", "error")), str(final["failed"].get("detail", "")))
        raise self._failure(*self._cause())

    def _cause(self) -> tuple[str, str]:
        """Tell why there is no answer, from how the child ended."""
        limits, status = self._limits, self._status
        if self._ended_because == "deadline":
            return "deadline", f"It was not done after {limits.deadline_seconds:g} s and was killed."
        if self._ended_because == "memory" or status == EXIT_MEMORY:
            return "memory", f"It used more than {limits.memory_megabytes} MB and was ended."
        if status is None:
            return "no-result", "It ended, nobody knows how, without an answer."
        if status in OWN_EXITS:
            return OWN_EXITS[status], "Its own watchdog ended it."
        if status >= 0:
            return "no-result", f"It ended with exit status {status} and without an answer."
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        if name in CRASHES:
            return "crashed", f"It crashed ({name})."
        hint = " That may have been the kernel, out of memory." if name == "SIGKILL" else ""
        return "killed", f"Somebody killed it ({name}).{hint}"

    def _failure(self, reason: str, detail: str) -> TrainingFailedError:
        tail = self._tail.decode("utf-8", "replace").strip()
        return TrainingFailedError(reason, f"{detail} Its last words on stderr: {tail}" if tail else detail)

    def _say(self, text: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        # not blocking in practice: the pipe is empty once the request is read, and this is a dozen bytes
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)

    def _read_answers(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        held = b""
        with contextlib.suppress(OSError, ValueError):
            while part := _read(stream):
                held += part
                *lines, held = held.split(b"\n")
                if len(held) > LONGEST_ANSWER_BYTES:
                    held = b""
                useful = [message for line in lines if (message := _parse(line)) is not None]
                for message in useful:
                    self._messages.put(message)
                if not useful:
                    self._over.wait(FLOOD_PAUSE_SECONDS)
        self._messages.put(None)

    def _read_stderr(self, request: bytes) -> None:
        """Hand over the request, then keep the newest of what the child says."""
        stdin, stderr = self._process.stdin, self._process.stderr
        assert stdin is not None
        assert stderr is not None
        with contextlib.suppress(OSError, ValueError):
            view = memoryview(request)
            while view:
                view = view[stdin.write(view) :]
        with contextlib.suppress(OSError, ValueError):
            while part := _read(stderr):
                self._tail = (self._tail + part)[-STDERR_TAIL_BYTES:]
                if len(part) == READ_BYTES:
                    self._over.wait(FLOOD_PAUSE_SECONDS)


def _read(stream: IO[bytes]) -> bytes:
    return os.read(stream.fileno(), READ_BYTES)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the message of a marked line; anything else is noise."""
    at = line.find(MARK)
    if at < 0:
        return None
    try:
        message = msgspec.json.decode(line[at + len(MARK) :])
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, dict) else None


def _report(on_progress: Callable[[int, int], None] | None, progress: Any) -> None:
    if on_progress is None:
        return
    try:
        on_progress(int(progress[0]), int(progress[1]))
    except Exception as error:  # somebody else's code
        log.warning("progress callback failed", error=repr(error))


def rebuild_error(told: dict[str, Any]) -> DemandMaintError:
    """Make the error a child told of: same class, same sentence, same facts."""
    kind = getattr(demand_maint.errors, str(told.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, DemandMaintError)):
        kind = TrainingError
    error = kind.__new__(kind)
    Exception.__init__(error, str(told.get("message", "")))
    facts = told.get("facts")
    for key, value in (facts if isinstance(facts, dict) else {}).items():
        setattr(error, str(key), tuple(value) if isinstance(value, list) else value)
    return error
