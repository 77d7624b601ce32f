"""A FastAPI service with maintenance in its lifespan: requests are in flight while a deploy lands, and none notices.

Run the service::

    DEMAND_ROOT=DIR uvicorn --app-dir examples fastapi_app:app

or the whole show, which starts a uvicorn process of its own, asks it without pause, and deploys meanwhile::

    python examples/fastapi_app.py [--root DIR]

Prints::

    serving version 1
    deployed version ...
    ... requests, 0 failed, versions 1 then ..., slowest ... ms
    the service has ended; its root is free and serves version ...
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from car_parks import chosen_root, make_root
from fastapi import FastAPI
from pydantic import BaseModel

from demand_maint import MaintenanceRuntime, ModelDeployer

runtime = MaintenanceRuntime.attach(root=os.environ.get("DEMAND_ROOT", "."))
app = FastAPI(lifespan=runtime.lifespan)


class Question(BaseModel):
    """A car park, a time, and the features of that moment."""

    place_id: str
    timestamp: float
    features: dict[str, float]


class Truth(BaseModel):
    """How many cars there were."""

    place_id: str
    timestamp: float
    actual: float


@app.post("/predict")
async def predict(question: Question) -> dict[str, Any]:
    """Predict; the row is journalled in the same call."""
    answer = runtime.model.predict_detailed([question.features], [question.place_id], [question.timestamp])
    return {"demand": float(answer.values[0]), "version": answer.version}


@app.post("/actual", status_code=204)
async def actual(truth: Truth) -> None:
    """Log what happened."""
    runtime.monitor.log_actual(truth.place_id, truth.timestamp, truth.actual)


@app.get("/status")
async def status() -> dict[str, Any]:
    """How maintenance is doing."""
    return runtime.status()


class Client:
    """Enough of HTTP to ask over one connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Send JSON, receive JSON; anything but 200 is an error."""
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        line = await self._reader.readline()
        length = 0
        while (header := await self._reader.readline()).strip():
            name, _, value = header.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        answer = await self._reader.readexactly(length)
        if b" 200 " not in line:
            raise ConnectionError(f"{line!r} {answer!r}")
        return dict(json.loads(answer))


async def listening(port: int, service: asyncio.subprocess.Process, seconds: float = 60.0) -> None:
    """Wait until the service takes connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and service.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise TimeoutError("the service did not start")


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("it never came true")


def free_port() -> int:
    """Return a port nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redeploy(root: Path) -> str:
    """Deploy the champion's own file once more, under a new version number, as an operator would from another shell."""
    deployer = ModelDeployer(root)
    folder = root / f"data/models/archive/{deployer.registry.champion().champion:06d}"
    done, message = deployer.deploy(folder / "model.cbm", folder / "metadata.json", force=True, who="example")
    if not done:
        raise SystemExit(message)
    return message


async def main(root: Path) -> None:
    parks = await asyncio.to_thread(make_root, root)
    port = free_port()
    here = str(Path(__file__).parent)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        here,
        "fastapi_app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    service = await asyncio.create_subprocess_exec(*command, env=os.environ | {"DEMAND_ROOT": str(root)})
    seen: list[int] = []
    failed, slowest, stop = 0, 0.0, False
    try:
        await listening(port, service)
        features = await asyncio.to_thread(features_of, root)

        async def ask(place: str) -> None:
            nonlocal failed, slowest
            async with Client(port) as client:
                while not stop:
                    began = time.perf_counter()
                    try:
                        answer = await client.post(
                            "/predict", {"place_id": place, "timestamp": time.time(), "features": features}
                        )
                        seen.append(answer["version"])
                    except ConnectionError as error:
                        failed += 1
                        print(error)
                    slowest = max(slowest, time.perf_counter() - began)

        asking = [asyncio.ensure_future(ask(place)) for place in parks.venues]
        await until(lambda: len(seen) >= 100)
        first = seen[-1]
        print(f"serving version {first}")
        await asyncio.to_thread(redeploy, root)
        await until(lambda: seen[-1] != first)
        print(f"deployed version {seen[-1]}")
        after = len(seen)
        await until(lambda: len(seen) >= after + 100)
        stop = True
        await asyncio.gather(*asking)
        order = " then ".join(map(str, dict.fromkeys(seen)))
        print(f"{len(seen)} requests, {failed} failed, versions {order}, slowest {slowest * 1000:.0f} ms")
    finally:
        if service.returncode is None:
            service.terminate()
            await service.wait()
    async with MaintenanceRuntime.attach(root=root) as afterwards:
        await until(lambda: afterwards.role == "leader")
        print(f"the service has ended; its root is free and serves version {afterwards.model.version}")


def features_of(root: Path) -> dict[str, float]:
    """Return a row of the champion's features."""
    registry = ModelDeployer(root).registry
    return dict.fromkeys(registry.version(registry.champion().champion).metadata.features, 1.0)


if __name__ == "__main__":
    asyncio.run(main(chosen_root(__doc__)))
