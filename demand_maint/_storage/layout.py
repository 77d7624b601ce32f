"""Where things are below the root."""

import re
from typing import Final

__all__ = [
    "ARCHIVE",
    "COMMITS",
    "DECISIONS",
    "EXPORT_HISTORY",
    "EXPORT_METADATA",
    "EXPORT_MODEL",
    "LOCK_FILE",
    "LOGS",
    "METADATA_FILE",
    "MODELS",
    "MODEL_FILE",
    "QUARANTINE",
    "STAGING",
    "STATE",
    "SUMS_FILE",
    "WORK",
    "commit_name",
    "commit_number",
    "retired_number",
    "version_dir",
    "version_number",
]

MODELS: Final = "data/models"
ARCHIVE: Final = f"{MODELS}/archive"
COMMITS: Final = f"{MODELS}/commits"
QUARANTINE: Final = f"{MODELS}/quarantine"
STAGING: Final = f"{MODELS}/finetuned"
WORK: Final = f"{MODELS}/work"
EXPORT_MODEL: Final = f"{MODELS}/rf_model.joblib"
EXPORT_METADATA: Final = f"{MODELS}/rf_model_metadata.json"
LOGS: Final = "logs"
STATE: Final = f"{LOGS}/state"
DECISIONS: Final = f"{LOGS}/decisions"
LOCK_FILE: Final = f"{LOGS}/maintainer.lock"
EXPORT_HISTORY: Final = f"{LOGS}/deployment_history.json"

MODEL_FILE: Final = "model.cbm"
METADATA_FILE: Final = "metadata.json"
SUMS_FILE: Final = "SHA256SUMS"

_COMMIT = re.compile(r"(\d{8})\.json(\.damaged)?")
_VERSION = re.compile(r"\d{6}")
_RETIRED = re.compile(r"\.tmp-[0-9a-f]+-retired-(\d{6})")


def commit_name(number: int) -> str:
    """File name of a commit."""
    return f"{number:08d}.json"


def commit_number(name: str) -> tuple[int, bool] | None:
    """Return the number of a commit's file name and whether it was set aside as damaged; ``None`` for another file."""
    match = _COMMIT.fullmatch(name)
    return (int(match[1]), match[2] is not None) if match else None


def version_dir(number: int) -> str:
    """Directory of a version."""
    return f"{ARCHIVE}/{number:06d}"


def version_number(name: str) -> int | None:
    """Return the number of a version's directory name; ``None`` for another entry."""
    return int(name) if _VERSION.fullmatch(name) else None


def retired_number(name: str) -> int | None:
    """Return the number of a version that retention is about to remove; ``None`` for another entry."""
    match = _RETIRED.fullmatch(name)
    return int(match[1]) if match else None
