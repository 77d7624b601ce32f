"""One self-contained HTML page about a maintained root, or about a replay."""

from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from demand_maint._storage.door import Door
from demand_maint._storage.ledger_file import LedgerFile
from demand_maint._storage.serving_store import serving_store, stored_serving
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.core.health import HealthReport
from demand_maint.core.page import render_page
from demand_maint.core.report_data import ReportData, Story
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.story import StorySources, tell_story
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import DemandMaintError
from demand_maint.input_drift import changes
from demand_maint.model_manager import HybridModelManager

__all__ = ["REPORT_FILE", "page_assets", "report_data", "report_html", "story_of", "write_page", "write_report"]

REPORT_FILE = "logs/report.html"
LEAST_ROWS = 50


def page_assets() -> tuple[str, str]:
    """Style sheet and script of the page, as shipped in the package."""
    folder = resources.files("demand_maint") / "_page"
    return (folder / "page.css").read_text(encoding="utf-8"), (folder / "page.js").read_text(encoding="utf-8")


def report_html(data: ReportData) -> str:
    """Return the page of `data`: one HTML document that loads nothing."""
    return render_page(data, *page_assets())


def story_of(
    manager: HybridModelManager,
    name: str,
    *,
    snapshots: Sequence[ServingSnapshot] | None = None,
    since: float | None = None,
    health: HealthReport | None = None,
) -> Story:
    """Tell what happened in a manager's root, from its registry, decision journal, sums and serving snapshots.

    Parameters
    ----------
    snapshots
        Serving snapshots, oldest first; those still on disk by default.
    since
        First moment that is told, epoch seconds; everything by default.
    health
        How the champion does; as of now by default.
    """
    registry, now = manager.registry, manager.clock.now()
    commits = registry.commits()
    head = commits[-1] if commits else None
    if health is None and head is not None:
        health = manager.monitor.report(days=manager.config.policy.window_days, details=True)
    importances: dict[str, float] = {}
    psi: dict[str, float | None] = {}
    if head is not None:
        with suppress(DemandMaintError):  # a damaged version has no story of its features; the rest is told
            champion = registry.version(head.champion).metadata
            importances, psi = champion.importances, _input_drift(manager, champion)
    return tell_story(
        StorySources(
            name=name,
            now=now,
            config=manager.config,
            view=manager.monitor,
            commits=commits,
            decisions=list(manager.decisions.read(since=since)),
            snapshots=list(stored_serving(serving_store(registry.door))) if snapshots is None else snapshots,
            health=health,
            ledger=LedgerFile(registry.door).load(),
            importances=importances,
            psi=psi,
            since=since,
        )
    )


def report_data(
    root: str | Path = ".",
    config: Config | None = None,
    clock: Clock | None = None,
    *,
    manager: HybridModelManager | None = None,
) -> ReportData:
    """Gather the page of one root; changes nothing there but counting what was logged.

    Parameters
    ----------
    manager
        One that is open on the root already; one of its own by default.
    """
    own = manager is None
    used = manager if manager is not None else HybridModelManager(root, config=config, clock=clock)
    try:
        used.monitor.drain()
        story = story_of(used, used.root.resolve().name or "root")
        return ReportData(
            title="Model maintenance",
            generated_at=used.clock.now(),
            zone=used.config.zone,
            source=str(used.root.resolve()),
            stories=(story,),
        )
    finally:
        if own:
            used.close()


def write_report(
    root: str | Path = ".",
    out: str | Path | None = None,
    config: Config | None = None,
    clock: Clock | None = None,
    *,
    manager: HybridModelManager | None = None,
) -> Path:
    """Write the page of a root and return its path; ``logs/report.html`` in the root where `out` is ``None``."""
    html = report_html(report_data(root, config, clock, manager=manager))
    return write_page(html, Path(root) / REPORT_FILE if out is None else Path(out))


def write_page(html: str, path: Path) -> Path:
    """Put a page where the user wants it, whole or not at all."""
    door = Door(path.absolute().parent)
    door.makedirs(".")
    door.replace(path.name, html.encode())
    return path


def _input_drift(manager: HybridModelManager, champion: ModelMetadata) -> dict[str, float | None]:
    """How far the features of the newest rows have moved from those the champion was trained on."""
    try:
        rows = manager.monitor.get_training_data(days=manager.config.policy.window_days, min_samples=LEAST_ROWS)
    except DemandMaintError:  # too few rows, or nothing tells their features: the page does without
        return {}
    return {drift.feature: drift.psi for drift in changes(rows, champion)}
