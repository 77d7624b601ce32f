"""A small real root: hourly demand of three places and a first champion trained on it. Also run as a process of its own."""

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import polars as pl

from demand_maint.clock import Clock
from demand_maint.config import Config, PolicyConfig, RuntimeConfig, ServingConfig, TrainingConfig
from demand_maint.deploy_model import ModelDeployer
from demand_maint.model_monitor import ModelMonitor
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.train_model import FullRetrainer

START = 1_700_006_400.0
PLACES = (1, 2, 3)


def demand(place: int, at: float, level: float = 1.0) -> float:
    """Demand with a daily wave and a little noise that is the same each time it is asked."""
    hour = at / 3600
    noise = math.sin(hour * 12.9898 + place * 78.233) * 43758.5453 % 1.0
    return level * (20 + 10 * place + 8 * math.sin(hour / 24 * 2 * math.pi) + 2 * noise)


def settings(**policy: Any) -> Config:
    """Small trainings, quick polls."""
    return Config(
        training=TrainingConfig(full_iterations=40, fine_tune_iterations=20, full_depth=3),
        runtime=RuntimeConfig(grace_seconds=2.0),
        serving=ServingConfig(poll_seconds=0.1, serve=policy.pop("serve", "mixture")),
        policy=PolicyConfig(**policy),
    )


def plant(root: Path, config: Config, clock: Clock, days: int = 30) -> None:
    """Import history up to `START` and deploy a first champion trained on it."""
    history = pl.DataFrame(
        [(p, START - 3600.0 * h, demand(p, START - 3600.0 * h)) for h in range(days * 24, 0, -1) for p in PLACES],
        schema=["place_id", "timestamp", "actual"],
        orient="row",
    )
    with ModelMonitor(root, config, clock) as monitor:
        monitor.import_history(history)
        outcome = FullRetrainer(root, config, clock, monitor=monitor).retrain()
    done, message = ModelDeployer(root, config, clock).deploy(
        outcome.model_path, outcome.metadata_path, force=True, who="test"
    )
    assert done, message


async def _lead_until_killed(root: Path) -> None:
    async with MaintenanceRuntime.attach(root=root, config=settings()) as runtime:
        for _ in range(1000):
            if runtime.role == "leader":
                break
            await asyncio.sleep(0.01)
        sys.stdout.write(f"{runtime.role}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_lead_until_killed(Path(sys.argv[1])))
