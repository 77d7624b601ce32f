"""What maintenance decided and why, told in plain words from the records of ``logs/decisions``.

Records are plain dictionaries: ``decision`` (see `Decision.as_record`) and ``result`` (what came of the check). Whatever else
stands in the journal, or was written by a newer release, is told as far as it can be, and nothing here raises on it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from demand_maint.core.moments import stamp
from demand_maint.core.policy import RULES, Rule

__all__ = ["explain", "explain_record"]

_ACTIONS = {"fine_tune": "a fine-tune", "full_retrain": "a full retrain", "nothing": "nothing"}
_BRAKES = {
    "off": "this tier is switched off in the policy",
    "running": "a training was under way",
    "feed_fault": "the truth itself looked wrong",
    "backoff": "trainings had failed just before",
    "cooldown": "the last training was too recent",
    "weekly_budget": "the week's budget of trainings was used up",
    "no_new_rows": "no new truth had arrived",
    "rolled_back": "a model had just been rolled back",
    "rejection_cooldown": "a challenger of this kind had just been rejected",
    "on_trial": "a challenger was still earning its place",
    "advise": "the policy only advises here",
}
_STATUSES = {
    "insufficient_data": "could not be judged",
    "healthy": "was healthy",
    "degraded": "was degraded",
    "critical": "was in a critical state",
}


def explain(records: Iterable[Mapping[str, Any]], at: float | None = None, rules: Sequence[Rule] = RULES) -> str:
    """Tell the newest decision, or the one in force at `at`, and what came of it.

    Parameters
    ----------
    records
        Lines of the decision journal, in any order.
    at
        Epoch seconds; the last decision at or before it is told.

    Examples
    --------
    >>> print(explain([]))
    No decision has been made yet. The first one comes with the next maintenance check.
    """
    dated = sorted((r for r in records if _number(r.get("at")) is not None), key=lambda r: float(r["at"]))
    decisions = [r for r in dated if r.get("type", "decision") == "decision"]
    if not decisions:
        return "No decision has been made yet. The first one comes with the next maintenance check."
    if at is None:
        chosen = decisions[-1]
    else:
        earlier = [r for r in decisions if float(r["at"]) <= at]
        if not earlier:
            return (
                f"No decision had been made at {stamp(at)}; the first one is from {stamp(float(decisions[0]['at']))}."
            )
        chosen = earlier[-1]
    begun = float(chosen["at"])
    following = next((float(r["at"]) for r in decisions if float(r["at"]) > begun), math.inf)
    outcome = [r for r in dated if r.get("type") not in {None, "decision"} and begun <= float(r["at"]) < following]
    return "\n".join([explain_record(chosen, rules), *(_outcome(r) for r in outcome)])


def explain_record(record: Mapping[str, Any], rules: Sequence[Rule] = RULES) -> str:
    """Tell one decision in a few sentences."""
    evidence = record.get("evidence")
    facts: Mapping[str, Any] = evidence if isinstance(evidence, Mapping) else {}
    lines = [_headline(record), _model(facts), _test(facts), _places(facts), _feed(facts), _schedule(facts)]
    rule = next((r for r in rules if r.name == record.get("rule")), None)
    if rule is not None and rule.text:
        lines.append(f"Rule: {rule.text} -> {_ACTIONS.get(str(rule.action), str(rule.action))}.")
    return "\n".join(line for line in lines if line)


def _headline(record: Mapping[str, Any]) -> str:
    moment = stamp(_number(record.get("at")))
    action = str(record.get("action", "nothing"))
    proposed = str(record.get("proposed") or action)
    reason = str(record.get("reason") or "no reason was kept")
    blocked = record.get("blocked_by")
    if blocked is not None and proposed != "nothing":
        why = _BRAKES.get(str(blocked), str(blocked))
        return f"{moment}: {_ACTIONS.get(proposed, proposed)} was called for, but held back because {why}. ({reason})"
    if action == "nothing":
        return f"{moment}: nothing was to be done. ({reason})"
    return f"{moment}: {_ACTIONS.get(action, action)} was decided. ({reason})"


def _model(facts: Mapping[str, Any]) -> str:
    status = facts.get("status")
    if status is None:
        return ""
    parts = [f"The model {_STATUSES.get(str(status), str(status))}"]
    mae, expected, degradation = (_number(facts.get(key)) for key in ("mae", "baseline_mae", "degradation"))
    if mae is not None:
        against = "" if expected is None else f" where {_figure(expected)} was to be expected"
        change = "" if degradation is None else f" ({_percent(degradation)})"
        parts.append(f"its error was {_figure(mae)}{against}{change}")
    n = _number(facts.get("n"))
    if n is not None:
        parts.append(f"over {int(n)} rows with known truth")
    text = ", ".join(parts) + "."
    raw = _number(facts.get("raw_degradation"))
    if facts.get("method") == "difficulty_adjusted" and raw is not None and degradation is not None:
        text += (
            f" Against the fixed baseline it would read {_percent(raw)}; the difference is how hard these days were."
        )
    recent = _number(facts.get("recent_degradation"))
    if recent is not None:
        text += f" The last 24 hours alone stood at {_percent(recent)}."
    note = facts.get("health_reason")
    return text + (f" Note: {note}." if note else "")


def _test(facts: Mapping[str, Any]) -> str:
    statistic, limit = _number(facts.get("statistic")), _number(facts.get("retrain_threshold"))
    if statistic is None or limit is None:
        return ""
    state = (
        "is in alarm"
        if facts.get("retrain_alarm")
        else "warns, without alarm"
        if facts.get("warn_alarm")
        else "is quiet"
    )
    since = _number(facts.get("drift_since"))
    begun = (
        f"; the change seems to have begun on {stamp(since)[:10]}"
        if since is not None and facts.get("warn_alarm")
        else ""
    )
    return f"The sequential test {state}: {statistic:.1f} of {limit:.1f}{begun}."


def _places(facts: Mapping[str, Any]) -> str:
    listed = facts.get("places")
    places = [p for p in listed if isinstance(p, Mapping)] if isinstance(listed, Sequence) else []
    if not places:
        return ""
    shown = ", ".join(f"{p.get('place')} ({_percent(_number(p.get('degradation')))})" for p in places[:5])
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return (
        f"Places that got worse while the pool stood at {_percent(_number(facts.get('degradation')))}: {shown}{more}."
    )


def _feed(facts: Mapping[str, Any]) -> str:
    pool = facts.get("pool_fault")
    if pool:
        return f"The feed as a whole was suspected: {pool}. Nothing is judged or trained on it."
    feed = facts.get("feed")
    if not isinstance(feed, Mapping) or not feed:
        return ""
    shown = ", ".join(f"{place} ({kind})" for place, kind in list(feed.items())[:5])
    return f"Places whose truth looked wrong, left out of the judgement: {shown}."


def _schedule(facts: Mapping[str, Any]) -> str:
    full, update = _number(facts.get("days_since_full_retrain")), _number(facts.get("days_since_update"))
    parts = []
    if full is not None:
        parts.append(f"the last full retrain was {full:.0f} days ago")
    if update is not None:
        parts.append(f"the last update {update:.1f} days ago")
    tunes = _number(facts.get("fine_tunes"))
    if tunes is not None:
        parts.append(f"{int(tunes)} fine-tunes since the last full retrain")
    return "" if not parts else (", ".join(parts) + ".").capitalize()


def _outcome(record: Mapping[str, Any]) -> str:
    moment = stamp(_number(record.get("at")))
    status = str(record.get("status") or record.get("type"))
    version = record.get("version")
    text = f"{moment}: it came to {status.replace('_', ' ')!r}" + (
        f" (version {version})" if version is not None else ""
    )
    verdict = record.get("verdict")
    if isinstance(verdict, Mapping):
        relative = _number(verdict.get("relative"))
        words = str(verdict.get("verdict", "")).replace("_", " ")
        text += f"; live truth or the holdout said {words!r}" if words else ""
        text += f", {_percent(relative)} against the champion" if relative is not None else ""
        reasons = verdict.get("reasons")
        if isinstance(reasons, Sequence) and not isinstance(reasons, str) and reasons:
            text += f" [{', '.join(str(reason) for reason in reasons)}]"
    return text + "."


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _percent(value: float | None) -> str:
    return "an unknown amount" if value is None else f"{100 * value:+.1f} %"


def _figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
