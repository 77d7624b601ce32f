"""A plain asyncio collector with maintenance attached: it goes on collecting while a child process trains.

Run it::

    python examples/asyncio_collector.py [--root DIR]

Prints::

    attached as leader, version 1 serves
    collected 5 car parks, maintenance: ...
    training started: fine_tune
    ... collections while the child trained, the slowest took ... ms
    outcome: ...
    left: the collector has its own model again: True
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
from car_parks import CarParks, chosen_root, make_root

from demand_maint import DemandFeatures, MaintenanceRuntime, TrainingStarted, load_config
from demand_maint.core.timegrid import TimeGrid


class Collector:
    """Somebody's own collector; all it has to have is `collect_for_all_venues` and `model`."""

    def __init__(self, parks: CarParks, features: DemandFeatures) -> None:
        self.model: Any = None
        self.monitor: Any = None
        self._parks = parks
        self._features = features

    async def collect_for_all_venues(self, venues: list[str]) -> dict[str, Any]:
        """Predict tomorrow's occupancy of each car park and log today's."""
        now = time.time()
        rows = self._features.rows(venues, [now + 86400.0] * len(venues))
        self.model.predict(rows, venues, np.full(len(venues), now + 86400.0))
        for venue in venues:
            cars = self._parks.occupancy(venue, now)
            if cars is not None:
                self.monitor.log_actual(venue, now, cars)
        await asyncio.sleep(0)
        return {"collected": len(venues)}


async def main(root: Path) -> None:
    parks = await asyncio.to_thread(make_root, root)
    config = await asyncio.to_thread(load_config, root)
    features = DemandFeatures(TimeGrid(config.zone, config.step_seconds), config.horizon_seconds)
    await asyncio.to_thread(features.observe_many, parks.history)
    collector = Collector(parks, features)
    async with MaintenanceRuntime.attach(collector, root=root) as runtime:
        print(f"attached as {runtime.role}, version {runtime.model.version} serves")

        @runtime.on(TrainingStarted)
        async def tell(event: TrainingStarted) -> None:
            print(f"training started: {event.kind}", flush=True)

        result = await collector.collect_for_all_venues(parks.venues)
        told = result["maintenance"] or {"status": "nothing new"}
        print(f"collected {result['collected']} car parks, maintenance: {told['status']}")
        update = asyncio.ensure_future(runtime.update_now("fine-tune"))
        rounds, slowest = 0, 0.0
        while not update.done():
            began = time.perf_counter()
            await collector.collect_for_all_venues(parks.venues)
            slowest = max(slowest, time.perf_counter() - began)
            rounds += 1
            await asyncio.sleep(0.01)
        outcome = await update
        print(f"{rounds} collections while the child trained, the slowest took {slowest * 1000:.1f} ms")
        print(f"outcome: {outcome['status']} ({outcome['reason']})")
    print(f"left: the collector has its own model again: {collector.model is None}")


if __name__ == "__main__":
    asyncio.run(main(chosen_root(__doc__)))
