"""A child that misbehaves: always one typed error with its reason, nothing left behind, and the next job works."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demand_maint._training.child import _environment
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import GatherJob
from demand_maint.clock import SystemClock
from demand_maint.errors import ClosedError, TrainingCancelledError, TrainingFailedError

pytestmark = [pytest.mark.catboost, pytest.mark.skipif(os.name != "posix", reason="process groups")]
BAD_WORKER = Path(__file__).with_name("bad_worker.py")


def children() -> set[str]:
    """Return the processes this one has started."""
    table = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(table.read_text().split()) if table.exists() else set()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail where a test left a child or a thread of the pool."""
    before = children()
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("demand-maint")] == []
    assert children() <= before


def bad_pool(way: str, **settings: Any) -> WorkerPool:
    """Return a pool whose workers misbehave."""
    return WorkerPool(command=[sys.executable, str(BAD_WORKER), way], **settings)


def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something another process does; fail where it does not happen."""
    end = SystemClock().monotonic() + seconds
    while not holds():
        assert SystemClock().monotonic() < end
        threading.Event().wait(0.005)


def gone(pid: int) -> bool:
    """Whether a process is dead (a zombie counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("way", "reason", "words"),
    [
        ("segfault", "crashed", "SIGSEGV.*Segmentation fault"),
        ("abort", "crashed", "SIGABRT"),
        ("killed", "killed", "SIGKILL"),
        ("exits", "no-result", "exit status 3.*the moon is wrong"),
        ("exits_well", "no-result", "exit status 0"),
        ("system_exit", "error", "SystemExit: 5"),
        ("garbage", "no-result", "model_path"),
        ("unserializable", "error", "lock"),
        ("lies_on_stdout", "no-result", "without an answer"),
        ("floods_stdout", "error", "after the flood"),
        ("floods_stderr", "no-result", "the last line"),
        ("odd_error", "error", "Odd"),
    ],
)
def test_every_way_to_fail_has_its_reason(lab: Any, way: str, reason: str, words: str) -> None:
    """Crashes, exits, floods and nonsense become a TrainingFailedError with a reason for programs and the last words of stderr."""
    with bad_pool(way) as pool, pytest.raises(TrainingFailedError) as caught:
        pool.run(lab.job(deadline_seconds=30.0))
    assert caught.value.reason == reason
    assert re.search(words, caught.value.detail, re.DOTALL), caught.value.detail
    assert len(caught.value.detail) < 6000


def test_a_child_has_the_threads_it_is_allowed() -> None:
    """Every library that makes threads of its own is told the job's count."""
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert {_environment(3)[name] for name in names} == {"3"}


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux")
@pytest.mark.parametrize(("nice", "idle"), [(19, True), (18, False)])
def test_a_child_gives_way_to_its_host(lab: Any, nice: int, idle: bool) -> None:
    """It leads a group of its own in the host's session, where its niceness counts, and at 19 runs only when nobody else wants to."""
    with bad_pool("tells_its_place") as pool, pytest.raises(TrainingFailedError) as caught:
        pool.run(lab.job(nice=nice))
    assert f"session {os.getsid(0)} leads True idle {idle}" in caught.value.detail


def test_only_a_fit_is_given_time_to_stop(lab: Any) -> None:
    """A job that cannot stop by itself is ended at once, whatever the pool's grace."""
    gather = GatherJob(root=str(lab.folder), config={}, step={}, now=0.0, output_directory=str(lab.folder))
    with bad_pool("hangs", grace=30.0) as pool:
        handle = pool.submit(gather)
        until(lambda: handle.pid is not None)
        assert handle.cancel()
        with pytest.raises(TrainingCancelledError):
            handle.result(timeout=10)


