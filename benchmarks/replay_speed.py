"""How fast a replay is: decisions alone over a year of twenty places, and what it adds to the bare fits.

    python -m benchmarks.replay_speed [--days 365] [--places 20] [--json]

Targets: decisions alone at most 2 s for 365 days x 20 places hourly; with training at most 25 % over the bare fits.
Figures are processor seconds of the replaying thread, so a busy machine blurs them less.
"""

import argparse
import json

from demand_maint.config import Config, TrainingConfig
from demand_maint.replay import replay
from demand_maint.testing import drifting_stream

START, DAY, TRAINED = 1_704_067_200.0, 86400.0, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--training-days", type=int, default=60, help="length of the replay with trainings")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    stream = drifting_stream(places=arguments.places, days=TRAINED + arguments.days, shift_day=TRAINED + 100, shift=1.5)
    small = Config(training=TrainingConfig(full_iterations=50))
    decisions = replay(stream, ["default"], train_until=START + TRAINED * DAY, config=small, training=False).policies[0]
    until = START + (TRAINED + arguments.training_days) * DAY
    trained = replay(stream, ["full-7d"], train_until=START + TRAINED * DAY, until=until, config=Config()).policies[0]
    overhead = trained.cpu_seconds / trained.training_cpu_seconds - 1
    found = {
        "decisions_seconds": decisions.cpu_seconds,
        "checks": decisions.checks,
        "milliseconds_a_check": 1000 * decisions.cpu_seconds / decisions.checks,
        "fits": trained.attempts,
        "fits_seconds": trained.training_cpu_seconds,
        "overhead": overhead,
    }
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"decisions alone: {decisions.cpu_seconds:.1f} s for {decisions.checks} checks ({found['milliseconds_a_check']:.1f} ms each); target 2 s"
    )
    print(
        f"with training: {trained.attempts} fits, {trained.training_cpu_seconds:.1f} s; everything else adds {100 * overhead:.0f} %; target 25 %"
    )


if __name__ == "__main__":
    main()
