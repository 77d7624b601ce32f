"""One self-contained HTML page about a maintained root, or about a replay."""

from importlib import resources

from demand_maint.core.page import render_page
from demand_maint.core.report_data import ReportData

__all__ = ["page_assets", "report_html"]


def page_assets() -> tuple[str, str]:
    """Style sheet and script of the page, as shipped in the package."""
    folder = resources.files("demand_maint") / "_page"
    return (folder / "page.css").read_text(encoding="utf-8"), (folder / "page.js").read_text(encoding="utf-8")


def report_html(data: ReportData) -> str:
    """Return the page of `data`: one HTML document that loads nothing."""
    return render_page(data, *page_assets())
