"""``python -m demand_maint``: the same as ``demand-maint``."""

import sys

from demand_maint.cli import main

if __name__ == "__main__":
    sys.exit(main())
