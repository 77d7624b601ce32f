"""Where the rows of a training come from in a cycle: gathered in this process, or in a child that a host's loop does not feel.

Reading the recorded rows, building their features and writing them down takes as long as there are rows, with the interpreter
held for part of it. A one-shot command does it in place; beside a loop a child does, which opens the root as a follower does and
never leads. The job that comes out is the same: it depends on what is on disk and on the time it was asked for.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.registry import Registry
from demand_maint._training.backend import FitControl
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import GatherJob
from demand_maint._training.worker import main
from demand_maint.clock import Clock, StoppedClock
from demand_maint.config import Config
from demand_maint.core.cycle import Train
from demand_maint.core.jobs import TrainingJob
from demand_maint.fine_tune_model import prepare_from_monitor
from demand_maint.model_monitor import ModelMonitor
from demand_maint.train_model import FullRetrainer

__all__ = ["Gather", "gather_here", "gather_in_child"]

Gather = Callable[[Train], TrainingJob]


def gather_here(
    root: Path, config: Config, clock: Clock, monitor: ModelMonitor, registry: Registry | None = None
) -> Gather:
    """Gather from `monitor`, which has the recent rows in memory, for a model of `registry`, which remembers what it read."""

    def gather(step: Train) -> TrainingJob:
        if step.kind == "full":
            trainer = FullRetrainer(root, config, clock, monitor=monitor, registry=registry)
            return trainer.prepare(train_until=step.train_until, validation=None if step.measured else 0.0)
        return prepare_from_monitor(
            config.training.fine_tune_days,
            config.policy.min_samples,
            root,
            config=config,
            clock=clock,
            monitor=monitor,
            registry=registry,
            train_until=step.train_until,
        )

    return gather


def gather_in_child(root: Path, config: Config, clock: Clock, pool: WorkerPool) -> Gather:
    """Gather in a child of `pool`; everything that was logged is seen there, since the journal is on disk."""
    training = config.training

    def gather(step: Train) -> TrainingJob:
        job = GatherJob(
            root=str(root),
            config=msgspec.to_builtins(config),
            now=clock.now(),
            step=msgspec.to_builtins(step),
            output_directory=str(root),
            deadline_seconds=training.deadline_seconds,
            memory_megabytes=training.memory_megabytes,
            threads=training.threads,
            nice=training.nice,
        )
        return pool.run(job)

    return gather


def _gather(told: dict[str, Any], _control: FitControl) -> Any:
    job = msgspec.convert(told, GatherJob)
    root, config, clock = Path(job.root), msgspec.convert(job.config, Config), StoppedClock(job.now)
    never_led = MaintainerLock(Door(root), who="gathering", clock=clock)
    with ModelMonitor(root, config, clock, lock=never_led) as monitor:
        return gather_here(root, config, clock, monitor)(msgspec.convert(job.step, Train))


if __name__ == "__main__":
    sys.exit(main({"gather": _gather}))
