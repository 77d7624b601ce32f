"""A worker whose job misbehaves in the way its name says; started by the tests in place of the real one."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from demand_maint._training.worker import main

HANGS = 3600.0


def segfault(job: Any, control: Any) -> Any:
    """Read address zero."""
    ctypes.string_at(0)


def abort(job: Any, control: Any) -> Any:
    """Call abort."""
    os.abort()


def killed(job: Any, control: Any) -> Any:
    """Die by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def exits(job: Any, control: Any) -> Any:
    """Leave with a status and last words."""
    sys.stderr.write("giving up: the moon is wrong\n")
    sys.stderr.flush()
    os._exit(3)


def exits_well(job: Any, control: Any) -> Any:
    """Leave with status 0 and no answer."""
    os._exit(0)


def system_exit(job: Any, control: Any) -> Any:
    """Raise SystemExit."""
    raise SystemExit(5)


def hangs(job: Any, control: Any) -> Any:
    """Ignore every polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(HANGS)


def hangs_with_the_lock(job: Any, control: Any) -> Any:
    """Sleep with the interpreter lock held: not even the watchdog thread runs."""
    ctypes.PyDLL(None).sleep(int(HANGS))


def hangs_without_answers(job: Any, control: Any) -> Any:
    """Close the pipe of the answers, then hang."""
    for descriptor in range(3, 32):
        try:
            os.close(descriptor)
        except OSError:
            continue
    time.sleep(HANGS)


def stopped(job: Any, control: Any) -> Any:
    """Stop like a debugged process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def garbage(job: Any, control: Any) -> Any:
    """Answer with another shape."""
    return {"model_path": 5}


def unserializable(job: Any, control: Any) -> Any:
    """Answer with something that is no value."""
    return threading.Lock()


def tells_its_place(job: Any, control: Any) -> Any:
    """Say where the scheduler has it."""
    sys.stderr.write(
        f"session {os.getsid(0)} leads {os.getpgid(0) == os.getpid()} idle {os.sched_getscheduler(0) == os.SCHED_IDLE}\n"
    )
    sys.stderr.flush()
    os._exit(3)


def lies_on_stdout(job: Any, control: Any) -> Any:
    """Imitate an answer where user code prints."""
    sys.stdout.write("\x01demand-maint {broken json\n")
    sys.stdout.flush()
    os.write(1, b'\x01demand-maint {"answer": {"trees": 1}}\n')
    os._exit(0)


def floods_stdout(job: Any, control: Any) -> Any:
    """Write 200 MB to stdout."""
    line = b"x" * 65536
    for _ in range(3000):
        os.write(1, line)
    raise RuntimeError("after the flood")


def floods_stderr(job: Any, control: Any) -> Any:
    """Write 3 MB to stderr."""
    for number in range(3000):
        os.write(2, b"%d " % number + b"y" * 1000 + b"\n")
    os.write(2, b"the last line\n")
    os._exit(4)


def grabs_memory(job: Any, control: Any) -> Any:
    """Take memory step by step."""
    held = []
    while True:
        held.append(bytearray(8 << 20))
        held[-1][::4096] = b"z" * len(held[-1][::4096])
        time.sleep(0.002)


def grabs_memory_with_the_lock(job: Any, control: Any) -> Any:
    """Take memory at once, with the interpreter lock held."""
    libc = ctypes.PyDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(700 << 20))
    libc.memset(ctypes.c_void_p(block), 1, ctypes.c_size_t(700 << 20))
    libc.sleep(int(HANGS))


def leaves_a_child(job: Any, control: Any) -> Any:
    """Leave a child of its own behind."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    sys.stderr.write(f"grandchild {other.pid}\n")
    sys.stderr.flush()
    os._exit(6)


def odd_error(job: Any, control: Any) -> Any:
    """Raise an exception that can be neither pickled nor encoded."""

    class OddError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("odd")

        def __str__(self) -> str:
            return "\ud800 odd \x00"

    raise OddError(1, 2)


if __name__ == "__main__":
    way = sys.argv[1]
    sys.exit(main(dict.fromkeys(("train", "inspect", "evaluate", "gather"), globals()[way])))
