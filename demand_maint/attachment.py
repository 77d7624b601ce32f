"""How a runtime takes hold of a collector, and lets go of it as it was.

Three kinds of collectors: one that implements `Collector` is asked; any other object with `collect_for_all_venues` has that
method wrapped on the instance and is given ``monitor`` and ``model``; ``None`` means that the host calls the runtime itself.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, runtime_checkable

from demand_maint.errors import AttachError

__all__ = ["Attachment", "Collector", "Maintenance", "News", "attachment_of", "check_attachable", "mark", "unmark"]

METHOD: Final = "collect_for_all_venues"
MARK: Final = "_demand_maint_runtime"
_ALTERNATIVES: Final = (
    "Give the class a __dict__ (or list '__dict__' in __slots__), implement demand_maint.attachment.Collector, "
    "or attach nothing and call runtime.monitor, runtime.model and runtime.maintenance() yourself."
)
_ABSENT: Final = object()


class Maintenance(Protocol):
    """What an attached collector sees of its runtime."""

    @property
    def monitor(self) -> Any:
        """The `ModelMonitor` to log to."""

    @property
    def model(self) -> Any:
        """The `ModelHandle` to predict with."""

    @property
    def serves(self) -> bool:
        """Whether there is a champion to predict with."""

    def maintenance(self) -> dict[str, Any] | None:
        """News for a collection's result: an outcome nobody has seen yet, ``{"status": "running"}``, or nothing."""


class News(Protocol):
    """Where the wrapper of a collection looks for news."""

    #: Whether there are any; a plain attribute, so that looking costs next to nothing.
    stirring: bool

    def news(self) -> dict[str, Any] | None:
        """Return an outcome nobody has seen yet, ``{"status": "running"}``, or nothing."""


@runtime_checkable
class Collector(Protocol):
    """A collector that knows of maintenance: it is told when it begins and when it ends."""

    def maintenance_attached(self, maintenance: Maintenance) -> None:
        """Use this monitor and model from now on, and leave checks to the runtime."""

    def maintenance_detached(self) -> None:
        """Go on alone, as before."""


class Attachment:
    """One collector, taken hold of; `detach` undoes exactly what was done.

    Parameters
    ----------
    collector
        The user's object.
    maintenance
        What it is given.
    news
        What a collection's result is told.
    """

    def __init__(self, collector: Any, maintenance: Maintenance, news: News) -> None:
        check_attachable(collector)
        self._collector = collector
        self._maintenance = maintenance
        self._news = news
        self._saved: dict[str, Any] = {}
        self._given: dict[str, Any] = {}
        self._on = True
        self._cooperates = isinstance(collector, Collector)
        try:
            self._take_hold()
        except BaseException:
            self.detach()
            raise

    def _take_hold(self) -> None:
        if self._cooperates:
            self._collector.maintenance_attached(self._maintenance)
            return
        self._set(METHOD, self._wrapper(getattr(self._collector, METHOD)))
        self._set("monitor", self._maintenance.monitor)
        self.give_model()

    def give_model(self) -> None:
        """Put the handle where the collector's model is, once there is a champion."""
        if self._on and not self._cooperates and "model" not in self._given and self._maintenance.serves:
            self._set("model", self._maintenance.model)

    def detach(self) -> bool:
        """Restore the object; False where somebody wrapped the method after us: then our wrapper stays and does nothing."""
        if not self._on:
            return True
        self._on = False
        clean = True
        if self._cooperates:
            self._collector.maintenance_detached()
        for name, given in reversed(self._given.items()):
            clean &= self._restore(name, given)
        return clean

    def _set(self, name: str, value: Any) -> None:
        saved = self._own(name)
        try:
            setattr(self._collector, name, value)
        except (AttributeError, TypeError) as error:
            raise AttachError(
                f"{type(self._collector).__name__}.{name} cannot be set ({error}). {_ALTERNATIVES}"
            ) from error
        self._saved[name], self._given[name] = saved, value

    def _restore(self, name: str, given: Any) -> bool:
        if self._own(name) is not given:
            return name != METHOD  # replaced by the host meanwhile: theirs stays
        if self._saved[name] is _ABSENT:
            delattr(self._collector, name)
        else:
            setattr(self._collector, name, self._saved[name])
        return True

    def _own(self, name: str) -> Any:
        """Return what the instance itself holds under `name`: the value of a property or slot, or its ``__dict__`` entry."""
        if hasattr(inspect.getattr_static(type(self._collector), name, None), "__set__"):
            return getattr(self._collector, name, _ABSENT)
        return getattr(self._collector, "__dict__", {}).get(name, _ABSENT)

    def _wrapper(self, collect: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `collect`; as this costs every collection, one argument goes on as one, and only news are asked for."""
        attachment, news = self, self._news
        if inspect.iscoroutinefunction(collect):

            @functools.wraps(collect)
            async def acollect(first: Any = _ABSENT, /, *rest: Any, **named: Any) -> Any:
                if first is _ABSENT or rest or named:
                    result = await collect(*(() if first is _ABSENT else (first, *rest)), **named)
                else:
                    result = await collect(first)
                if type(result) is dict and attachment._on:
                    result["maintenance"] = news.news() if news.stirring else None
                    return result
                return attachment._told(result)

            return acollect

        @functools.wraps(collect)
        def collect_and_tell(first: Any = _ABSENT, /, *rest: Any, **named: Any) -> Any:
            if first is _ABSENT or rest or named:
                result = collect(*(() if first is _ABSENT else (first, *rest)), **named)
            else:
                result = collect(first)
            if type(result) is dict and attachment._on:
                result["maintenance"] = news.news() if news.stirring else None
                return result
            return attachment._told_later(result) if inspect.isawaitable(result) else attachment._told(result)

        return collect_and_tell

    async def _told_later(self, awaitable: Any) -> Any:
        return self._told(await awaitable)

    def _told(self, result: Any) -> Any:
        if not self._on or not isinstance(result, Mapping):
            return result
        if isinstance(result, dict):
            result["maintenance"] = self._news.news()
            return result
        return {**result, "maintenance": self._news.news()}


def mark(collector: Any, holder: Any) -> None:
    """Note on `collector` who holds it; one with ``__slots__`` keeps no such note."""
    with suppress(AttributeError, TypeError):
        object.__setattr__(collector, MARK, holder)


def unmark(collector: Any) -> None:
    """Forget who held `collector`."""
    with suppress(AttributeError, TypeError):
        object.__delattr__(collector, MARK)


def attachment_of(collector: Any) -> Any:
    """Return who holds `collector`, or ``None``."""
    return getattr(collector, "__dict__", {}).get(MARK)


def check_attachable(collector: Any) -> None:
    """Raise `AttachError` where `collector` is of none of the kinds, saying what to do instead."""
    if isinstance(collector, Collector):
        return
    if inspect.isclass(collector):
        raise AttachError(f"{collector.__name__} is a class. Attach to an instance: attach({collector.__name__}(...)).")
    if not callable(getattr(collector, METHOD, None)):
        raise AttachError(
            f"{type(collector).__name__} has no method {METHOD}. Implement demand_maint.attachment.Collector, "
            "or attach nothing and call runtime.monitor, runtime.model and runtime.maintenance() yourself."
        )
    if not hasattr(collector, "__dict__"):
        raise AttachError(
            f"{type(collector).__name__} has __slots__ and no __dict__, so that {METHOD} cannot be wrapped on the instance. {_ALTERNATIVES}"
        )
