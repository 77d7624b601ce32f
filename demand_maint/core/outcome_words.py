"""What `HybridModelManager.update_model` came to, in lines for people; every command line says it alike."""

from collections.abc import Iterator
from typing import Any

import msgspec

from demand_maint.core.chronicle import verdict_words
from demand_maint.core.cycle import STATUSES
from demand_maint.core.versions import GateVerdict

__all__ = ["outcome_lines"]


def outcome_lines(result: dict[str, Any]) -> Iterator[str]:
    """Say what a check came to: its status, the rule, the reason, and who serves by which verdict."""
    status = str(result["status"])
    yield f"{status}: {STATUSES.get(status, '')}"
    yield f"  rule    {result['rule']}"
    yield f"  reason  {result['reason']}"
    if result.get("version") is not None:
        yield f"  version {result['version']}"
    if result.get("verdict"):
        yield f"  verdict {_verdict(result['verdict'])}"


def _verdict(verdict: object) -> str:
    try:
        return verdict_words(msgspec.convert(verdict, GateVerdict, strict=False, from_attributes=True))
    except msgspec.ValidationError:
        return str(verdict)
