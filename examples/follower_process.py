"""Two processes on one root: one maintains, the other follows, and takes over when the first is killed.

Run it::

    python examples/follower_process.py [--root DIR]

Prints::

    the other process leads (pid ...), this one is a follower of version 1
    follower: version ... serves, deployed by another process
    killed the leader; this process leads after ... ms
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from car_parks import chosen_root, make_root
from fastapi_app import redeploy, until

from demand_maint import MaintenanceRuntime, ModelDeployed


async def lead(root: Path) -> None:
    """Maintain until killed."""
    async with MaintenanceRuntime.attach(root=root) as runtime:
        await until(lambda: runtime.role == "leader")
        print("leading", flush=True)
        await asyncio.Event().wait()


async def main(root: Path) -> None:
    await asyncio.to_thread(make_root, root)
    command = [sys.executable, __file__, "--root", str(root), "--lead"]
    leader = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert leader.stdout is not None
    try:
        await leader.stdout.readline()
        async with MaintenanceRuntime.attach(root=root) as runtime:
            await follow(runtime, leader, root)
    finally:
        if leader.returncode is None:
            leader.kill()
            await leader.wait()


async def follow(runtime: MaintenanceRuntime, leader: asyncio.subprocess.Process, root: Path) -> None:
    """See a deploy of somebody else, then take over."""
    print(
        f"the other process leads (pid {leader.pid}), this one is a {runtime.role} of version {runtime.model.version}"
    )
    swapped = asyncio.Event()

    @runtime.on(ModelDeployed)
    async def tell(event: ModelDeployed) -> None:
        print(f"{runtime.role}: version {event.version} serves, deployed by another process")
        swapped.set()

    await asyncio.to_thread(redeploy, root)
    await swapped.wait()
    leader.kill()
    await leader.wait()
    began = time.perf_counter()
    await until(lambda: runtime.role == "leader")
    print(f"killed the leader; this process leads after {(time.perf_counter() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    asyncio.run(lead(chosen_root(__doc__)) if "--lead" in sys.argv else main(chosen_root(__doc__)))
