"""Keep a demand-forecasting CatBoost model healthy from inside the process that collects the data.

Names load on first use, so that ``import demand_maint`` costs next to nothing and loads no third-party package.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
