"""How tests run a command of the package's command line in their own process."""

import json
from typing import Any

import pytest

from demand_maint.cli import main

__all__ = ["said"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run a command with --json; its exit code and the one JSON value it printed."""
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)
