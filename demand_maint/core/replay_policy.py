"""The policies a replay knows by name, and how one of the user's own is read."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from demand_maint.config import Config, PolicyConfig, wrong_setting
from demand_maint.errors import ConfigError

__all__ = ["NAMED", "ReplayPolicy", "own_policy", "policy_config"]

ANYTHING = 1e9  # a margin within which every challenger is "not worse"


class ReplayPolicy(Struct, frozen=True, kw_only=True):
    """A policy to live a history by.

    Parameters
    ----------
    name
        As the user calls it.
    text
        What it does, in one line.
    settings
        Laid over the root's configuration, as in ``{"policy": {...}, "serving": {...}}``.
    models
        Whether models serve at all; only ``naive`` needs none.
    """

    name: str
    text: str
    settings: dict[str, Any] = {}
    models: bool = True


def _full_every(days: int) -> ReplayPolicy:
    """Return the calendar and nothing else: a full retrain every `days`, deployed unseen, served alone."""
    policy = _only(name=f"full-{days}d") | {
        "full_retrain_interval_days": float(days),
        "promotion": "metadata",
        "margin": ANYTHING,
    }
    return ReplayPolicy(
        name=f"full-{days}d",
        text=f"full retrain every {days} days, deployed without a question" if days > 1 else "full retrain every day",
        # nobody looks at its figures, so nothing is held back to measure them: one fit instead of two
        settings={"policy": policy, "serving": {"serve": "champion"}, "training": {"validation": 0.0}},
    )


def _only(name: str) -> dict[str, Any]:
    """Return the literal rules with every one of them switched off."""
    literal: dict[str, Any] = msgspec.to_builtins(PolicyConfig.literal(name=name))
    off = ("suggest_degradation", "critical_degradation", "full_retrain_interval_days", "fine_tune_interval_days", "max_fine_tunes")  # fmt: skip
    return literal | dict.fromkeys(off)


def _named() -> dict[str, ReplayPolicy]:
    frozen = ReplayPolicy(
        name="frozen",
        text="the first champion for ever",
        settings={"policy": _only("frozen"), "serving": {"serve": "champion"}},
    )
    literal = ReplayPolicy(
        name="literal",
        text="the document's rules to the letter: raw error, every check, metadata decide",
        settings={"policy": msgspec.to_builtins(PolicyConfig.literal()), "serving": {"serve": "champion"}},
    )
    calibrate = ReplayPolicy(
        name="calibrate-only",
        text="the first champion, its level calibrated and mixed with the seasonal naive; no training",
        settings={
            "policy": {"name": "calibrate-only", "fine_tune": "off", "full_retrain": "off", "calibrate": True},
            "serving": {"serve": "mixture"},
        },
    )
    naive = ReplayPolicy(name="naive", text="the same slot one week before", models=False)
    default = ReplayPolicy(name="default", text="the root's own configuration", settings={})
    every = [_full_every(days) for days in (1, 7, 28, 90)]
    return {policy.name: policy for policy in (default, literal, frozen, *every, calibrate, naive)}


NAMED: Mapping[str, ReplayPolicy] = _named()


def own_policy(name: str, settings: Mapping[str, Any]) -> ReplayPolicy:
    """Return a policy from the content of a TOML file: the tables of ``demand_maint.toml``, or the keys of ``[policy]`` alone.

    Raises
    ------
    ConfigError
        A key that no setting has.
    """
    sections = {"policy", "serving", "training", "runtime"}
    laid: dict[str, Any] = dict(settings) if set(settings) & sections else {"policy": dict(settings)}
    foreign = sorted(set(laid) - sections)
    if foreign:
        raise ConfigError(
            f"Policy {name!r}: {', '.join(map(repr, foreign))} cannot differ between policies of one replay. "
            f"A policy file has the tables {', '.join(sorted(sections))}, or the keys of [policy] alone."
        )
    laid["policy"] = {"name": name} | dict(laid.get("policy", {}))
    policy = ReplayPolicy(name=name, text="from a file", settings=laid)
    policy_config(Config(), policy)
    return policy


def policy_config(config: Config, policy: ReplayPolicy) -> Config:
    """Return `config` with the policy's settings laid over it.

    Raises
    ------
    ConfigError
        A setting is unknown or of the wrong kind.
    """
    merged: dict[str, Any] = msgspec.to_builtins(config)
    for section, values in policy.settings.items():
        merged[section] = merged[section] | values if isinstance(values, dict) else values
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Policy {policy.name!r}: {wrong_setting(error)}") from error
