"""How long starting takes over a bare interpreter: ``python -m benchmarks.import_time [--json]``.

Each command runs in a process of its own, in turn with a bare interpreter; figures are medians of the differences. Goals:
``import demand_maint`` 30 ms and no third-party package loaded, ``demand-maint --help`` 100 ms, ``demand-maint status`` 500 ms on
a root with a champion.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.planted import plant
from benchmarks.timing import arguments, median, show

ENTRY = "import sys; from demand_maint.cli import main; sys.exit(main(sys.argv[1:]))"


def milliseconds(command: list[str]) -> float:
    """Wall time of a process."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1000


def third_party(statement: str) -> list[str]:
    """Top-level packages outside the standard library that `statement` loads."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*sorted({{m.partition('.')[0] for m in set(sys.modules) - before}} - set(sys.stdlib_module_names)))"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return [name for name in printed.split() if name != "demand_maint"]


def measure(rounds: int) -> list[dict[str, Any]]:
    """Run everything in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plant(root)
        commands = {
            "bare interpreter": [sys.executable, "-c", "pass"],
            "import demand_maint": [sys.executable, "-c", "import demand_maint"],
            "demand-maint --help": [sys.executable, "-c", ENTRY, "--help"],
            "demand-maint status": [sys.executable, "-c", ENTRY, "status", "--root", str(root)],
        }
        goals = {"import demand_maint": 30.0, "demand-maint --help": 100.0, "demand-maint status": 500.0}
        found: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():
            milliseconds(command)
        for _ in range(rounds):
            for name, command in commands.items():
                found[name].append(milliseconds(command))
    bare = found["bare interpreter"]
    rows: list[dict[str, Any]] = [{"command": "bare interpreter", "ms": round(median(bare), 1)}]
    for name, goal in goals.items():
        over = median([a - b for a, b in zip(found[name], bare, strict=True)])
        rows.append(
            {
                "command": name,
                "ms": round(median(found[name]), 1),
                "over_bare_ms": round(over, 1),
                "goal_ms": goal,
                "met": over <= goal,
            }
        )
    loaded = third_party("import demand_maint")
    rows.append({"command": "third-party packages loaded by import demand_maint", "ms": len(loaded), "met": not loaded})
    return rows


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", rounds=(11, "processes of each kind"))
    show("import_time", measure(options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()
