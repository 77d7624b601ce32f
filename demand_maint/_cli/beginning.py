"""``init``: the first champion of a root, trained on a history or adopted from what was there."""

import argparse
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import structs

from demand_maint._cli.answers import Answer, configuration
from demand_maint._cli.running import columns
from demand_maint._cli.terminal import TrainingLine
from demand_maint._storage.door import Door
from demand_maint._storage.layout import WORK
from demand_maint._storage.lock import MaintainerLock, process_identity
from demand_maint._storage.tables import HistoryNotes, load_history
from demand_maint._training.pool import WorkerPool
from demand_maint._training.preparation import clean_up
from demand_maint.config import CONFIG_FILE, Config, effective_values
from demand_maint.core.first_look import first_look
from demand_maint.core.versions import Commit
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import ConfigError, DeployRefusedError
from demand_maint.maintenance import staged_metadata
from demand_maint.model_monitor import ModelMonitor
from demand_maint.train_model import FullRetrainer

__all__ = ["init"]

_SETTINGS = ("zone", "step", "horizon", "season", "missing_actual")


def init(arguments: argparse.Namespace) -> Answer:
    """Train the first champion on a history, or adopt ``rf_model.joblib`` and its metadata."""
    Path(arguments.root).mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    config = configuration(arguments, asked)
    _refuse_contradiction(arguments.root, asked)
    deployer = ModelDeployer(arguments.root, config)
    head = deployer.registry.head()
    if head is not None:
        raise DeployRefusedError(
            f"This root already has a champion: version {head.champion} serves. Use full-retrain or deploy for another.",
            ("not_empty",),
        )
    if arguments.history is None:
        commit = deployer.adopt(why=arguments.why)
        _write_settings(deployer.registry.door, asked)
        message = deployer.sentence(commit)
        return Answer({"success": True, "version": commit.champion, "adopted": True, "message": message}, message)
    return _from_history(arguments, config, deployer, asked)


def _from_history(
    arguments: argparse.Namespace, config: Config, deployer: ModelDeployer, asked: dict[str, str]
) -> Answer:
    frame, notes = load_history(arguments.history, config=config, columns=columns(arguments), combine=arguments.combine)
    with MaintainerLock(deployer.registry.door, who="demand-maint init"):
        commit = _train(deployer, config, frame, arguments.why or f"first champion, trained on {arguments.history}")
    _write_settings(deployer.registry.door, asked)
    metadata = deployer.registry.version(commit.champion).metadata
    advice = first_look(notes.spacing, notes.rows_a_day, config)
    message = (
        f"{deployer.sentence(commit)}\n{_read_words(notes)}\n"
        f"Trained on {metadata.rows} rows{_thinned(notes.kept, metadata.rows)} with {len(metadata.features)} features, {metadata.trees} trees{_figures(metadata.metrics)}."
        + "".join(f"\nNote: {line}" for line in advice)
    )
    return Answer(
        {
            "success": True,
            "version": commit.champion,
            "adopted": False,
            "history": asdict(notes),
            "advice": list(advice),
            "rows": metadata.rows,
            "features": len(metadata.features),
            "trees": metadata.trees,
            "metrics": metadata.metrics,
            "message": message,
        },
        message,
    )


def _thinned(kept: int, trained: int) -> str:
    return " out of these (as many as training.max_rows allows)" if trained < kept else ""


def _train(deployer: ModelDeployer, config: Config, frame: pl.DataFrame, why: str) -> Commit:
    """Train in a child, keep the history, commit; a kill before the commit leaves a root that `init` begins again."""
    registry, line = deployer.registry, TrainingLine(sys.stderr)
    job = FullRetrainer(deployer.root, config).prepare(frame, output_dir=WORK)
    # nobody's host yet: as fast as the machine goes, which changes no prediction
    job = structs.replace(job, threads=max(os.cpu_count() or 1, job.threads), nice=0)
    try:
        with WorkerPool(grace=config.runtime.grace_seconds) as pool:
            outcome = pool.run(job, on_progress=line)
        model = Path(outcome.model_path)
        data = Door(model.parent).read_bytes(model.name, limit=config.storage.max_model_megabytes << 20)
        version = registry.add_version(data, staged_metadata(outcome.metadata_path))
        with ModelMonitor(deployer.root, config, background=False) as monitor:
            monitor.import_history(frame)
        return deployer.promote(version.number, action="init", who=process_identity(), why=why, expect=0)
    finally:
        line.close()
        clean_up(job, challenger=True)


def _refuse_contradiction(root: str, asked: dict[str, str]) -> None:
    """Let settings be said once: in the file where there is one."""
    if not (Path(root) / CONFIG_FILE).exists():
        return
    values = effective_values(root, environment=True)
    for name, value in asked.items():
        if values[name][0] != value:
            raise ConfigError(
                f"--{name.replace('_', '-')} is {value!r}, but {CONFIG_FILE} of this root says {values[name][0]!r}. Change the file, or leave the option out."
            )


def _write_settings(door: Door, asked: dict[str, str]) -> None:
    if not asked or door.exists(CONFIG_FILE):
        return
    lines = ["# Written by `demand-maint init`; `demand-maint config` lists every setting."]
    lines += [f'{name} = "{value}"' for name, value in asked.items()]
    door.replace(CONFIG_FILE, ("\n".join(lines) + "\n").encode())


def _read_words(notes: HistoryNotes) -> str:
    said = [f"Read {notes.read} rows of {notes.places} places", f"kept {notes.kept}"]
    said += [f"{notes.missing} without an actual"] if notes.missing else []
    said += [f"{notes.same_slot} in a slot that had a row already"] if notes.same_slot else []
    said += [f"{notes.filled} gaps filled with zero"] if notes.filled else []
    if notes.since is not None and notes.until is not None:
        said.append(f"from {_day(notes.since)} to {_day(notes.until)}")
    return ", ".join(said) + "."


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")


def _figures(metrics: dict[str, Any]) -> str:
    mae, naive = metrics.get("mae"), metrics.get("naive_mae")
    if mae is None:
        return ""
    beside = f", seasonal naive {naive:.4g}" if naive else ""
    return f"; error on the newest rows, held back: {mae:.4g}{beside}"
