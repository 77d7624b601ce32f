"""A process that logs for a living, so that others can kill it: forked from a warm parent, its acknowledgements in shared memory.

Operation 2 i predicts key i; operation 2 i + 1 tells the truth of key i - LAG; every `RARE`-th prediction comes with those of
`MANY` more places, in a block large enough for a call of its own. Whatever an operation logs follows from its number.
"""

import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

from demand_maint._storage.disk import Disk
from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor

PLACES = 7
LAG = 40
RARE = 301
MANY = 2_500
START = 1_700_000_000 // 3600 * 3600
STEP = 60
CONFIG = Config(step="1m", monitor=MonitorConfig(segment_records=256, fsync_seconds=0.02))
_ACK = struct.Struct("@q")


def key_of(i: int) -> tuple[int, float]:
    """Place and time of key i."""
    return i % PLACES, float(START + i // PLACES * STEP)


def operate(monitor: ModelMonitor, number: int) -> None:
    """Log what operation `number` logs."""
    i, truth = divmod(number, 2)
    if not truth:
        place, at = key_of(i)
        if i % RARE == 7:
            codes, _ = monitor.journal.encode([place, *range(PLACES, PLACES + MANY)])
            monitor.journal.log_columns(codes, np.full(1 + MANY, at), np.full(1 + MANY, float(i)), None)
        elif i % 3 == 0:
            monitor.log_prediction(place, at, float(i), (float(i), 2.0))
        else:
            monitor.log_prediction(place, at, float(i))
    elif i >= LAG:
        place, at = key_of(i - LAG)
        monitor.log_actual(place, at, float(2 * (i - LAG)))


def live(root: str, acknowledged: mmap.mmap) -> None:
    """Log until killed; the page cache outlives a process, so nothing waits for the platter."""
    Disk.sync = lambda self, descriptor: None  # type: ignore[method-assign]  # a child of its own
    Disk.sync_dir = lambda self, path: None  # type: ignore[method-assign]  # as above
    monitor = ModelMonitor(root, CONFIG)
    shared = memoryview(acknowledged).cast("q")  # one store; `pack_into` would clear the number before it writes it
    number = shared[0]
    while True:
        operate(monitor, number)
        number += 1
        shared[0] = number


def main() -> None:
    """Fork one life per line of input (``<root> <milliseconds>``), kill it, and print what it had acknowledged."""
    for line in sys.stdin:
        root, milliseconds = line.split()
        shared = mmap.mmap(-1, 8)
        ack_file = Path(root) / "acknowledged"
        if ack_file.exists():
            _ACK.pack_into(shared, 0, int(ack_file.read_text()))
        child = os.fork()
        if child == 0:
            try:
                live(root, shared)
            finally:
                os._exit(1)
        time.sleep(float(milliseconds) / 1000)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        acknowledged = _ACK.unpack_from(shared, 0)[0]
        ack_file.write_text(str(acknowledged))
        sys.stdout.write(f"{acknowledged} {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
