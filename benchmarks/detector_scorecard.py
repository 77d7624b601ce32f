"""How many false alarms, and how soon a real shift is seen: our test beside what a user would pick instead.

Run ``python -m benchmarks.detector_scorecard [--full] [--json] [--skip-real]``. The small tier takes about half a minute and
uses 24 synthetic stream-years a row; ``--full`` uses 240, adds the shipped data (a champion fitted on the other blocks of it,
and champions never retrained; fitted once, then kept in the temporary folder), and takes some minutes. Every alarm on a stream without an injected
shift is false. After an alarm a detector starts anew, as after a retrain. Delays are in days of labels, 1 being the first.
"""

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.detector_feeds import feed_scores, week_scores
from benchmarks.detector_places import place_scores
from benchmarks.detector_streams import REFERENCE, Stream, aging_streams, crossfitted_streams, inject, synthetic
from demand_maint.core.baseline import LEAST_DAYS
from demand_maint.core.difficulty import log_error_against
from demand_maint.core.drift import DegradationTest

SHIFTS: dict[str, tuple[float, int]] = {
    "+15 %": (0.15, 0),
    "+30 %": (0.30, 0),
    "+60 %": (0.60, 0),
    "+100 %": (1.0, 0),
    "+30 % over 60 d": (0.30, 60),
}
#: What the issue asks of ours: stream kind -> (false alarms a year, {shift: (median delay, share within 30 days)}).
TARGETS: dict[str, tuple[float, dict[str, tuple[float, float]]]] = {
    "synthetic 500 rows": (1.2, {"+30 %": (6, 0.95), "+60 %": (3, 0.0)}),
    "synthetic 30 rows": (1.2, {"+30 %": (16, 0.88)}),
    "real bikes": (1.2, {"+30 %": (math.inf, 0.90), "+60 %": (6, 0.0)}),
    "real car parks, pooled": (1.2, {"+30 %": (math.inf, 0.90), "+60 %": (6, 0.0)}),
}
WARN_TARGET = ("synthetic 500 rows", "+15 %", 15)
Alarms = Callable[[Stream], list[int]]


def ours(grade: str, *, floor: float | None = None) -> Alarms:
    """Our test; with `floor` an alarm also needs that degradation over 7 days, as the rules do."""

    def alarms(stream: Stream) -> list[int]:
        values = log_error_against(stream.error, stream.naive, stream.level)
        past = np.sort(values[:REFERENCE][np.isfinite(values[:REFERENCE])])
        kept = past[1:-1] if len(past) > LEAST_DAYS else past
        centre = float(kept.mean())
        spread = 1.2533 * float(np.abs(past - centre).mean())
        test = DegradationTest(centre=centre, centre_days=len(past), scale=spread, scale_days=len(past))
        skill = np.nansum(stream.error[:REFERENCE]) / np.nansum(stream.naive[:REFERENCE])
        found = []
        for day, value in enumerate(values[REFERENCE:].tolist()):
            test.update(value)
            if not (test.drift_detected if grade == "retrain" else test.warning_detected):
                continue
            window = slice(REFERENCE + day - 6, REFERENCE + day + 1)
            both = np.isfinite(stream.error[window]) & np.isfinite(stream.naive[window])
            own, naive = stream.error[window][both].sum(), stream.naive[window][both].sum()
            if floor is None or (naive > 0 and own / naive / skill - 1 > floor):
                found.append(day)
                test.rearm()
        return found

    return alarms


def raw_threshold(limit: float) -> Alarms:
    """Return the user's document: 7-day error against a fixed baseline; a week's pause after an alarm, as after a retrain."""

    def alarms(stream: Stream) -> list[int]:
        baseline = np.nanmean(stream.error[:REFERENCE])
        found: list[int] = []
        for day in range(len(stream.error) - REFERENCE):
            window = stream.error[REFERENCE + day - 6 : REFERENCE + day + 1]
            known = window[np.isfinite(window)]
            if len(known) and known.mean() / baseline - 1 > limit and (not found or day - found[-1] >= 7):
                found.append(day)
        return found

    return alarms


def river(name: str) -> Alarms:
    """Return River's detector on the raw daily error over its baseline, changes for the worse only."""

    def alarms(stream: Stream) -> list[int]:
        from river.drift import ADWIN, PageHinkley

        make: Callable[[], Any] = (
            (lambda: ADWIN(delta=0.002, clock=1, grace_period=10, min_window_length=5))
            if name == "adwin"
            else (lambda: PageHinkley(min_instances=7, delta=0.05, threshold=3.0, alpha=1.0, mode="up"))
        )
        scaled = stream.error / np.nanmean(stream.error[:REFERENCE])
        detector, found = make(), []
        for day, value in enumerate(scaled.tolist()):
            if math.isnan(value):
                continue
            before = getattr(detector, "estimation", 0.0)
            detector.update(value)
            worse = name != "adwin" or detector.estimation > before
            if detector.drift_detected and worse and day >= REFERENCE:
                found.append(day - REFERENCE)
        return found

    return alarms


DETECTORS: dict[str, Alarms] = {
    "always fire": lambda stream: list(range(len(stream.error) - REFERENCE)),
    "never fire": lambda _: [],
    "raw 7 d > 15 %": raw_threshold(0.15),
    "raw 7 d > 25 %": raw_threshold(0.25),
    "River ADWIN, raw": river("adwin"),
    "River Page-Hinkley, raw": river("page-hinkley"),
    "ours, warn": ours("warn"),
    "ours, retrain": ours("retrain"),
    "ours, retrain and floor 25 %": ours("retrain", floor=0.25),
}


