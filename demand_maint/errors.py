"""Every error this package raises on purpose, in one tree.

::

    DemandMaintError
    ├── ConfigError                     demand_maint.toml or an argument is wrong
    ├── RecordError                     strict logging met a value that is no observation
    ├── DataError
    │   ├── InsufficientDataError       too few rows to train on
    │   ├── MissingFeaturesError        neither logged features nor a feature builder
    │   └── HistoryFileError            a history file cannot be read as demand
    ├── SchemaMismatchError             features differ in count, name or order
    ├── TrainingError
    │   ├── TargetError                 the target cannot be learned from
    │   ├── IncompatibleBaseError       warm start across losses or grow policies
    │   ├── TrainingFailedError         the child process failed, was killed or ran out of time
    │   └── TrainingCancelledError      somebody asked it to stop
    ├── CatBoostMissingError            the package that trains and predicts cannot be imported
    ├── ModelFileError
    │   ├── DamagedModelError           truncated, flipped, empty, not a model
    │   ├── ModelTooLargeError          over the size cap
    │   └── UnsafePickleError           a pickle that names more than a CatBoostRegressor
    ├── RegistryError
    │   ├── NoChampionError             nothing was ever deployed here
    │   ├── NothingToRollBackError      no earlier version left
    │   ├── DamagedRegistryError        a commit or version on disk is not what was written
    │   ├── NewerFormatError            written by a newer release
    │   ├── LostRaceError               somebody else changed the champion first
    │   ├── CommitUnconfirmedError      committed, but the disk did not confirm it
    │   ├── DeployRefusedError          the model did not pass validation or the comparison
    │   └── PathError                   a path that leaves the root
    ├── MaintainerBusyError             another process maintains this root
    ├── UnsupportedFilesystemError      no working flock or link here
    ├── AttachError                     this object cannot be attached to
    └── ClosedError                     used after close()

The leaves take facts and build the sentence; the sentence ends with what to do.
"""

__all__ = [
    "AttachError",
    "CatBoostMissingError",
    "ClosedError",
    "CommitUnconfirmedError",
    "ConfigError",
    "DamagedModelError",
    "DamagedRegistryError",
    "DataError",
    "DemandMaintError",
    "DeployRefusedError",
    "HistoryFileError",
    "IncompatibleBaseError",
    "InsufficientDataError",
    "LostRaceError",
    "MaintainerBusyError",
    "MissingFeaturesError",
    "ModelFileError",
    "ModelTooLargeError",
    "NewerFormatError",
    "NoChampionError",
    "NothingToRollBackError",
    "PathError",
    "RecordError",
    "RegistryError",
    "SchemaMismatchError",
    "TargetError",
    "TrainingCancelledError",
    "TrainingError",
    "TrainingFailedError",
    "UnsafePickleError",
    "UnsupportedFilesystemError",
]


class DemandMaintError(Exception):
    """Root of every error raised on purpose by this package."""


class ConfigError(DemandMaintError):
    """A setting is wrong; the message names its path, as in ``policy.window_days``."""


class RecordError(DemandMaintError):
    """``strict=True`` and a value that is no observation."""


class DataError(DemandMaintError):
    """The data at hand does not allow what was asked."""


class InsufficientDataError(DataError):
    """Too few usable rows."""

    def __init__(self, found: int, needed: int, what: str = "fine-tuning", remedy: str | None = None) -> None:
        self.found = found
        self.needed = needed
        remedy = remedy or "Collect longer, lower min_samples, or use fine_tune_from_processed_data()."
        super().__init__(f"Insufficient data for {what}: {found} samples, {needed} needed. {remedy}")


class MissingFeaturesError(DataError):
    """Training rows were asked for, and nothing can tell their features."""


class HistoryFileError(DataError):
    """A history file cannot be read as demand; the message names row and column."""


