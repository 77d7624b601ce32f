"""The one configuration: ``demand_maint.toml`` in the root, constructor arguments over it, ``DEMAND_MAINT_*`` for the command line.

Every duration a user writes is a string such as ``"30m"``, ``"6h"`` or ``"7d"``, or a plain number in the unit its name ends in.
"""

import difflib
import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from demand_maint.errors import ConfigError

__all__ = [
    "CONFIG_FILE",
    "Config",
    "MonitorConfig",
    "PolicyConfig",
    "RuntimeConfig",
    "ServingConfig",
    "StorageConfig",
    "TrainingConfig",
    "duration_seconds",
    "effective_values",
    "load_config",
    "wrong_setting",
]

CONFIG_FILE = "demand_maint.toml"
ENVIRONMENT_PREFIX = "DEMAND_MAINT_"

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@lru_cache(maxsize=64)
def duration_seconds(text: str) -> int:
    """Seconds in a duration such as ``"30m"``, ``"6h"`` or ``"7d"``.

    >>> duration_seconds("30m")
    1800
    """
    match = re.fullmatch(r"(\d+)\s*([smhdw])", text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"{text!r} is no duration. Write a whole number and a unit, as in '30m', '1h' or '7d'.")
    return int(match[1]) * _UNITS[match[2]]


class PolicyConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to train, and what a new model has to show.

    The six rules of the user's document with their thresholds, each ``None`` to switch it off; then what keeps them from
    training at every check; then how a challenger earns its place.
    """

    name: str = "default"
    method: Literal["difficulty_adjusted", "raw"] = "difficulty_adjusted"
    window_days: PositiveInt = 7
    min_samples: PositiveInt = 100
    suggest_degradation: Positive | None = 0.15
    critical_degradation: Positive | None = 0.25
    full_retrain_interval_days: Positive | None = 90.0
    fine_tune_interval_days: Positive | None = 7.0
    max_fine_tunes: PositiveInt | None = 5
    # a drift rule also needs the sequential test to have fired, unless this is off
    sequential_test: bool = True
    max_false_retrains_per_year: Positive = 1.0
    max_false_warnings_per_month: Positive = 1.0
    false_discovery_rate: Share = 0.1
    # what keeps the rules from training at every check
    cooldown_hours: NonNegative = 24.0
    rejection_cooldown_days: NonNegative = 7.0
    max_trainings_per_week: PositiveInt | None = 4
    require_new_rows: bool = True
    escalate_after_fine_tunes: PositiveInt | None = 2
    feed_fault_guard: bool = True
    chain_fine_tunes: bool = False
    # how a challenger earns its place
    promotion: Literal["live", "gate", "metadata"] = "live"
    margin: NonNegative = 0.02
    matured_days: PositiveInt = 7
    coverage: Share = 0.8
    candidate_expiry_days: Positive = 28.0
    probation_days: NonNegative = 14.0
    max_rollbacks_per_month: int = 3
    # Tier 0, and which tiers act by themselves ("advise" decides and tells, changes nothing)
    calibrate: bool = True
    fine_tune: Literal["auto", "advise", "off"] = "auto"
    full_retrain: Literal["auto", "advise", "off"] = "auto"

    @classmethod
    def literal(cls, **overrides: Any) -> Self:
        """Return the user's document with nothing added: raw MAE, thresholds and counts, metadata comparison."""
        settings: dict[str, Any] = {
            "name": "literal",
            "method": "raw",
            "sequential_test": False,
            "cooldown_hours": 0.0,
            "rejection_cooldown_days": 0.0,
            "max_trainings_per_week": None,
            "require_new_rows": False,
            "escalate_after_fine_tunes": None,
            "feed_fault_guard": False,
            "chain_fine_tunes": True,
            "promotion": "metadata",
            "probation_days": 0.0,
            "calibrate": False,
        }
        return cls(**(settings | overrides))


class MonitorConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How observations are kept."""

    durability: Literal["interval", "power"] = "interval"
    fsync_seconds: Positive = 30.0
    segment_records: Annotated[int, Meta(ge=64, le=1 << 24)] = 65_536
    buffer_days: PositiveInt = 35
    records_days: PositiveInt = 800
    features_days: PositiveInt = 120
    export_records: PositiveInt = 100_000


class TrainingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the training child is told."""

    fine_tune_days: PositiveInt = 30
    fine_tune_iterations: PositiveInt = 100
    fine_tune_learning_rate: Positive = 0.03
    # fewer split candidates than CatBoost's 254: a third of the time for the same error, measured on both shipped streams
    fine_tune_border_count: Annotated[int, Meta(gt=0, le=65_535)] = 64
    validation: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    full_iterations: PositiveInt = 300
    full_depth: Annotated[int, Meta(gt=0, le=16)] = 6
    full_learning_rate: Positive = 0.08
    full_days: PositiveInt | None = None
    # more than that are thinned out evenly before features are made of them, so that time and memory of a training stay bounded
    max_rows: Annotated[int, Meta(ge=1_000)] | None = 1_000_000
    loss: str = "RMSE"
    seed: int = 0
    threads: PositiveInt = 1
    nice: Annotated[int, Meta(ge=0, le=19)] = 19
    deadline_seconds: Positive = 3600.0
    memory_megabytes: PositiveInt | None = None


class ServingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who answers a prediction."""

    serve: Literal["mixture", "champion"] = "mixture"
    # age at which a day's evidence on a member counts half
    half_life_days: Positive = 2.0
    # how fast a weight falls with a member's regret, per standard error of it
    sharpness: Positive = 0.7
    prior_days: Positive = 14.0
    warm_up_days: NonNegative = 3.0
    # the same for levels: mostly yesterday
    calibration_half_life_days: Positive = 1.0
    calibration_prior_days: Positive = 3.0
    poll_seconds: Positive = 5.0


class StorageConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many versions stay, and how large a model may be."""

    keep: PositiveInt = 10
    max_model_megabytes: PositiveInt = 512


class RuntimeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How maintenance lives inside a host."""

    interval_hours: Positive = 6.0
    cron: str | None = None
    mode: Literal["auto", "advise"] = "auto"
    grace_seconds: Positive = 5.0
    hook_timeout_seconds: Positive = 30.0
    hook_queue: PositiveInt = 256
    worker_slots: PositiveInt = 1


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything ``demand_maint.toml`` may say, with the defaults of what it does not say."""

    zone: str = "UTC"
    step: str = "1h"
    horizon: str = "1d"
    season: str = "7d"
    missing_actual: Literal["unknown", "zero"] = "unknown"
    # "module:object" of a FeatureBuilder; empty for the built-in DemandFeatures
    features: str = ""
    holidays: tuple[str, ...] = ()
    # "module:object" of a source, or the path of a CSV/Parquet file to replay
    source: str = ""
    policy: PolicyConfig = PolicyConfig()
    monitor: MonitorConfig = MonitorConfig()
    training: TrainingConfig = TrainingConfig()
    serving: ServingConfig = ServingConfig()
    storage: StorageConfig = StorageConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        for name in ("step", "horizon", "season"):
            try:
                duration_seconds(getattr(self, name))
            except ConfigError as error:
                raise ValueError(f"{error} - at `$.{name}`") from None
        try:
            ZoneInfo(self.zone)
        except Exception:  # zoneinfo raises several kinds for a bad key
            raise ValueError(f"{self.zone!r} is no time zone this computer knows - at `$.zone`") from None

    @property
    def step_seconds(self) -> int:
        """Length of one slot, seconds."""
        return duration_seconds(self.step)

    @property
    def horizon_seconds(self) -> int:
        """How long before its slot a prediction is made, seconds."""
        return duration_seconds(self.horizon)

    @property
    def season_seconds(self) -> int:
        """Distance of the seasonal-naive reference, seconds."""
        return duration_seconds(self.season)


