"""What waits in staging, and what trainings leave there and in their work folder."""

import re
from datetime import UTC, datetime, timedelta

from demand_maint._storage.door import Door
from demand_maint._storage.layout import STAGING, WORK

__all__ = ["newest_tune", "staged", "tidy_staging", "tidy_work"]

# a model that a training child staged, by the moment in its name
_CHALLENGER = re.compile(r"rf_model_(?:finetuned|full)_(\d{8}T\d{6}Z(?:-\d+)?)\.cbm")
# rows of a training, or of a comparison; a job that was killed with its host leaves them
_ROWS = re.compile(r"rf_model_(?:finetuned|full)_(\d{8}T\d{6}Z).*\.parquet")
_LEFT_OVER_DAYS = 2


def staged(door: Door) -> list[str]:
    """Paths of the models that wait, our own by age, the newest last."""
    names = [name for name in door.listdir(STAGING) if name.endswith((".cbm", ".joblib"))]
    names.sort(key=lambda name: match[1] if (match := _CHALLENGER.fullmatch(name)) else "")
    return [f"{STAGING}/{name}" for name in names]


def newest_tune(folder: Door) -> str | None:
    """Name of the newest fine-tuned model of a folder by the stamp in its name, else of the newest file by name."""
    names = [name for name in folder.listdir() if name.endswith((".cbm", ".joblib"))]
    stamped = [name for name in names if name.startswith("rf_model_finetuned_")]
    return max(stamped or names) if names else None


def tidy_staging(door: Door, keep: int) -> None:
    """Let all but the newest `keep` challengers of our own making go; what others put there stays."""
    made = [(match[1], name) for name in door.listdir(STAGING) if (match := _CHALLENGER.fullmatch(name))]
    for _, name in sorted(made)[:-keep]:
        door.unlink(f"{STAGING}/{name}", missing_ok=True)
        door.unlink(f"{STAGING}/{name.removesuffix('.cbm')}_metadata.json", missing_ok=True)


def tidy_work(door: Door, now: float) -> None:
    """Let rows go that no job can be using any more."""
    oldest = datetime.fromtimestamp(now, UTC) - timedelta(days=_LEFT_OVER_DAYS)
    for name in door.listdir(WORK):
        made = _ROWS.fullmatch(name)
        if made is not None and made[1] < f"{oldest:%Y%m%dT%H%M%SZ}":
            door.unlink(f"{WORK}/{name}", missing_ok=True)
