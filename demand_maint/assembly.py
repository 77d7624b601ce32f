"""Puts the parts of one root together for a runtime."""

from pathlib import Path

from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.upkeep import Parts

__all__ = ["assemble"]


def assemble(root: Path, config: Config, clock: Clock) -> Parts:
    """Assemble what a runtime looks after."""
    raise NotImplementedError((root, config, clock))