def score(detector: Alarms, streams: Sequence[Stream], repeats: int, shifts: Sequence[str]) -> dict[str, Any]:
    """Return false alarms a year on `streams`, and per shift the median delay and the share found within 30 days."""
    years = sum(stream.years for stream in streams)
    row: dict[str, Any] = {"stream_years": years, "false_a_year": sum(len(detector(s)) for s in streams) / years}
    rng = np.random.default_rng(11)
    for shift in shifts:
        effect, ramp = SHIFTS[shift]
        delays = []
        for stream in streams:
            room = len(stream.error) - REFERENCE
            for _ in range(repeats):
                day = int(rng.integers(min(60, room // 4), max(room - max(30, 2 * ramp), room // 4 + 1)))
                after = [alarm - day + 1 for alarm in detector(inject(stream, day, effect, ramp)) if alarm >= day]
                delays.append(after[0] if after else math.inf)
        row[shift] = (float(np.median(delays)), float(np.mean(np.array(delays) <= 30)))
    return row


def stream_sets(*, full: bool, real: bool) -> Iterator[tuple[str, list[Stream], int]]:
    """Kinds of streams, the streams, and how often a shift is injected into each."""
    for rows in (500, 30):
        count = 60 if full else 6
        streams = [
            stream
            for persistence in (0.6, 0.0)
            for stream in synthetic(count, 730, rows, persistence=persistence, seed=rows + int(10 * persistence))
        ]
        yield f"synthetic {rows} rows", streams, 1
    if not real:
        return
    streams = crossfitted_streams()
    for kind in ("real bikes", "real car parks, pooled"):
        yield kind, [stream for stream in streams if stream.kind == kind], 8 if kind == "real bikes" else 10
    yield "real bikes, never retrained", aging_streams(), 2


def misses(kind: str, row: dict[str, Any]) -> list[str]:
    """Say by how much `row` of ours falls short of what was asked."""
    if kind not in TARGETS:
        return []
    most, wanted = TARGETS[kind]
    found = []
    if row["false_a_year"] > most:
        found.append(f"{kind}: {row['false_a_year']:.2f} false alarms a year, at most {most} wanted")
    for shift, (delay, share) in wanted.items():
        got_delay, got_share = row[shift]
        if got_delay > delay:
            found.append(f"{kind}, {shift}: median {got_delay:g} days, at most {delay:g} wanted")
        if got_share < share:
            found.append(f"{kind}, {shift}: {100 * got_share:.0f} % within 30 days, {100 * share:.0f} % wanted")
    return found


def run(*, full: bool, real: bool) -> dict[str, Any]:
    """Compute the whole scorecard."""
    result: dict[str, Any] = {"streams": {}, "misses": []}
    shifts = list(SHIFTS) if full else ["+15 %", "+30 %", "+60 %"]
    for kind, streams, repeats in stream_sets(full=full, real=real):
        rows = {name: score(detector, streams, repeats, shifts) for name, detector in DETECTORS.items()}
        result["streams"][kind] = rows
        result["misses"] += misses(kind, rows["ours, retrain"])
        if kind == WARN_TARGET[0] and rows["ours, warn"][WARN_TARGET[1]][0] > WARN_TARGET[2]:
            result["misses"].append(
                f"{kind}, {WARN_TARGET[1]}: warned after a median of {rows['ours, warn'][WARN_TARGET[1]][0]:g} days"
            )
    result["places"] = place_scores(full=full)
    result["feeds"] = feed_scores(full=full)
    result["weeks"] = week_scores(full=full)
    result["misses"] += [miss for part in ("places", "feeds", "weeks") for miss in result[part].pop("misses")]
    return result


def _shown(result: dict[str, Any]) -> None:
    for kind, rows in result["streams"].items():
        years = next(iter(rows.values()))["stream_years"]
        shifts = [key for key in next(iter(rows.values())) if key in SHIFTS]
        print(f"\n{kind} ({years:.0f} stream-years): median delay in days / share found within 30 days")
        print(f"{'detector':30}{'false/year':>11}" + "".join(f"{shift:>17}" for shift in shifts))
        for name, row in rows.items():
            cells = "".join(f"{_days(row[s][0]):>9} /{100 * row[s][1]:4.0f} %" for s in shifts)
            print(f"{name:30}{row['false_a_year']:>11.2f}{cells}")
    for part in ("places", "feeds", "weeks"):
        print(f"\n{part}")
        for key, value in result[part].items():
            print(f"  {key}: {value:.3g}" if isinstance(value, float) else f"  {key}: {value}")
    print("\nfalls short of what was asked:" if result["misses"] else "\nnothing falls short of what was asked")
    for miss in result["misses"]:
        print(f"  {miss}")


def _days(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="240 stream-years a row, and the shipped data")
    parser.add_argument("--skip-real", action="store_true", help="without the shipped data also in the full tier")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = run(full=options.full, real=options.full and not options.skip_real)
    if options.json:
        print(json.dumps(result, default=float))
    else:
        _shown(result)


if __name__ == "__main__":
    main()
