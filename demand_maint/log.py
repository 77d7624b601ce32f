"""Structured log lines through the standard library, configured by nobody but the host.

An unconfigured `structlog.get_logger()` prints to stdout; wrapping the standard logger keeps the host in charge.
"""

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import structlog

__all__ = ["get_logger"]

_OPTIONS: Final = ("exc_info", "stack_info", "stacklevel")

logging.getLogger("demand_maint").addHandler(logging.NullHandler())


def get_logger(part: str) -> "structlog.stdlib.BoundLogger":
    """Return the logger ``demand_maint.<part>``; an event and its keys are one line, and fields of the `logging.LogRecord`."""
    return cast("structlog.stdlib.BoundLogger", _Late(part))


def _as_log_call(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn an event into a call of `logging`: an unconfigured formatter tells everything, one for machines finds the fields."""
    said = str(event.pop("event"))
    options = {name: event.pop(name) for name in _OPTIONS if name in event}
    line = said.replace("%", "%%") + "".join(f" {name}=%s" for name in event)
    return (line, *event.values()), {**options, "extra": {"event": said, **event}}


class _Late:
    """A logger that imports structlog, a tenth of a second and more, with the first line that is logged."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for these before there is a part
            raise AttributeError(name)
        import structlog  # noqa: PLC0415  # see above

        logger = structlog.wrap_logger(
            logging.getLogger(f"demand_maint.{self._part}"),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                _as_log_call,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        found = getattr(logger, name)
        setattr(self, name, found)  # the next line finds it without asking again
        return found
