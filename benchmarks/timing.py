"""How the benchmarks measure: warmed, interleaved, the median of several rounds, the floor in the same process."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

ROUNDS = 9


def interleaved(
    work: dict[str, Callable[[int], None]],
    count: int,
    rounds: int = ROUNDS,
    between: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Nanoseconds per operation of each piece of work, round by round, so that a noisy moment hits all alike.

    `between` is called before each, outside the measured time: what a background thread would do.
    """
    for function in work.values():
        function(max(count // 10, 1))
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            between()
            begin = time.perf_counter_ns()
            function(count)
            found[name].append((time.perf_counter_ns() - begin) / count)
    return found


def median(values: Sequence[float]) -> float:
    """Median."""
    return statistics.median(values)


def ratio(values: Sequence[float], floor: Sequence[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(values, floor, strict=False))


def percentile(values: list[int], share: float) -> float:
    """Value below which `share` of the sorted values lie."""
    return float(values[min(int(len(values) * share), len(values) - 1)])


def arguments(description: str, **options: tuple[Any, str]) -> argparse.Namespace:
    """``--json`` and the benchmark's own options, each given as (default, help)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, (default, text) in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
    return parser.parse_args()


def show(title: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print(json.dumps({"benchmark": title, "rows": rows}))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    print(f"# {title}\n")
    print("| " + " | ".join(column.ljust(width) for column, width in zip(columns, widths, strict=True)) + " |")
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for line in cells:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return str(value)
