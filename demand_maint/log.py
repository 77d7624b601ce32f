"""Structured log lines through the standard library, configured by nobody but the host.

An unconfigured `structlog.get_logger()` prints to stdout; wrapping the standard logger keeps the host in charge.
"""

import logging
from typing import cast

import structlog

__all__ = ["get_logger"]

logging.getLogger("demand_maint").addHandler(logging.NullHandler())


def get_logger(part: str) -> structlog.stdlib.BoundLogger:
    """Return the logger ``demand_maint.<part>``; keys of an event become fields of the `logging.LogRecord`."""
    return cast(
        "structlog.stdlib.BoundLogger",
        structlog.wrap_logger(
            logging.getLogger(f"demand_maint.{part}"),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.render_to_log_kwargs,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
    )