@pytest.mark.parametrize("way", ["hangs", "hangs_with_the_lock", "hangs_without_answers", "stopped"])
def test_a_hang_ends_at_the_deadline(lab: Any, way: str) -> None:
    """A child that ignores SIGTERM, holds its interpreter lock, closes its pipes or stands still is killed at its deadline."""
    with bad_pool(way) as pool:
        handle = pool.submit(lab.job(deadline_seconds=1.0))
        with pytest.raises(TrainingFailedError) as caught:
            handle.result(timeout=10)
        assert caught.value.reason == "deadline"
        assert handle.pid is not None
        assert not Path(f"/proc/{handle.pid}").exists()


@pytest.mark.parametrize("way", ["grabs_memory", "grabs_memory_with_the_lock"])
def test_a_child_that_takes_too_much_memory_is_ended(lab: Any, way: str) -> None:
    """Resident memory over the limit ends the child, from inside or, where its lock is held, from outside."""
    with bad_pool(way) as pool, pytest.raises(TrainingFailedError) as caught:
        pool.run(lab.job(memory_megabytes=400, deadline_seconds=30.0))
    assert caught.value.reason == "memory"
    assert "400 MB" in caught.value.detail


def test_the_whole_group_dies(lab: Any) -> None:
    """What a child started goes with it."""
    with bad_pool("leaves_a_child") as pool, pytest.raises(TrainingFailedError) as caught:
        pool.run(lab.job(deadline_seconds=30.0))
    found = re.search(r"grandchild (\d+)", caught.value.detail)
    assert found is not None
    until(lambda: gone(int(found[1])))


def test_after_every_failure_the_next_job_works(lab: Any) -> None:
    """A pool whose child crashed, hung or lied trains the next model as if nothing had been."""
    with bad_pool("segfault") as pool:
        for way in ("segfault", "hangs", "garbage"):
            pool._command = [sys.executable, str(BAD_WORKER), way]
            with pytest.raises(TrainingFailedError):
                pool.run(lab.job(deadline_seconds=1.0))
        pool._command = None
        assert pool.run(lab.job()).trees == 20


def test_an_interpreter_that_is_not_there_is_a_typed_failure(lab: Any) -> None:
    """A child that cannot even be started is a TrainingFailedError."""
    with (
        WorkerPool(command=["/nonexistent/python"]) as pool,
        pytest.raises(TrainingFailedError, match="could be started"),
    ):
        pool.run(lab.job())


def test_a_job_that_ignores_cancel_is_killed_after_the_grace(lab: Any) -> None:
    """Cancel asks, waits for the grace, and then kills; the handle says cancelled either way."""
    with bad_pool("hangs", grace=0.5) as pool:
        handle = pool.submit(lab.job())
        until(lambda: handle.pid is not None)
        assert handle.cancel()
        start = SystemClock().monotonic()
        with pytest.raises(TrainingCancelledError):
            handle.result(timeout=10)
        assert SystemClock().monotonic() - start < 2.0
        assert not handle.cancel()


def test_a_waiting_job_is_cancelled_at_once(lab: Any) -> None:
    """A job that waits for a slot need not wait for it to be cancelled."""
    with bad_pool("hangs", grace=0.2) as pool:
        running, waiting = pool.submit(lab.job()), pool.submit(lab.job())
        until(lambda: running.pid is not None)
        assert waiting.cancel()
        with pytest.raises(TrainingCancelledError):
            waiting.result(timeout=0.1)
        assert not running.done()


def test_closing_the_pool_ends_everything_within_the_grace(lab: Any) -> None:
    """With one job hanging and one waiting, close is back after the grace plus a second, and both jobs say cancelled."""
    pool = bad_pool("hangs", grace=0.5)
    running, waiting = pool.submit(lab.job()), pool.submit(lab.job())
    start = SystemClock().monotonic()
    pool.close()
    assert SystemClock().monotonic() - start < 1.6
    for handle in (running, waiting):
        with pytest.raises(TrainingCancelledError):
            handle.result(timeout=1)
    pool.close()
    with pytest.raises(ClosedError):
        pool.submit(lab.job())
