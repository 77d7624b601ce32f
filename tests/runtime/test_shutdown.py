"""Back within the grace period and a second, whatever is going on, with nothing left behind."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demand_maint.errors import ClosedError

if TYPE_CHECKING:
    from tests.runtime.conftest import Stage
else:
    Stage = Any


def ours() -> list[str]:
    """Names of threads of ours that live."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("demand-maint"))


async def no_threads_left(stage: Stage) -> None:
    """Wait until every thread of ours has ended."""
    await stage.until(lambda: not ours(), 3.0)


@pytest.mark.parametrize("how", ["aclose", "cancel", "twice", "cancelled close"])
async def test_closing_during_a_training_cancels_it(stage: Stage, how: str) -> None:
    """However the host ends it, the training is asked to stop, all is written down, and no thread of ours is left."""
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])
    parts.script, parts.act = stage.training, parts.train_until_cancelled
    update = asyncio.ensure_future(runtime.update_now("fine-tune"))
    waiting = asyncio.ensure_future(runtime.update_now("full-retrain"))
    await stage.until(lambda: parts.named("perform"))
    began = time.monotonic()
    if how == "aclose":
        await runtime.aclose()
    elif how == "twice":
        await asyncio.gather(runtime.aclose(), runtime.aclose())
    elif how == "cancel":

        async def host() -> None:
            async with runtime:
                await asyncio.Event().wait()

        task = asyncio.ensure_future(host())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        closing = asyncio.ensure_future(runtime.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert time.monotonic() - began < 2.0
    assert runtime.closed
    assert parts.named("cancel")
    assert parts.calls[-1][0] == "close"
    assert (await update)["status"] == "cancelled"
    with pytest.raises(ClosedError, match="before this check began"):
        await waiting
    assert not [name for what, _, name in parts.calls[-1:] if what != "close"]
    await no_threads_left(stage)


async def test_a_step_that_does_not_end_is_left_behind_in_time(stage: Stage) -> None:
    """A step that ignores its cancellation cannot hold up the host: the rest is closed and the loop goes on."""
    release = threading.Event()
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])
    parts.script, parts.act = stage.training, lambda step: release.wait(20.0)
    update = asyncio.ensure_future(runtime.update_now("fine-tune"))
    await stage.until(lambda: parts.named("perform"))
    began = time.monotonic()
    await runtime.aclose()
    assert time.monotonic() - began < 2.0
    assert parts.closed
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await update
    await no_threads_left(stage)


@pytest.mark.parametrize("what", ["drain", "refresh", "publish", "close", "cancel"])
async def test_a_part_that_raises_while_closing_holds_up_nothing(stage: Stage, what: str) -> None:
    """An error in the last drain, in cancelling or in closing is logged; the rest is closed all the same."""
    runtime, parts = await stage.open()
    parts.fail[what] = OSError("disk gone")
    await runtime.aclose()
    assert runtime.closed
    await no_threads_left(stage)


async def test_a_drain_that_hangs_does_not_hang_the_host(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A dead disk under the upkeep thread: the loop stays free, closing gives up in time and says so."""
    release = threading.Event()
    runtime, parts = await stage.open()
    parts.drain = lambda: int(release.wait(20.0))  # type: ignore[method-assign] # a disk that does not answer
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await runtime.aclose()
    assert time.monotonic() - began < 2.3
    assert "upkeep did not end in time" in caplog.text or parts.closed
    release.set()
    await no_threads_left(stage)


async def test_closing_while_starting_waits_and_closes(stage: Stage) -> None:
    """aclose() right after start() began leaves nothing open."""
    runtime = stage.attach()
    starting = asyncio.ensure_future(runtime.start())
    await asyncio.sleep(0)
    await runtime.aclose()
    await asyncio.gather(starting, return_exceptions=True)
    await stage.until(lambda: all(parts.closed for parts in stage.parts))
    await no_threads_left(stage)


async def test_a_start_that_fails_leaves_nothing(stage: Stage) -> None:
    """Where the root cannot be opened the error reaches the host and no thread or lock stays."""

    def broken(parts: Any) -> None:
        raise OSError("read-only")

    stage.prepare = broken
    with pytest.raises(OSError, match="read-only"):
        async with stage.attach():
            pass
    await no_threads_left(stage)


async def test_hooks_get_their_last_events_and_a_hung_one_is_left(stage: Stage) -> None:
    """What was queued for quick hooks is delivered on closing; a hook that hangs costs at most the grace period."""
    runtime, parts = await stage.open()
    seen: list[Any] = []
    runtime.on()(seen.append)

    @runtime.on()
    async def hangs(event: Any) -> None:
        await asyncio.Event().wait()

    await stage.until(lambda: parts.named("finish"))
    await runtime.check_now()
    began = time.monotonic()
    await runtime.aclose()
    assert time.monotonic() - began < 2.0
    assert seen


def test_a_loop_that_ends_without_aclose_closes_all_the_same(made: Any) -> None:
    """asyncio.run cancels what is left: the runtime then closes its parts and ends its threads."""

    async def main() -> None:
        runtime = made.attach()
        await runtime.start()
        await asyncio.sleep(0.02)

    asyncio.run(main())
    assert made.parts[0].closed
    assert not [name for name in ours() if "upkeep" in name]


def test_a_forgotten_runtime_warns(made: Any) -> None:
    """A runtime that is dropped open is a ResourceWarning that says what to write."""
    loop = asyncio.new_event_loop()
    runtime = made.attach()
    loop.run_until_complete(runtime.start())
    live, runtime._live = runtime._live, None
    live.cancel()
    runtime._closing = None
    runtime._live = live
    with pytest.warns(ResourceWarning, match="never closed"):
        runtime.__del__()
    loop.run_until_complete(runtime.aclose())
    loop.close()
    gc.collect()


def test_an_interpreter_that_ends_writes_everything_down(tmp_path: Path) -> None:
    """A host that just ends (loop never closed, no aclose): the parts are closed at exit, quickly, by the process that owns them."""
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from conftest import Stage
        stage = Stage(Path(sys.argv[2]))
        def tell(parts):
            close = parts.close
            parts.close = lambda: (close(), print("closed in", "child" if os.getpid() != me else "owner", flush=True))
        me = os.getpid()
        stage.prepare = tell
        loop = asyncio.new_event_loop()
        runtime = stage.attach()
        loop.run_until_complete(runtime.start())
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        sys.exit(0)
        """
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["closed in owner"]
    assert time.monotonic() - began < 30
