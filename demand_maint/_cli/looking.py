"""Subcommands that look and change nothing but exports."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demand_maint._cli.answers import ACTION_NEEDED, DONE, FAILED, Answer, configuration, when
from demand_maint._storage.history import describe, history_line
from demand_maint.config import Config, effective_values
from demand_maint.errors import ConfigError, NoChampionError

if TYPE_CHECKING:
    from demand_maint.model_monitor import ModelMonitor

__all__ = ["check", "config", "export", "history", "report", "status", "verify"]


def status(arguments: argparse.Namespace) -> Answer:
    """Tell what serves, how it does, and what the next check would do."""
    found = _manager_status(arguments, configuration(arguments))
    return Answer(found, "\n".join(_status_lines(found)), _needed(arguments, found))


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
        entries = entries[-arguments.last :] if arguments.last > 0 else []
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
    from demand_maint._storage.registry import Registry

    settings = configuration(arguments)
    problems = Registry(arguments.root, read_only=True).verify()
    with _monitor(arguments, settings) as monitor:
        problems += monitor.verify()
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
        target = Path("/dev/stdout") if to_stdout else path
        sys.stdout.flush()
        rows = monitor.export(target, since=since, until=until, kind=arguments.format)
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


def _status_lines(found: dict[str, Any]) -> Iterator[str]:
    deployment = found["deployment"]
    yield f"root        {deployment['root']}"
    yield f"status      {found['status']}"
    if deployment["version"] is None:
        yield "champion    none; run `demand-maint init --history FILE`"
        yield from _waiting(deployment)
        return
    parts = [f"version {deployment['version']}"]
    if "kind" in deployment:
        parts.append(f"{deployment['kind']}, {deployment['trees']} trees, {deployment['features']} features")
    yield f"champion    {' - '.join(parts)}, since {deployment['since']} ({deployment['why']})"
    if "problem" in deployment:
        yield f"problem     {deployment['problem']}"
    yield f"line-up     {', '.join(deployment['line_up']) or 'the champion alone'}"
    health = found["health"]
    yield (
        f"error       {_figure(health['mae'])} over {health['n']} rows; expected {_figure(health['baseline_mae'])}; "
        f"degradation {_percent(health['degradation'])}"
    )
    drifting = [place for place in health["places"] if place["drifting"]]
    if drifting:
        yield f"got worse   {_listed(map(_drifting, drifting))}"
    if health["feed"]:
        yield f"feed        {_listed(f'{place}: {fault}' for place, fault in health['feed'].items())}"
    yield from decision_lines(found["decision"])
    yield from _maintenance_lines(found["maintenance"])
    target = deployment["rollback_to"]
    yield f"roll back   {'nothing to go back to' if target is None else f'to version {target}'}"
    yield from _waiting(deployment)


def _waiting(deployment: dict[str, Any]) -> Iterator[str]:
    if deployment["staged"]:
        shown = [path.rpartition("/")[2] for path in deployment["staged"][-3:]]
        more = len(deployment["staged"]) - len(shown)
        yield f"staged      {', '.join(shown)}" + (f" and {more} older" if more else "")
    if deployment.get("stale_exports"):
        yield f"not exported {', '.join(deployment['stale_exports'])}; `demand-maint export` writes them"


def _maintenance_lines(maintenance: dict[str, Any]) -> Iterator[str]:
    yield f"last check  {stamp(maintenance['last_check_at']) or 'never'}"
    paused = stamp(maintenance["cooldown_until"])
    yield (
        f"trainings   {maintenance['trainings_this_week']} in the last 7 days, {maintenance['fine_tunes']} fine-tunes since the last full retrain"
        + (f"; paused until {paused}" if paused else "")
    )


def decision_lines(decision: dict[str, Any]) -> Iterator[str]:
    """Say a decision in a line or two."""
    yield f"decision    {decision['action']}: {decision['reason']}"
    if decision["blocked_by"]:
        yield f"held back   {decision['proposed']} ({decision['rule']}) by {decision['blocked_by']}"


def evidence_lines(evidence: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    """Say what a decision stands on, one figure a line."""
    for name, value in evidence.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from evidence_lines(value, f"{indent}  ")
        elif value not in (None, "", [], {}):
            moment = isinstance(value, float) and name.endswith(("_at", "_until", "since"))
            said = stamp(value) if moment else _figure(value) if isinstance(value, float) else str(value)
            yield f"{indent}{name}: {said}"


def stamp(epoch: float | None) -> str | None:
    """Return an epoch second as people read it, in UTC."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _drifting(place: dict[str, Any]) -> str:
    return f"{place['place']} ({_percent(place['degradation'])})"


def _listed(words: Iterable[str], limit: int = 5) -> str:
    every = list(words)
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:+.1f} %"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "none" if value is None else str(value)
