"""Jobs in child processes, a few at a time.

An idle pool holds no thread and no process, so forgetting to close one leaks nothing. Each running job has one supervising daemon thread here, or runs in any
`concurrent.futures.Executor` (a process pool, Dask): there the supervisor travels along as a plain function of plain values, so
that deadline and kill are the same code everywhere.
"""

import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

import msgspec

from demand_maint._training.child import Control, run_child
from demand_maint._training.remote import RemoteTicket, relay_progress, run_remotely, unpack_answer
from demand_maint._training.requests import (
    EvaluateJob,
    Evaluation,
    GatherJob,
    InspectJob,
    ModelInspection,
    WorkerAnswer,
    WorkerJob,
    decode_answer,
    limits_of,
    task_of,
)
from demand_maint.clock import SystemClock
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import (
    ClosedError,
    DamagedModelError,
    DemandMaintError,
    TrainingCancelledError,
    TrainingFailedError,
)
from demand_maint.log import get_logger

__all__ = ["TrainingHandle", "WorkerPool"]

log = get_logger("training")

Answer_co = TypeVar("Answer_co", bound=WorkerAnswer, covariant=True)
OnProgress = Callable[[int, int], None]
DEFAULT_GRACE_SECONDS = 5.0
BURIAL_SECONDS = 1.0