class SchemaMismatchError(DemandMaintError):
    """Features differ from what the model was trained on; `got` is their number where they come without names."""

    def __init__(self, expected: tuple[str, ...], got: tuple[str, ...] | int) -> None:
        self.expected = expected
        self.got = got
        if isinstance(got, int):
            super().__init__(
                f"Feature schema mismatch: the model needs {len(expected)} features, {got} columns were given. "
                "Give one column per feature, in the model's order, or a frame with their names."
            )
            return
        missing = [name for name in expected if name not in set(got)]
        extra = [name for name in got if name not in set(expected)]
        facts = [f"the model needs {len(expected)} features, {len(got)} were given"]
        if missing:
            facts.append(f"missing: {_some(missing)}")
        if extra:
            facts.append(f"not known to the model: {_some(extra)}")
        if not missing and not extra and expected != got:
            at = next(
                (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
            )
            facts.append(f"the order differs from position {at} on")
        super().__init__(
            f"Feature schema mismatch: {'; '.join(facts)}. Build the features with the builder the model was trained with."
        )


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


class TrainingError(DemandMaintError):
    """No challenger came out of a training."""


class TargetError(TrainingError):
    """The target holds values no model can learn from."""


class IncompatibleBaseError(TrainingError):
    """A warm start from this base would silently train something else."""


class TrainingFailedError(TrainingError):
    """The training child failed.

    Parameters
    ----------
    reason
        One word for programs: ``crashed``, ``killed``, ``deadline``, ``memory``, ``no-result``, ``error``, ``parent-gone``.
    detail
        What is known in words; the tail of the child's stderr among it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(
            f"Training failed ({reason}): {detail} The production model was not touched; the next check tries again after a pause."
        )


class TrainingCancelledError(TrainingError):
    """Training was asked to stop and did."""


class CatBoostMissingError(DemandMaintError):
    """CatBoost cannot be imported."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"CatBoost not available: {reason}. Install it with `pip install catboost`.")


class ModelFileError(DemandMaintError):
    """A model file cannot be used."""


class DamagedModelError(ModelFileError):
    """The bytes are no model, or not the ones that were committed."""


class ModelTooLargeError(ModelFileError):
    """The file is larger than ``storage.max_model_megabytes``."""


class UnsafePickleError(ModelFileError):
    """The pickle names a global that a CatBoostRegressor does not need; nothing of it was executed."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Refused to unpickle: the file names {name!r}, which no CatBoostRegressor needs. "
            "Nothing was executed. Save the model with model.save_model('model.cbm') and deploy that file."
        )


class RegistryError(DemandMaintError):
    """The registry of versions cannot do what was asked."""


class NoChampionError(RegistryError):
    """No model has been deployed in this root."""

    def __init__(self, root: str) -> None:
        super().__init__(
            f"No production model in {root}. Run `demand-maint init --history FILE`, or put rf_model.joblib and rf_model_metadata.json into data/models and run `demand-maint init`."
        )


class NothingToRollBackError(RegistryError):
    """There is no earlier healthy version."""


class DamagedRegistryError(RegistryError):
    """A commit or a version on disk is not what was written."""


class NewerFormatError(RegistryError):
    """A newer release wrote this; it is served, never changed."""


class LostRaceError(RegistryError):
    """Another champion was committed first."""

    def __init__(self, expected: int | None, found: int, champion: int) -> None:
        self.expected = expected
        self.found = found
        decided = "" if expected is None else f"decided on commit {expected}, "
        super().__init__(
            f"Another process changed the champion first: {decided}found commit {found} (champion version {champion}). "
            "Nothing was changed. Look at `demand-maint history` and decide again."
        )


class CommitUnconfirmedError(RegistryError):
    """The commit is there and serves, but a power loss now could take it back."""

    def __init__(self, number: int, reason: str) -> None:
        self.number = number
        super().__init__(
            f"Commit {number} is written and serves, but the disk did not confirm it: {reason}. "
            "Run `demand-maint verify` once the disk is well."
        )


class DeployRefusedError(RegistryError):
    """A model was looked at and refused; `reasons` are codes for programs."""

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        self.reasons = reasons
        super().__init__(message)


class PathError(RegistryError):
    """A path that would leave the root, or is none."""


class MaintainerBusyError(DemandMaintError):
    """Another process maintains this root."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"Another maintainer holds this root: {holder}. Predict, log, deploy and roll back work from here; maintain from there, or stop it."
        )


class UnsupportedFilesystemError(DemandMaintError):
    """The file system cannot keep the promises."""


class AttachError(DemandMaintError):
    """The object given cannot be attached to."""


class ClosedError(DemandMaintError):
    """Used after ``close()``."""
