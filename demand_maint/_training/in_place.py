"""Jobs in this very process, one after another: for a replay, where starting a child would cost more than a fine-tune.

It is the same function a worker child runs, on the same job, so the model is the same. What the child adds is left out with
it: deadline, memory limit, and a crash that hurts nobody else. Nothing live uses this.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec

from demand_maint._training.backend import FitControl, train
from demand_maint._training.inspection import evaluate
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import EvaluateJob, WorkerJob
from demand_maint.clock import SystemClock
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.errors import DemandMaintError, TrainingCancelledError, TrainingFailedError

__all__ = ["InPlacePool"]


class InPlacePool(WorkerPool):
    """A `WorkerPool` without children for fits; foreign files are still opened in one.

    Attributes
    ----------
    cpu_seconds, wall_seconds
        Spent in fits so far; processor time of the calling thread, so it wants one training thread.
    trainings
        Fits begun, by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0
        self.trainings: dict[str, int] = {}
        self._cancelled = threading.Event()

    def submit(self, job: Any, *, on_progress: Callable[[int, int], None] | None = None) -> Any:
        """Do `job` now; the future returned is over."""
        if not isinstance(job, TrainingJob | EvaluateJob):
            return super().submit(job, on_progress=on_progress)
        done: Future[Any] = Future()
        try:
            done.set_result(self._do(job, on_progress))
        except Exception as error:  # what a child would tell: the caller gets one typed error
            done.set_exception(error)
        return done

    def run(self, job: Any, *, on_progress: Callable[[int, int], None] | None = None) -> Any:
        """Do `job` and return its outcome."""
        return self.submit(job, on_progress=on_progress).result()

    def stop(self) -> None:
        """End the fit under way at its next tree, and refuse further ones; from any thread."""
        self._cancelled.set()

    def close(self, grace: float | None = None) -> None:
        """Stop, and let go of children."""
        self.stop()
        super().close(grace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, job: WorkerJob, on_progress: Callable[[int, int], None] | None) -> Any:
        if self._cancelled.is_set():
            raise TrainingCancelledError("Training was stopped before it began; nothing was deployed.")
        if isinstance(job, EvaluateJob):
            return evaluate(job)
        assert isinstance(job, TrainingJob)
        clock = SystemClock()
        wall, cpu = clock.monotonic(), time.thread_time()
        self.trainings[job.kind] = self.trainings.get(job.kind, 0) + 1
        try:
            outcome = train(job, FitControl(on_progress or _silent, self._cancelled))
        except DemandMaintError:
            raise
        except Exception as error:
            raise TrainingFailedError("error", f"{type(error).__name__}: {str(error)[:1000]}.") from error
        finally:
            used, passed = time.thread_time() - cpu, clock.monotonic() - wall
            self.cpu_seconds += used
            self.wall_seconds += passed
        # the child's own figure is its process's; here other policies' threads would be counted in
        return _stated(outcome, used, passed)


def _stated(outcome: TrainingOutcome, cpu: float, wall: float) -> TrainingOutcome:
    return msgspec.structs.replace(outcome, cpu_seconds=cpu, wall_seconds=wall)


def _silent(done: int, total: int) -> None:
    del done, total