class TrainingHandle(Future[Any], Generic[Answer_co]):
    """A `Future` whose `cancel` also stops a job that already runs: co-operatively, then by force after `grace` seconds.

    A stopped job's `result` raises `TrainingCancelledError`.
    """

    def __init__(self, job: WorkerJob, grace: float, on_progress: OnProgress | None) -> None:
        super().__init__()
        self.job, self.on_progress = job, on_progress
        #: Seconds to stop by itself, which only a fit can.
        self.grace = grace if isinstance(job, TrainingJob) else 0.0
        self.control = Control()
        self.withdraw: Callable[[], bool] = lambda: False
        self._remote: Future[Any] | None = None
        self._ticket: RemoteTicket | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child; ``None`` before it started, or where an executor runs it elsewhere."""
        return self.control.pid

    def cancel(self, grace: float | None = None) -> bool:
        """Stop the job; ``False`` where it is already over."""
        if self.done():
            return False
        self.control.cancel(self.grace if grace is None or not self.grace else grace)
        if self.withdraw():
            self.settle(_not_begun)
        elif self._remote is not None and self._ticket is not None and not self._remote.cancel():
            self._ticket.ask_to_stop()
        return True

    def attach(self, remote: Future[Any], ticket: RemoteTicket) -> None:
        """Let `cancel` reach a job in an executor."""
        self._remote, self._ticket = remote, ticket

    def settle(self, work: Callable[[], Any]) -> None:
        """Take what `work` returns as the outcome, or the error it raises."""
        try:
            answer = decode_answer(task_of(self.job), work())
        except DemandMaintError as error:
            self._finish(error=error)
        except msgspec.ValidationError as error:
            self._finish(error=TrainingFailedError("no-result", f"It answered with something else: {error}."))
        except BaseException as error:  # a broken executor, or a fault of ours: the caller must not wait for ever
            self._finish(error=TrainingFailedError("error", f"{type(error).__name__}: {error}."))
        else:
            self._finish(answer)

    def _finish(self, answer: Any = None, error: BaseException | None = None) -> None:
        with suppress(InvalidStateError):
            if error is None:
                self.set_result(answer)
            else:
                self.set_exception(error)


class WorkerPool:
    """Runs jobs in children of this process, or through an executor.

    Parameters
    ----------
    slots
        Jobs that may run at once; the others wait in order. Looking at a foreign model never waits.
    executor
        Carries the jobs instead; it stays the caller's to shut down.
    grace
        Seconds a cancelled child gets to stop by itself before it is killed.
    command
        How a worker is started; tests pass one that misbehaves.
    on_begin
        Called with each job when its turn has come, from a thread of the pool (with an executor from the caller's).
    """

    def __init__(
        self,
        slots: int = 1,
        executor: Executor | None = None,
        grace: float = DEFAULT_GRACE_SECONDS,
        *,
        command: Sequence[str] | None = None,
        on_begin: Callable[[WorkerJob], None] | None = None,
    ) -> None:
        self.grace = grace
        self._on_begin = on_begin
        self._slots, self._executor = slots, executor
        self._command = list(command) if command is not None else None
        self._lock = threading.Lock()
        self._waiting: deque[TrainingHandle[Any]] = deque()
        self._running: dict[TrainingHandle[Any], threading.Thread | None] = {}
        self._servants = 0
        self._closed = False

    @overload
    def submit(self, job: TrainingJob, *, on_progress: OnProgress | None = None) -> TrainingHandle[TrainingOutcome]: ...
    @overload
    def submit(self, job: InspectJob, *, on_progress: OnProgress | None = None) -> TrainingHandle[ModelInspection]: ...
    @overload
    def submit(self, job: EvaluateJob, *, on_progress: OnProgress | None = None) -> TrainingHandle[Evaluation]: ...
    @overload
    def submit(self, job: GatherJob, *, on_progress: OnProgress | None = None) -> TrainingHandle[TrainingJob]: ...
    def submit(self, job: WorkerJob, *, on_progress: OnProgress | None = None) -> TrainingHandle[Any]:
        """Start `job` or queue it; ``on_progress(done, total)`` is called from a thread of the pool.

        Raises
        ------
        ClosedError
            The pool is closed.
        """
        handle: TrainingHandle[Any] = TrainingHandle(_absolute(job), self.grace, on_progress)
        with self._lock:
            if self._closed:
                raise ClosedError("The worker pool is closed. Make a new one.")
            if self._executor is not None:
                self._running[handle] = None
            elif isinstance(job, InspectJob):
                self._thread(self._run, handle)
            else:
                handle.withdraw = lambda: self._withdraw(handle)
                self._waiting.append(handle)
                if self._servants < self._slots:
                    self._servants += 1
                    self._thread(self._serve)
        if self._executor is not None:
            self._send_away(handle, self._executor)
        return handle

    @overload
    def run(self, job: TrainingJob, *, on_progress: OnProgress | None = None) -> TrainingOutcome: ...
    @overload
    def run(self, job: InspectJob, *, on_progress: OnProgress | None = None) -> ModelInspection: ...
    @overload
    def run(self, job: EvaluateJob, *, on_progress: OnProgress | None = None) -> Evaluation: ...
    @overload
    def run(self, job: GatherJob, *, on_progress: OnProgress | None = None) -> TrainingJob: ...
    def run(self, job: WorkerJob, *, on_progress: OnProgress | None = None) -> WorkerAnswer:
        """Submit `job` and wait for its outcome; an interrupt (Ctrl-C) here stops the job.

        Raises
        ------
        TrainingFailedError, TrainingCancelledError, DemandMaintError
            As the job ended.
        """
        handle = self.submit(job, on_progress=on_progress)
        try:
            return handle.result()  # type: ignore[no-any-return]  # decode_answer checked the class
        except BaseException:
            handle.cancel(grace=0.0)
            raise

    def inspect(
        self,
        path: str | os.PathLike[str],
        metadata: ModelMetadata | None = None,
        rows: Sequence[Sequence[float]] | None = None,
        *,
        output_directory: str | os.PathLike[str],
        limit_bytes: int = 512 << 20,
        deadline_seconds: float = 120.0,
        memory_megabytes: int | None = 4096,
    ) -> ModelInspection:
        """Look at a model file of unknown origin in a child with a deadline and a memory limit.

        Parameters
        ----------
        metadata
            Its features and loss are expected; so is the sha256 that our own training notes there, of a ``.cbm``.
        rows
            A few sample rows in the order of the features, to be answered with finite numbers; made up where ``None``.
        output_directory
            Gets the canonical ``.cbm`` (`ModelInspection.cbm_path`), for the caller to take and remove.

        Raises
        ------
        ModelFileError, SchemaMismatchError, IncompatibleBaseError
            What is wrong with it.
        DamagedModelError
            Also where it crashed, hung or exhausted the child.
        """
        noted = metadata.notes.get("model_sha256") if metadata is not None else None
        job = InspectJob(
            sha256=noted if isinstance(noted, str) and Path(path).suffix == ".cbm" else None,
            path=os.fspath(path),
            output_directory=os.fspath(output_directory),
            name=f"inspected-{uuid.uuid4().hex[:12]}",
            features=metadata.features if metadata is not None else (),
            loss=metadata.loss if metadata is not None else None,
            rows=[[float(value) for value in row] for row in rows] if rows is not None else [],
            limit_bytes=limit_bytes,
            deadline_seconds=deadline_seconds,
            memory_megabytes=memory_megabytes,
        )
        try:
            return self.run(job)
        except TrainingFailedError as error:
            raise DamagedModelError(
                f"{os.fspath(path)!r} could not be examined ({error.reason}): {error.detail} Deploy a file saved by model.save_model."
            ) from error

    def close(self, grace: float | None = None) -> None:
        """Stop every job, wait until none is left (at most `grace` and about a second), and refuse new ones."""
        wait = self.grace if grace is None else grace
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            running = dict(self._running)
        for handle in waiting:
            handle.settle(_not_begun)
        for handle in running:
            handle.cancel(grace=wait)
        clock = SystemClock()
        end = clock.monotonic() + wait + BURIAL_SECONDS
        for handle, thread in running.items():
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, end - clock.monotonic()))
            elif thread is None:
                with suppress(Exception):
                    handle.exception(max(0.0, end - clock.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _thread(self, work: Callable[..., None], *arguments: Any) -> None:
        """Start a daemon thread (the lock is held); a job's handle is registered with it."""
        thread = threading.Thread(target=work, args=arguments, name="demand-maint-supervisor", daemon=True)
        for handle in arguments:
            self._running[handle] = thread
        thread.start()

    def _withdraw(self, handle: TrainingHandle[Any]) -> bool:
        """Take a job that still waits out of the queue."""
        with self._lock:
            if handle not in self._waiting:
                return False
            self._waiting.remove(handle)
            return True

    def _serve(self) -> None:
        """Take waiting jobs until there are none, then end."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._servants -= 1
                    return
                handle = self._waiting.popleft()
                self._running[handle] = threading.current_thread()
            self._run(handle)

    def _run(self, handle: TrainingHandle[Any]) -> None:
        job = handle.job
        handle.set_running_or_notify_cancel()
        try:
            if handle.control.kill_at is not None:
                handle.settle(_not_begun)
                return
            self._tell(job)
            handle.settle(
                lambda: run_child(
                    task_of(job),
                    msgspec.to_builtins(job),
                    limits_of(job),
                    control=handle.control,
                    on_progress=handle.on_progress,
                    command=self._command,
                )
            )
        finally:
            with self._lock:
                self._running.pop(handle, None)

    def _tell(self, job: WorkerJob) -> None:
        if self._on_begin is None:
            return
        try:
            self._on_begin(job)
        except Exception as error:  # somebody else's code
            log.warning("begin callback failed", error=repr(error))

    def _send_away(self, handle: TrainingHandle[Any], executor: Executor) -> None:
        job = handle.job
        ticket = RemoteTicket(job.output_directory, uuid.uuid4().hex[:12], handle.grace)
        over = threading.Event()

        def arrived(remote: Future[Any]) -> None:
            over.set()
            ticket.close()
            with self._lock:
                self._running.pop(handle, None)
            handle.settle(_not_begun if remote.cancelled() else lambda: unpack_answer(remote.result()))

        handle.set_running_or_notify_cancel()
        self._tell(job)
        try:
            remote = executor.submit(
                run_remotely,
                task_of(job),
                msgspec.to_builtins(job),
                msgspec.to_builtins(limits_of(job)),
                msgspec.to_builtins(ticket),
                self._command,
            )
        except BaseException:
            with self._lock:
                self._running.pop(handle, None)
            raise
        handle.attach(remote, ticket)
        if handle.on_progress is not None:
            relay = (ticket, over, handle.on_progress)
            threading.Thread(target=relay_progress, args=relay, name="demand-maint-progress", daemon=True).start()
        remote.add_done_callback(arrived)


def _not_begun() -> Any:
    raise TrainingCancelledError("Training was stopped before it began; nothing was deployed.")


def _absolute(job: WorkerJob) -> WorkerJob:
    """Make the job's paths hold wherever its child starts."""
    fields = ("frame_path", "base_model_path", "output_directory", "path", "model_path", "root")
    return msgspec.structs.replace(
        job,
        **{name: str(Path(value).absolute()) for name in fields if isinstance(value := getattr(job, name, None), str)},
    )
