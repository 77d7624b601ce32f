"""Maintenance without a process that stays: one check, for cron or the Windows Task Scheduler.

Run it::

    python examples/cron_one_shot.py [--root DIR]

In a crontab, every Sunday at two (the command line does the same: ``demand-maint update``)::

    0 2 * * 0  cd /path/to/project && /path/to/.venv/bin/python -m demand_maint.model_manager --update

Prints::

    should_full_retrain: False, ...
    should_fine_tune: False, ...
    no_action: ...

and ends with 0, or with 1 where a training failed, or with 5 where another process maintains this root.
"""

import sys
from pathlib import Path

from car_parks import chosen_root, make_root

from demand_maint import HybridModelManager
from demand_maint.errors import MaintainerBusyError


def main(root: Path) -> int:
    make_root(root)
    with HybridModelManager(root, full_retrain_interval_days=90, fine_tune_interval_days=7) as manager:
        print("should_full_retrain: {}, {}".format(*manager.should_full_retrain()))
        print("should_fine_tune: {}, {}".format(*manager.should_fine_tune()))
        try:
            result = manager.update_model()
        except MaintainerBusyError as busy:
            print(busy)
            return 5
    print(f"{result['status']}: {result['reason']}")
    return 1 if result["status"] == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(chosen_root(__doc__)))
