"""How many false alarms, and how soon a real shift is seen: our test beside what a user would pick instead.

Run ``python -m benchmarks.detector_scorecard [--full] [--json] [--skip-real] [--costs]``. The small tier takes about half a
minute and uses 24 synthetic stream-years a row; ``--full`` uses 240, adds the shipped data (a champion fitted on the other
blocks of it, and champions never retrained; fitted once, then kept in the temporary folder), and takes some minutes. Every
alarm on a stream without an injected shift is false. After an alarm a detector starts anew, as after a retrain. Delays are in
days of labels, 1 being the first. ``--costs`` prints what an update and a check cost instead.

*J* is Youden's index for 30 days: the share of +30 % shifts found in them, less the share of 30 days in which the same alarms
come without a shift (from the rate, as if they came at random). Always and never firing both have 0.

Rivals are tuned stream by stream, which is more than our test is given, and to one setting for all real streams together. Where a
stream is too short to tell a rate of false alarms, only the latter says anything; shifts are then found within 30 days or in what
is left of the stream.

*oracle* is a bound: a test that knows in hindsight where the stream stands, its noise and the size of the shift, one for each
shift, at the same budget of false alarms (those shown are of the one for +30 %).
"""

import argparse
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.detector_costs import print_costs
from benchmarks.detector_feeds import feed_scores, week_scores
from benchmarks.detector_oracle import oracle
from benchmarks.detector_places import place_scores
from benchmarks.detector_rivals import BUDGET, RIVALS, TUNED_RIVALS, Alarms, Family, tuned
from benchmarks.detector_streams import (
    REFERENCE,
    Stream,
    aging_streams,
    crossfitted_streams,
    daily_figures,
    inject,
    synthetic,
    week_ahead_streams,
)
from demand_maint.core.baseline import FIRST_DAYS
from demand_maint.core.difficulty import usual_and_spread
from demand_maint.core.drift import DegradationTest
from demand_maint.core.view import Floats

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
    "real bikes, held out": (1.2, {"+30 %": (math.inf, 0.90), "+60 %": (6, 0.0)}),
    "real bikes, a week ahead": (1.2, {"+30 %": (math.inf, 0.90), "+60 %": (6, 0.0)}),
    "real car parks, pooled": (1.2, {"+30 %": (math.inf, 0.90), "+60 %": (6, 0.0)}),
}
#: The same choice for ours: what a user asks for, tried until the budget is kept; not what the targets are held against.
OURS_TUNED: dict[str, Family] = {
    "ours, retrain, tuned": (lambda rate: ours("retrain", per_year=rate), (4.0, 3.0, 2.5, 2.0, 1.7, 1.4, 1.2, 1.0))
}
#: Stream-years from which a rate of false alarms means something.
LEAST_YEARS = 1.0
#: What the name of a rival tells that is tuned on all real streams.
TOGETHER = "all real"
#: The first so many pieces of the bikes had a say in what our test is.
CHOSEN_ON = 3
#: Real streams that are in control, each counted once.
ALL_REAL = ("real bikes", "real bikes, a week ahead", "real car parks, pooled")
WARN_TARGET = ("synthetic 500 rows", "+15 %", 15)


def ours(grade: str, *, floor: float | None = None, per_year: float = 1.0) -> Alarms:
    """Our test; with `floor` an alarm also needs that degradation over 7 days, as the rules do.

    Parameters
    ----------
    per_year
        What a user sets as `max_false_retrains_per_year`.
    """

    def alarms(stream: Stream) -> list[int]:
        values = daily_figures(stream)
        past = _reference(stream, values[:REFERENCE])
        centre, spread = usual_and_spread(past)
        test = DegradationTest(per_year, centre=centre, centre_days=len(past), scale=spread, scale_days=len(past))
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


def _reference(stream: Stream, values: Floats) -> Floats:
    """Return the figures of the first days that tell where the stream starts: of own errors where they are known of two weeks."""
    known = np.isfinite(values)
    if stream.own is not None and np.sum(own := known & np.isfinite(stream.own.own[:REFERENCE])) >= FIRST_DAYS:
        known = own
    return values[known]


DETECTORS: dict[str, Alarms] = {
    "always fire": lambda stream: list(range(len(stream.error) - REFERENCE)),
    "never fire": lambda _: [],
    **RIVALS,
    "ours, warn": ours("warn"),
    "ours, retrain": ours("retrain"),
    "ours, retrain and floor 25 %": ours("retrain", floor=0.25),
}


