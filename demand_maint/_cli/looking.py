"""Subcommands that look and change nothing but exports."""

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand_maint._cli.answers import Answer, configuration, when
from demand_maint._storage.history import describe, history_line
from demand_maint.config import Config, effective_values
from demand_maint.core.status_words import decision_lines, evidence_lines, status_lines
from demand_maint.errors import ConfigError, NoChampionError
from demand_maint.exit_codes import ACTION_NEEDED, DONE, FAILED

if TYPE_CHECKING:
    from demand_maint.model_monitor import ModelMonitor

__all__ = ["check", "config", "export", "history", "report", "status", "verify"]


def status(arguments: argparse.Namespace) -> Answer:
    """Tell what serves, how it does, and what the next check would do."""
    found = _manager_status(arguments, configuration(arguments))
    return Answer(found, "\n".join(status_lines(found)), _needed(arguments, found))


def check(arguments: argparse.Namespace) -> Answer:
    """Assess and decide without acting."""
    found = _manager_status(arguments, configuration(arguments))
    decision = found["decision"]
    if decision is None:
        raise NoChampionError(str(Path(arguments.root).absolute()))
    lines = [*decision_lines(decision), *evidence_lines(decision["evidence"])]
    return Answer({"status": found["status"], **decision}, "\n".join(lines), _needed(arguments, found))


def history(arguments: argparse.Namespace) -> Answer:
    """List every change, or what was live at a time."""
    from demand_maint._storage.registry import Registry

    settings = configuration(arguments)
    registry = Registry(arguments.root, read_only=True)
    at = when(arguments.at, settings, "--at")
    if at is not None:
        commit = registry.champion_at(at)
        if commit is None:
            text = f"Nothing was live at {arguments.at}."
            return Answer({"version": None, "at": at, "message": text}, text, FAILED)
        entry = describe(commit)
        return Answer(entry, f"Version {commit.champion} was live at {arguments.at}, by\n{history_line(entry)}")
    entries = registry.history()
    if arguments.last is not None:
        entries = entries[-arguments.last :]
    return Answer(entries, "\n".join(map(history_line, entries)) or "Nothing was deployed here yet.")


def config(arguments: argparse.Namespace) -> Answer:
    """List every setting with its origin."""
    configuration(arguments)
    values = effective_values(arguments.root, environment=True)
    width = max(len(f"{path} = {_toml(value)}") for path, (value, _) in values.items())
    lines = [f"{f'{path} = {_toml(value)}':{width}}  # {origin}" for path, (value, origin) in values.items()]
    return Answer(
        {path: {"value": value, "origin": origin} for path, (value, origin) in values.items()}, "\n".join(lines)
    )


def verify(arguments: argparse.Namespace) -> Answer:
    """Check every model, commit and log segment."""
    from demand_maint._storage.door import Door
    from demand_maint._storage.registry import Registry
    from demand_maint._storage.sealed import QUARANTINE

    settings = configuration(arguments)
    problems = Registry(arguments.root, read_only=True).verify()
    aside = Door(arguments.root).listdir(QUARANTINE)
    with _monitor(arguments, settings) as monitor:
        problems += [
            f"{path} is damaged. Put it back from a backup, or go on without its rows." for path in monitor.verify()
        ]
    problems += [f"set aside earlier: {QUARANTINE}/{name}" for name in aside]
    text = "\n".join(problems) or "Everything is as it was written."
    return Answer({"ok": not problems, "problems": problems}, text, FAILED if problems else DONE)


def export(arguments: argparse.Namespace) -> Answer:
    """Write the records to a file, and renew exports that are out of date."""
    from demand_maint.deploy_model import ModelDeployer
    from demand_maint.model_monitor import NO_LOG

    settings = configuration(arguments)
    since, until = when(arguments.since, settings, "--since"), when(arguments.until, settings, "--until")
    to_stdout = arguments.out == "-"
    if to_stdout and (arguments.format != "csv" or arguments.json):
        raise ConfigError("--out - is for CSV without --json. Name a file.")
    renewed = ModelDeployer(arguments.root, settings).exports.refresh()
    path = Path(arguments.out or Path(arguments.root) / "logs" / f"predictions_export.{arguments.format}")
    with _monitor(arguments, settings) as monitor:
        if not monitor.has_log():
            text = NO_LOG.format(root=monitor.root)
            return Answer({"rows": 0, "path": None, "renewed": renewed, "error": text}, text, FAILED)
        if not to_stdout:
            path.parent.mkdir(parents=True, exist_ok=True)
        # not /dev/stdout: opening that would empty a file that `>>` adds to; and not by polars, whose broken pipe has no errno
        target = io.BytesIO() if to_stdout else path
        rows = monitor.export(target, since=since, until=until, kind=arguments.format)
    if isinstance(target, io.BytesIO):
        sys.stdout.buffer.write(target.getbuffer())
        sys.stdout.flush()
    text = "" if to_stdout else f"{rows} records written to {path}."
    if renewed and not to_stdout:
        text += f"\nRenewed: {', '.join(renewed)}."
    return Answer({"rows": rows, "path": str(path), "format": arguments.format, "renewed": renewed}, text)


def report(arguments: argparse.Namespace) -> Answer:
    """Write the page."""
    from demand_maint.report import write_report

    path = write_report(arguments.root, arguments.out, configuration(arguments))
    return Answer({"path": str(path), "bytes": path.stat().st_size}, f"Report: {path}")


def _monitor(arguments: argparse.Namespace, settings: Config) -> "ModelMonitor":
    """Open the monitor as a guest: with a lock nobody takes, so that nothing is sealed or saved by looking."""
    from demand_maint._storage.door import Door
    from demand_maint._storage.lock import MaintainerLock
    from demand_maint.model_monitor import ModelMonitor

    lock = MaintainerLock(Door(arguments.root), who=f"demand-maint {arguments.command}")
    return ModelMonitor(arguments.root, settings, lock=lock, background=False)


def _manager_status(arguments: argparse.Namespace, settings: Config) -> dict[str, Any]:
    from demand_maint.model_manager import HybridModelManager

    with HybridModelManager(arguments.root, config=settings) as manager:
        return manager.status()


def _needed(arguments: argparse.Namespace, found: dict[str, Any]) -> int:
    """Return 3 where it was asked for and something is to be done."""
    decision = found["decision"]
    acts = decision is None or decision["action"] != "nothing"
    return ACTION_NEEDED if arguments.exit_code and acts else DONE


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "none" if value is None else str(value)
