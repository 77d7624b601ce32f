"""The daemon thread that blocking calls run on."""

import asyncio
import threading

import pytest

from demand_maint.errors import ClosedError
from demand_maint.side_thread import SideThread


async def test_calls_run_one_after_another_on_a_daemon_thread() -> None:
    """Calls keep their order, never overlap, and run on one daemon thread that is not the loop's."""
    thread = SideThread("t")
    seen: list[tuple[int, str, bool]] = []

    def note(i: int) -> int:
        seen.append((i, threading.current_thread().name, threading.current_thread().daemon))
        return i * i

    answers = await asyncio.gather(*(thread.run(note, i) for i in range(20)))
    assert answers == [i * i for i in range(20)]
    assert seen == [(i, "t", True) for i in range(20)]
    thread.close()
    assert await asyncio.to_thread(thread.join, 1.0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
async def test_what_would_end_the_loop_becomes_an_ordinary_error(error: BaseException) -> None:
    """SystemExit, KeyboardInterrupt and StopIteration of a call reach the waiter as a RuntimeError that names them."""
    thread = SideThread("t")

    def leave() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await thread.run(leave)
    assert await thread.run(lambda: 1) == 1
    thread.close()


async def test_an_idle_thread_ends_and_comes_back() -> None:
    """The thread ends after its idle time and a later call starts a new one."""
    thread = SideThread("t", idle_seconds=0.01)
    assert await thread.run(lambda: 1) == 1
    for _ in range(2000):
        if not thread.alive:
            break
        await asyncio.sleep(0.005)
    assert not thread.alive
    assert await thread.run(lambda: 2) == 2
    thread.close()


async def test_a_closed_thread_takes_no_calls() -> None:
    """After close() queued calls still end and new ones are refused."""
    thread = SideThread("t")
    gate = threading.Event()
    first, second = thread.run(gate.wait, 5.0), thread.run(lambda: 2)
    thread.close()
    with pytest.raises(ClosedError, match="'t'"):
        thread.run(lambda: 3)
    gate.set()
    assert (await first, await second) == (True, 2)


async def test_a_cancelled_waiter_forgets_the_outcome() -> None:
    """Cancelling the future neither stops the thread nor spoils the next call; a call that has not begun is left out."""
    thread = SideThread("t")
    gate = threading.Event()
    ran: list[int] = []
    running, queued = thread.run(gate.wait, 5.0), thread.run(ran.append, 1)
    running.cancel()
    queued.cancel()
    gate.set()
    assert await thread.run(lambda: 7) == 7
    assert ran == []
    thread.close()


def test_a_loop_that_is_gone_is_no_error() -> None:
    """A call that ends after its loop was closed is dropped in silence and the thread ends."""
    thread, gate = SideThread("t"), threading.Event()

    async def main() -> None:
        thread.run(gate.wait, 5.0)

    asyncio.run(main())
    gate.set()
    thread.close()
    assert thread.join(2.0)