def score(
    detector: Alarms | Mapping[str, Alarms], streams: Sequence[Stream], repeats: int, shifts: Sequence[str]
) -> dict[str, Any]:
    """Return false alarms a year on `streams`, and per shift the median delay and the share found within 30 days.

    A `detector` may be one for each shift; false alarms are then of the one for +30 %.
    """
    years = sum(stream.years for stream in streams)
    by_shift = detector if isinstance(detector, Mapping) else dict.fromkeys(shifts, detector)
    calm = by_shift["+30 %"]
    row: dict[str, Any] = {"stream_years": years, "false_a_year": sum(len(calm(s)) for s in streams) / years}
    rng = np.random.default_rng(11)
    for shift in shifts:
        effect, ramp = SHIFTS[shift]
        delays = []
        for stream in streams:
            room = len(stream.error) - REFERENCE
            first = min(60, room // 4)
            last = room - max(30, 2 * ramp)
            last = last if last > first else 3 * room // 5
            for _ in range(repeats):
                day = int(rng.integers(first, last))
                alarms = by_shift[shift](inject(stream, day, effect, ramp))
                after = [alarm - day + 1 for alarm in alarms if alarm >= day]
                delays.append(after[0] if after else math.inf)
        row[shift] = (float(np.median(delays)), float(np.mean(np.array(delays) <= 30)))
    row["J"] = row["+30 %"][1] + math.exp(-row["false_a_year"] * 30 / 365) - 1
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
    bikes, parks = ([s for s in streams if s.kind == kind] for kind in ("real bikes", "real car parks, pooled"))
    yield "real bikes", bikes, 24
    yield "real bikes, held out", bikes[CHOSEN_ON:], 24
    yield "real bikes, a week ahead", week_ahead_streams(), 24
    yield "real car parks, pooled", parks, 24
    yield "real bikes, never retrained", aging_streams(), 4


def _calibration(kind: str, streams: Sequence[Stream]) -> Sequence[Stream]:
    """Return streams without a shift to tune on: others of a synthetic kind; of a real one the very same, for want of more."""
    if not kind.startswith("synthetic"):
        return streams
    return synthetic(20, 730, int(kind.split()[1]), persistence=0.6, seed=77)


def misses(kind: str, row: dict[str, Any]) -> list[str]:
    """Say by how much `row` of ours falls short of what was asked."""
    if kind not in TARGETS:
        return []
    most, wanted = TARGETS[kind]
    found = []
    if row["stream_years"] >= LEAST_YEARS and row["false_a_year"] > most:
        found.append(f"{kind}: {row['false_a_year']:.2f} false alarms a year, at most {most} wanted")
    for shift, (delay, share) in wanted.items():
        got_delay, got_share = row[shift]
        if got_delay > delay:
            found.append(f"{kind}, {shift}: median {got_delay:g} days, at most {delay:g} wanted")
        if got_share < share:
            found.append(f"{kind}, {shift}: {100 * got_share:.0f} % within 30 days, {100 * share:.0f} % wanted")
    return found


def too_short(streams: Sequence[Stream]) -> bool:
    """Whether nobody's rate of false alarms can be told on `streams`."""
    return sum(stream.years for stream in streams) < LEAST_YEARS


def beaten(kind: str, streams: Sequence[Stream], rows: Mapping[str, dict[str, Any]]) -> list[str]:
    """Name the comparison rows that ours does not beat on `kind`.

    A row is beaten where it breaks the budget of false alarms, or finds fewer +30 % within 30 days, or as many no sooner. Where
    `streams` are too short to tell who breaks it, those rows count that keep it over all real streams together.
    """
    delay, share = rows["ours, retrain"]["+30 %"]
    short = too_short(streams)
    return [
        f"{kind}: '{name}' keeps the budget and finds +30 % as surely and sooner"
        for name, row in rows.items()
        if not name.startswith(("ours", "oracle"))
        and (TOGETHER in name if short else row["false_a_year"] <= BUDGET)
        and (-row["+30 %"][1], row["+30 %"][0]) < (-share, delay)
    ]


def bound(streams: Sequence[Stream], shifts: Sequence[str]) -> dict[str, Alarms]:
    """Return the oracle for each shift, tuned to the budget on `streams` where they are long enough to tell false alarms."""
    families = {shift: oracle(SHIFTS[shift][0]) for shift in shifts}
    if sum(stream.years for stream in streams) < 1.0:
        return {shift: family(1.0) for shift, (family, _) in families.items()}
    return {shift: alarms for shift, (alarms, _) in tuned(families, streams).items()}


def run(*, full: bool, real: bool) -> dict[str, Any]:
    """Compute the whole scorecard."""
    result: dict[str, Any] = {"streams": {}, "misses": []}
    shifts = list(SHIFTS) if full else ["+15 %", "+30 %", "+60 %"]
    sets = list(stream_sets(full=full, real=real))
    in_control = [stream for kind, streams, _ in sets if kind in ALL_REAL for stream in streams]
    together = tuned(TUNED_RIVALS, in_control) if in_control else {}
    for kind, streams, repeats in sets:
        rivals = dict(DETECTORS)
        if not too_short(streams):
            alone = tuned(TUNED_RIVALS | OURS_TUNED, _calibration(kind, streams))
            rivals |= {f"{name}: {setting:.2g}": detector for name, (detector, setting) in alone.items()}
        if not kind.startswith("synthetic"):
            rivals |= {
                f"{name} on {TOGETHER}: {setting:.2g}": detector for name, (detector, setting) in together.items()
            }
        rows = {name: score(detector, streams, repeats, shifts) for name, detector in rivals.items()}
        rows["oracle"] = score(bound(streams, shifts), streams, repeats, shifts)
        result["streams"][kind] = dict(sorted(rows.items(), key=lambda item: item[0].startswith("ours")))
        result["misses"] += misses(kind, rows["ours, retrain"]) + beaten(kind, streams, rows)
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
        short = ", too short to tell a rate of false alarms" if years < LEAST_YEARS else ""
        print(f"\n{kind} ({years:.2g} stream-years{short}): median delay in days / share found within 30 days")
        print(f"{'detector':46}{'false/year':>11}{'J':>7}" + "".join(f"{shift:>17}" for shift in shifts))
        for name, row in rows.items():
            cells = "".join(f"{_days(row[s][0]):>9} /{100 * row[s][1]:4.0f} %" for s in shifts)
            told = f"{'':>11}{'':>7}" if short else f"{row['false_a_year']:>11.2f}{row['J']:>7.2f}"
            print(f"{name:46}{told}{cells}")
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
    parser.add_argument("--costs", action="store_true", help="only what an update and a check cost")
    options = parser.parse_args(arguments)
    if options.costs:
        print_costs(as_json=options.json)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = run(full=options.full, real=options.full and not options.skip_real)
    if options.json:
        print(json.dumps(result, default=float))
    else:
        _shown(result)


if __name__ == "__main__":
    main()
