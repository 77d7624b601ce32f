"""Subcommands that change what serves."""

import argparse
import sys
from pathlib import Path
from typing import Literal

from demand_maint._cli.answers import Answer, configuration
from demand_maint._cli.terminal import TrainingLine
from demand_maint.config import Config
from demand_maint.core.outcome_words import outcome_lines
from demand_maint.core.versions import Commit
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import DeployRefusedError
from demand_maint.exit_codes import DONE, STATUS_CODES

__all__ = ["deploy", "fine_tune", "full_retrain", "rollback", "update"]


def update(arguments: argparse.Namespace) -> Answer:
    """Check, decide, and see it through."""
    return _maintain(arguments, None)


def fine_tune(arguments: argparse.Namespace) -> Answer:
    """Fine-tune whatever the rules say."""
    return _maintain(arguments, "fine-tune")


def full_retrain(arguments: argparse.Namespace) -> Answer:
    """Retrain whatever the rules say."""
    return _maintain(arguments, "full-retrain")


def deploy(arguments: argparse.Namespace) -> Answer:
    """Validate a model file and make it champion."""
    deployer = ModelDeployer(arguments.root, configuration(arguments))
    commit = deployer.deploy_file(
        arguments.model or _newest_staged(deployer), arguments.metadata, force=arguments.force, why=arguments.why
    )
    return _deployed(deployer, commit)


def rollback(arguments: argparse.Namespace) -> Answer:
    """Go back to the champion before."""
    deployer = ModelDeployer(arguments.root, configuration(arguments))
    return _deployed(deployer, deployer.roll_back(why=arguments.why))


def _deployed(deployer: ModelDeployer, commit: Commit) -> Answer:
    message = deployer.sentence(commit)
    return Answer(
        {
            "success": True,
            "version": commit.champion,
            "previous": commit.previous,
            "commit": commit.number,
            "verdict": commit.verdict,
            "message": message,
        },
        message,
    )


def _newest_staged(deployer: ModelDeployer) -> Path:
    staged = deployer.staged()
    if not staged:
        raise DeployRefusedError(
            "No model waits in data/models/finetuned. Run `demand-maint fine-tune`, or name a file.", ("missing",)
        )
    # fine-tuned models carry the moment they were made in their names; they go before files of other names
    ours = [name for name in staged if Path(name).name.startswith("rf_model_finetuned_")]
    return deployer.registry.door.path(max(ours or staged))


def _maintain(arguments: argparse.Namespace, force: Literal["fine-tune", "full-retrain"] | None) -> Answer:
    from demand_maint.model_manager import HybridModelManager

    config: Config = configuration(arguments)
    line = TrainingLine(sys.stderr, force or "training")
    try:
        with HybridModelManager(arguments.root, config=config, who="operator" if force else "") as manager:
            result = manager.update_model(force, on_progress=line)
    finally:
        line.close()
    return Answer(result, "\n".join(outcome_lines(result)), STATUS_CODES.get(str(result["status"]), DONE))