def load_config(
    root: str | Path = ".", overrides: dict[str, Any] | None = None, *, environment: bool = False
) -> Config:
    """Read ``demand_maint.toml`` of `root`, then the environment where asked, then `overrides`.

    Parameters
    ----------
    root
        Folder that holds the file; a missing file means defaults.
    overrides
        Nested mapping of the same shape as the file, as ``{"policy": {"window_days": 14}}``.
    environment
        Also read ``DEMAND_MAINT_<KEY>`` and ``DEMAND_MAINT_<SECTION>__<KEY>``; values are TOML, or plain text.

    Raises
    ------
    ConfigError
        Not TOML, an unknown key, or a value of the wrong kind; the message names the path of the key.
    """
    merged: dict[str, Any] = {}
    where = str(Path(root) / CONFIG_FILE)
    for name, layer in _layers(root, overrides, environment=environment):
        merged = _merge(merged, layer)
        if layer and name != CONFIG_FILE:
            where += f", {ENVIRONMENT_PREFIX} variables" if name == "environment" else ", arguments"
    return _convert(merged, where)


def effective_values(
    root: str | Path = ".", overrides: dict[str, Any] | None = None, *, environment: bool = False
) -> dict[str, tuple[Any, str]]:
    """Every setting by its dotted path: its effective value and where that came from (``default``, the file, ...)."""
    config = load_config(root, overrides, environment=environment)
    origin: dict[str, str] = {}
    for name, layer in _layers(root, overrides, environment=environment):
        origin |= dict.fromkeys(_flatten(layer), name)
    return {path: (value, origin.get(path, "default")) for path, value in _flatten(msgspec.to_builtins(config)).items()}


def _layers(
    root: str | Path, overrides: dict[str, Any] | None, *, environment: bool
) -> list[tuple[str, dict[str, Any]]]:
    layers: list[tuple[str, dict[str, Any]]] = []
    path = Path(root) / CONFIG_FILE
    try:
        layers.append((CONFIG_FILE, tomllib.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        layers.append((CONFIG_FILE, {}))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}. Mend the file, or remove it to use the defaults."
        ) from error
    if environment:
        layers.append(("environment", _from_environment(os.environ)))
    if overrides:
        layers.append(("argument", overrides))
    return layers


def _from_environment(variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in sorted(variables.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name == f"{ENVIRONMENT_PREFIX}ROOT":
            continue
        *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        target = found
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return found


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        merged[key] = (
            _merge(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
        )
    return merged


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _convert(settings: dict[str, Any], where: str) -> Config:
    try:
        return msgspec.convert(settings, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {wrong_setting(error)}") from error


def wrong_setting(error: msgspec.ValidationError) -> str:
    """Say which setting is wrong and what it may be, from what msgspec found out."""
    said, _, path = str(error).partition(" - at `$")
    said, path = said.removesuffix("."), path.strip(".`")
    kind: Any = Config
    default: Any = None
    for name in filter(None, path.split(".")):
        field = next((field for field in msgspec.structs.fields(kind) if field.name == name), None)
        if field is None:  # inside a list
            return f"{said}, at `{path}`. Mend that entry."
        kind, default = field.type, field.default
    where = f", at `{path}`" if path else ""
    unknown = re.search(r"unknown field `(.+)`", said)
    if unknown is not None:
        known = [field.name for field in msgspec.structs.fields(kind)]
        close = difflib.get_close_matches(unknown[1], known, 1)
        return f"{said}{where}. " + (f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}.")
    if get_origin(kind) is Literal:
        return f"{said}{where}. Write one of {', '.join(map(repr, get_args(kind)))}."
    if default is None or isinstance(default, Struct):
        return f"{said}{where}. {'Leave it out for the default.' if default is None else 'Write a table.'}"
    return f"{said}{where}. The default is {default!r}."
