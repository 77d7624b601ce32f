"""Children in real programs: unguarded scripts, stdin, executors, parents that die or leave in the middle of a fit."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest

import demand_maint
from demand_maint._training.pool import WorkerPool
from demand_maint.clock import SystemClock
from demand_maint.errors import IncompatibleBaseError, TrainingCancelledError, TrainingFailedError

pytestmark = [pytest.mark.catboost, pytest.mark.skipif(os.name != "posix", reason="process groups")]
ENDLESS = 200_000
BAD_WORKER = Path(__file__).with_name("bad_worker.py")
# what a user's script does, without a __main__ guard
SCRIPT = """
import sys
print("main", flush=True)
import msgspec
from demand_maint._training.pool import WorkerPool
from demand_maint.core.jobs import TrainingJob
job = msgspec.json.decode(sys.argv[1], type=TrainingJob)
pool = WorkerPool()
"""
RUN = SCRIPT + "print(pool.run(job).trees, flush=True)\n"
START_AND_WAIT = (
    SCRIPT
    + """
import threading
fitting = threading.Event()
handle = pool.submit(job, on_progress=lambda done, total: fitting.set())
fitting.wait()
print(handle.pid, flush=True)
"""
)


# the programs find the package where these tests found it
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(demand_maint.__file__).parents[1])}
Seen = list[tuple[str, int, int]]


def recorder(seen: Seen, name: str = "", heard: threading.Event | None = None) -> Callable[[int, int], None]:
    """Return a progress function that remembers its calls."""

    def record(done: int, total: int) -> None:
        seen.append((name, done, total))
        if heard is not None:
            heard.set()

    return record


def until(holds: Callable[[], bool], seconds: float = 5.0) -> float:
    """Wait for something another process does; return how long that took."""
    start = SystemClock().monotonic()
    while not holds():
        assert SystemClock().monotonic() - start < seconds
        threading.Event().wait(0.005)
    return SystemClock().monotonic() - start


def gone(pid: int) -> bool:
    """Whether a process is dead (a zombie counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def encoded(job: Any) -> str:
    """Job as a command-line argument."""
    return msgspec.json.encode(job).decode()


def start(code: str, job: Any) -> "subprocess.Popen[str]":
    """Start a program that prints "main" and the child's pid once it fits."""
    return subprocess.Popen(
        [sys.executable, "-c", code, encoded(job)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def child_pid(program: "subprocess.Popen[str]") -> int:
    """Read the child's pid from the program's output."""
    assert program.stdout is not None
    assert program.stdout.readline() == "main\n"
    return int(program.stdout.readline())


def test_an_unguarded_script_trains_and_is_run_once(lab: Any, tmp_path: Path) -> None:
    """A script without a __main__ guard gets its model, and nothing executes it a second time."""
    script = tmp_path / "collector.py"
    script.write_text(RUN)
    done = subprocess.run(
        [sys.executable, str(script), encoded(lab.job())], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout == "main\n20\n"


def test_a_program_from_stdin_trains(lab: Any) -> None:
    """Where no file holds the main program, as in a notebook, a child trains all the same."""
    done = subprocess.run(
        [sys.executable, "-", encoded(lab.job())],
        input=RUN,
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    assert done.stdout == "main\n20\n"


def test_modules_in_the_working_directory_are_not_imported(lab: Any, tmp_path: Path) -> None:
    """A file of the user called like a standard module does not become the child's."""
    (tmp_path / "random.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "polars.py").write_text("raise SystemExit('imported')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN, encoded(lab.job())],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
        cwd=tmp_path,
    )
    assert done.stdout == "main\n20\n"


def test_a_child_dies_with_its_parent_inside_a_fit(lab: Any) -> None:
    """After kill -9 of the parent, the child is gone within a second, in the middle of a fit."""
    job = lab.job(iterations=ENDLESS)
    with start(START_AND_WAIT + "threading.Event().wait()", job) as program:
        pid = child_pid(program)
        assert not gone(pid)
        program.send_signal(signal.SIGKILL)
        program.wait()
        assert until(lambda: gone(pid)) < 1.0


def test_a_child_dies_although_a_sibling_holds_its_stdin(lab: Any) -> None:
    """A process forked by the host inherits the pipes; the child notices its parent's death without them."""
    code = START_AND_WAIT.replace(
        "print(handle.pid", "import os, time\nif os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\nprint(handle.pid"
    )
    code = "import warnings; warnings.simplefilter('ignore')\n" + code
    with start(code + "threading.Event().wait()", lab.job(iterations=ENDLESS)) as program:
        pid = child_pid(program)
        sibling = [
            int(entry)
            for entry in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
            if int(entry) != pid
        ]
        program.send_signal(signal.SIGKILL)
        program.wait()
        took = until(lambda: gone(pid))
        for other in sibling:
            os.kill(other, signal.SIGKILL)
        assert took < 1.0


@pytest.mark.parametrize("ending", ["", "raise SystemExit(1)", "pool.close(0.5)"])
def test_a_program_that_ends_takes_its_child_along(lab: Any, ending: str) -> None:
    """Interpreter exit is not delayed by a running fit, and leaves no process behind."""
    with start(START_AND_WAIT + ending, lab.job(iterations=ENDLESS)) as program:
        pid = child_pid(program)
        program.wait(timeout=3)
        until(lambda: gone(pid), 1.0)


def test_ctrl_c_ends_the_fit(lab: Any) -> None:
    """SIGINT in a program that waits for its fit ends the child and raises KeyboardInterrupt there."""
    code = START_AND_WAIT.replace(
        "handle = pool.submit",
        "threading.Thread(target=lambda: (fitting.wait(), print(list(pool._running)[0].pid, flush=True))).start()\npool.run",
    ).partition("fitting.wait()\nprint")[0]
    with start(code, lab.job(iterations=ENDLESS)) as program:
        pid = child_pid(program)
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=3) != 0
        until(lambda: gone(pid), 1.0)


def test_cancel_stops_a_real_fit_by_its_own_will(lab: Any) -> None:
    """A running fit hears cancel after its current tree, and ends with nothing written, long before the grace is over."""
    fitting = threading.Event()
    with WorkerPool(grace=30.0) as pool:
        handle = pool.submit(lab.job(iterations=ENDLESS, nice=19), on_progress=lambda done, total: fitting.set())
        assert fitting.wait(20)
        assert handle.pid is not None
        assert os.getpriority(os.PRIO_PROCESS, handle.pid) == 19
        assert os.getpgid(handle.pid) == handle.pid
        begin = SystemClock().monotonic()
        assert handle.cancel()
        with pytest.raises(TrainingCancelledError):
            handle.result(timeout=20)
        assert SystemClock().monotonic() - begin < 2.0
    assert list(lab.out.iterdir()) == []


async def test_a_cancelled_task_stops_its_fit(lab: Any) -> None:
    """Awaited in a loop through `asyncio.wrap_future`, a fit ends when the task that waits for it is cancelled."""
    fitting = asyncio.Event()
    loop = asyncio.get_running_loop()
    job = await asyncio.to_thread(lab.job, iterations=ENDLESS)
    pool = WorkerPool(grace=30.0)

    def progress(done: int, total: int) -> None:
        loop.call_soon_threadsafe(fitting.set)

    handle = pool.submit(job, on_progress=progress)
    waiting = asyncio.ensure_future(asyncio.wrap_future(handle))
    await asyncio.wait_for(fitting.wait(), 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TrainingCancelledError):
        await asyncio.to_thread(handle.result, 20)
    await asyncio.to_thread(pool.close)


def test_a_real_fit_ends_at_its_deadline(lab: Any) -> None:
    """A fit that takes too long is a typed failure, and leaves no file that looks like a model."""
    with WorkerPool() as pool, pytest.raises(TrainingFailedError) as caught:
        pool.run(lab.job(iterations=ENDLESS, deadline_seconds=1.5))
    assert caught.value.reason == "deadline"
    assert list(lab.out.iterdir()) == []


def test_jobs_wait_for_a_slot_and_report_in_order(lab: Any) -> None:
    """With one slot the second job starts when the first is done; progress ends at the announced number of trees."""
    seen: Seen = []
    with WorkerPool(slots=1) as pool:
        handles = [pool.submit(lab.job(), on_progress=recorder(seen, name)) for name in ("a", "b")]
        assert [handle.result(timeout=30).trees for handle in handles] == [20, 20]
    names = [name for name, _, _ in seen]
    assert names == sorted(names)
    assert ("a", 40, 40) in seen
    assert ("b", 40, 40) in seen


def test_a_failing_progress_callback_harms_nobody(lab: Any) -> None:
    """An exception in the caller's progress function does not stop the training."""

    def fails(done: int, total: int) -> None:
        raise RuntimeError

    with WorkerPool() as pool:
        assert pool.run(lab.job(), on_progress=fails).trees == 20


def test_typed_errors_keep_their_class_and_facts(lab: Any) -> None:
    """What the child refuses arrives as the same error class with the same sentence."""
    with WorkerPool() as pool:
        with pytest.raises(IncompatibleBaseError, match="asks for MAE"):
            pool.run(lab.fine_tune_job(loss="MAE"))
        with pytest.raises(Exception, match="9 samples, 10 needed") as caught:
            pool.run(lab.job(lab.demand()[:9]))
        assert (caught.value.found, caught.value.needed) == (9, 10)  # type: ignore[attr-defined]


def executors() -> list[Any]:
    """Return ways to carry jobs; a process pool is started by spawn, since forking a threaded process may hang."""
    return [
        pytest.param(lambda: ThreadPoolExecutor(1), id="threads"),
        pytest.param(lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")), id="processes"),
    ]


@pytest.mark.parametrize("make", executors())
def test_any_executor_can_carry_the_jobs(lab: Any, make: Callable[[], Executor]) -> None:
    """In somebody's executor a job trains, fails with its type, tells its progress and is cancelled."""
    seen: Seen = []
    fitting = threading.Event()
    with make() as executor, WorkerPool(executor=executor, grace=5.0) as pool:
        assert pool.run(lab.job()).trees == 20
        with pytest.raises(IncompatibleBaseError):
            pool.run(lab.fine_tune_job(loss="MAE"))
        handle = pool.submit(lab.job(iterations=ENDLESS), on_progress=recorder(seen, heard=fitting))
        assert fitting.wait(20)
        handle.cancel()
        with pytest.raises(TrainingCancelledError):
            handle.result(timeout=20)
    assert seen
    assert [path.name for path in lab.out.iterdir() if path.name.startswith(".job")] == []


def test_a_broken_executor_is_a_typed_failure(lab: Any) -> None:
    """Where the executor's own process dies, the job fails with a type and nobody waits for ever."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        WorkerPool(executor=executor) as pool,
    ):
        pid = executor.submit(os.getpid).result()
        handle = pool.submit(lab.job(iterations=ENDLESS))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TrainingFailedError):
            handle.result(timeout=20)
