"""Alerts of your own: an async hook, a webhook to a chat, and a hook that crashes and harms nobody.

Demand is lived through in virtual time: four weeks as ever, then half as many cars again; nobody retrains (``advise``).

Run it::

    python examples/custom_alert_hook.py [--root DIR]

Prints::

    attached; nobody is called for a healthy model
    PAGE: ..., the error is ... times what was to be expected
    the chat received: DriftDetected ...
    hook crashes failed, and the others were served
"""

import asyncio
import http.server
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
from car_parks import STEP, CarParks, chosen_root, make_root

from demand_maint import CheckCompleted, DemandFeatures, DriftDetected, HookFailed, MaintenanceRuntime, load_config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.hooks import webhook
from demand_maint.testing import VirtualClock

NOW = time.time() // STEP * STEP  # virtual time goes on from here
DAY = 86400.0


class Chat(http.server.ThreadingHTTPServer):
    """Stands for a chat service: remembers what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def live(
    runtime: MaintenanceRuntime, parks: CarParks, features: DemandFeatures, clock: VirtualClock, days: int, level: float
) -> None:
    """Predict each half hour a day ahead and log what happens, for some days; blocks."""
    for _ in range(int(days * DAY / STEP)):
        clock.advance(STEP)
        now = clock.now()
        there = [(place, cars) for place in parks.venues if (cars := parks.occupancy(place, now)) is not None]
        if not there:
            continue
        places = [place for place, _ in there]
        runtime.model.predict(features.rows(places, [now + DAY] * len(places)), places, [now + DAY] * len(places))
        for place, cars in there:
            runtime.monitor.log_actual(place, now, cars * level)
            features.observe(place, now, cars)  # the builder goes on as if nothing had happened
    runtime.monitor.drain()


async def main(root: Path) -> None:
    parks = await asyncio.to_thread(make_root, root, NOW)
    config = await asyncio.to_thread(load_config, root)
    clock = VirtualClock(NOW)
    features = DemandFeatures(TimeGrid(config.zone, config.step_seconds), config.horizon_seconds)
    await asyncio.to_thread(features.observe_many, parks.history.filter(pl.col("timestamp") < NOW))
    chat = Chat()
    threading.Thread(target=chat.serve_forever, daemon=True).start()
    os.environ["no_proxy"] = "127.0.0.1"
    policy = {
        "promotion": "gate",
        "method": "raw",  # the plain rule over 7 days, with thresholds of one's own: twice the error is worth a call
        "sequential_test": False,
        "suggest_degradation": 1.0,
        "critical_degradation": 1.5,
    }
    settings: dict[str, Any] = {"runtime": {"mode": "advise"}, "policy": policy}
    async with MaintenanceRuntime.attach(root=root, config=settings, clock=clock) as runtime:

        @runtime.on(DriftDetected)
        async def page_someone(event: DriftDetected) -> None:
            print(
                f"PAGE: {event.status}, the error is {(event.mae or 0) / (event.baseline_mae or 1):.1f} times what was to be expected"
            )

        @runtime.on(CheckCompleted)
        def crashes(event: CheckCompleted) -> None:
            raise SystemExit(f"a hook of poor quality cannot take {event.result['status']}")

        failures: list[HookFailed] = []
        runtime.on(HookFailed)(failures.append)
        url = f"http://127.0.0.1:{chat.server_port}/"
        runtime.on(DriftDetected)(webhook(url, body=lambda event: {"text": f"{type(event).__name__} {event.status}"}))

        await asyncio.to_thread(live, runtime, parks, features, clock, 28, 1.0)
        await runtime.check_now()
        print("attached; nobody is called for a healthy model" if not chat.messages else "a false alarm")
        await asyncio.to_thread(live, runtime, parks, features, clock, 14, 1.5)
        await runtime.check_now()
        await runtime.hooks.drain(10.0)
        for message in chat.messages:
            print(f"the chat received: {message}")
        print(f"hook {failures[0].hook.rpartition('.')[2]} failed, and the others were served")
    chat.shutdown()
    chat.server_close()


if __name__ == "__main__":
    asyncio.run(main(chosen_root(__doc__)))
