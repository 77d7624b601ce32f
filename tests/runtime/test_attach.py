"""Taking hold of a collector and giving it back as it was."""

import asyncio
import functools
import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from demand_maint.errors import AttachError

if TYPE_CHECKING:
    from tests.runtime.conftest import Stage
else:
    Stage = Any


class Sync:
    """A collector of somebody else's making."""

    def __init__(self) -> None:
        self.model: Any = "their model"

    def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:
        """Collect."""
        return {"rows": [self.model for _ in venues]}


class Async(Sync):
    """The same, asynchronous."""

    async def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:  # type: ignore[override] # on purpose
        """Collect."""
        await asyncio.sleep(0)
        return {"rows": [self.model for _ in venues]}


class Slotted:
    """No instance dictionary."""

    __slots__ = ("model",)

    def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:
        return {}


class Knowing:
    """Implements the Collector protocol, with slots even."""

    __slots__ = ("maintenance",)

    def __init__(self) -> None:
        self.maintenance: Any = None

    def maintenance_attached(self, maintenance: Any) -> None:
        self.maintenance = maintenance

    def maintenance_detached(self) -> None:
        self.maintenance = None


@pytest.mark.parametrize("kind", [Sync, Async])
async def test_a_plain_collector_gets_monitor_model_and_maintenance(stage: Stage, kind: type[Sync]) -> None:
    """Attached, it predicts through the handle, has a monitor, and its result tells of maintenance; afterwards it is as before."""
    collector = kind()
    before = dict(vars(collector))
    async with stage.attach(collector) as runtime:
        assert vars(collector)["monitor"] is runtime.monitor
        await stage.until(lambda: runtime.status()["last_result"])
        answer: Any = collector.collect_for_all_venues([1, 2])
        if kind is Async:
            assert inspect.iscoroutinefunction(collector.collect_for_all_venues)
            answer = await answer
        assert answer["rows"] == [runtime.model, runtime.model]
        assert answer["maintenance"]["status"] == "no_action"
        again: Any = collector.collect_for_all_venues([])
        again = await again if kind is Async else again
        assert again["maintenance"] is None
        assert collector.collect_for_all_venues.__doc__ == "Collect."
    assert vars(collector) == before
    assert runtime.closed


async def test_while_a_training_runs_the_result_says_so_and_later_gives_the_outcome(stage: Stage) -> None:
    """Collection never waits for training: running first, then the outcome, then nothing."""
    collector = Sync()
    runtime, parts = await stage.open(collector)
    await stage.until(lambda: runtime.status()["last_result"])
    assert runtime.maintenance()
    parts.script, parts.act = stage.training, parts.train_until_cancelled
    update = asyncio.ensure_future(runtime.update_now("fine-tune"))
    await stage.until(lambda: runtime.status()["running"])
    for _ in range(2):
        assert collector.collect_for_all_venues([1])["maintenance"]["status"] == "running"
    parts.cancelled.set()
    await update
    assert collector.collect_for_all_venues([1])["maintenance"]["status"] == "cancelled"
    assert collector.collect_for_all_venues([1])["maintenance"] is None


async def test_attaching_again_is_the_same_runtime_and_the_inner_exit_leaves_it_open(stage: Stage) -> None:
    """attach() is idempotent per object and root; only the outermost context closes."""
    collector = Sync()
    async with stage.attach(collector) as first:
        async with stage.attach(collector) as second:
            assert second is first
        assert not first.closed
        with pytest.raises(AttachError, match=r"attached to .* already"):
            stage.attach(collector, root=stage.path / "other")
    third = stage.attach(collector)
    assert third is not first
    async with third:
        assert third.role in {"leader", "follower"}


async def test_a_wrapper_around_ours_is_not_undone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody wrapped after us: on closing theirs stays and works, ours inside does nothing any more, and it is logged."""
    collector = Sync()
    runtime, _ = await stage.open(collector)
    inner = collector.collect_for_all_venues

    @functools.wraps(inner)
    def theirs(venues: list[int]) -> dict[str, Any]:
        return inner(venues) | {"theirs": True}

    collector.collect_for_all_venues = theirs  # type: ignore[method-assign] # what wrappers do
    assert collector.collect_for_all_venues([])["theirs"]
    await runtime.aclose()
    assert collector.collect_for_all_venues([]) == {"rows": [], "theirs": True}
    assert collector.model == "their model"
    assert "another wrapper stands around ours" in caplog.text


async def test_what_the_host_replaced_meanwhile_stays_theirs(stage: Stage) -> None:
    """A model the host set after attaching is not overwritten on closing."""
    collector = Sync()
    runtime, _ = await stage.open(collector)
    collector.model = "a newer one of theirs"
    await runtime.aclose()
    assert collector.model == "a newer one of theirs"


async def test_own_instance_attributes_come_back(stage: Stage) -> None:
    """A method or monitor that stood on the instance before is there again afterwards."""
    collector = Sync()
    own = functools.partial(Sync.collect_for_all_venues, collector)
    collector.collect_for_all_venues = own  # type: ignore[method-assign] # as in the wild
    collector.monitor = "theirs"  # type: ignore[attr-defined] # as in the wild
    runtime, _ = await stage.open(collector)
    assert "maintenance" in collector.collect_for_all_venues([])
    await runtime.aclose()
    assert collector.collect_for_all_venues is own
    assert collector.monitor == "theirs"  # type: ignore[attr-defined] # as in the wild


async def test_a_model_property_is_set_and_restored(stage: Stage) -> None:
    """Where model is a property with a setter, it is given the handle and gets its old value back."""

    class WithProperty(Sync):
        @property
        def model(self) -> Any:
            return self._model

        @model.setter
        def model(self, value: Any) -> None:
            self._model = value

    collector = WithProperty()
    runtime, _ = await stage.open(collector)
    assert collector.model is runtime.model
    await runtime.aclose()
    assert collector.model == "their model"


async def test_a_read_only_model_property_is_explained_and_nothing_stays_changed(stage: Stage) -> None:
    """Where model cannot be set, attaching fails with what to do, and the method is unwrapped again."""

    class ReadOnly:
        model = property(lambda self: "theirs")

        def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:
            return {}

    collector = ReadOnly()
    runtime = stage.attach(collector)
    with pytest.raises(
        AttachError, match=r"ReadOnly\.model cannot be set.*implement demand_maint\.attachment\.Collector"
    ):
        await runtime.start()
    assert vars(collector) == {}
    assert stage.parts[0].closed
    assert stage.root.holder is None


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Slotted(), "Slotted has __slots__ and no __dict__.*list '__dict__' in __slots__"),
        (object(), "object has no method collect_for_all_venues"),
        (Sync, r"Sync is a class.*attach\(Sync"),
    ],
)
async def test_what_cannot_be_attached_to_is_told_at_once(stage: Stage, thing: Any, message: str) -> None:
    """attach() itself raises AttachError, naming the alternatives."""
    with pytest.raises(AttachError, match=message):
        stage.attach(thing)


async def test_a_collector_that_knows_of_maintenance_is_asked_not_wrapped(stage: Stage) -> None:
    """The Collector protocol works for classes with slots: told at the beginning and at the end."""
    collector = Knowing()
    async with stage.attach(collector) as runtime:
        assert collector.maintenance is runtime
        assert collector.maintenance.monitor is runtime.monitor
    assert collector.maintenance is None


async def test_a_root_without_champion_leaves_the_model_until_there_is_one(stage: Stage) -> None:
    """Before the first deployment the collector keeps its own model; with the first champion it gets the handle."""
    stage.prepare = lambda parts: setattr(parts, "serves", False)
    collector = Sync()
    runtime, parts = await stage.open(collector)
    assert collector.model == "their model"
    assert runtime.status()["version"] is None
    parts.serves = True
    await stage.until(lambda: collector.model is runtime.model)


async def test_results_of_other_types_pass_unchanged(stage: Stage) -> None:
    """Only mappings get a maintenance entry; a read-only one comes back as a dict; an awaitable result is awaited first."""

    class Odd:
        model = None

        def collect_for_all_venues(self, what: Any) -> Any:
            return what

    collector = Odd()
    await stage.open(collector)
    assert collector.collect_for_all_venues([1]) == [1]
    assert collector.collect_for_all_venues(None) is None
    assert collector.collect_for_all_venues(MappingProxyType({"a": 1})).keys() == {"a", "maintenance"}

    async def later() -> dict[str, int]:
        return {"b": 2}

    assert (await collector.collect_for_all_venues(later())).keys() == {"b", "maintenance"}


async def test_errors_of_the_collector_pass_through(stage: Stage) -> None:
    """What a collection raises, its caller gets."""

    class Failing(Sync):
        def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:
            raise KeyError("venue")

    collector = Failing()
    await stage.open(collector)
    with pytest.raises(KeyError, match="venue"):
        collector.collect_for_all_venues([])


async def test_explicit_calls_need_no_collector(stage: Stage) -> None:
    """With nothing to attach to, monitor, model and maintenance() are the host's to call."""
    async with stage.attach() as runtime:
        assert runtime.model.predict("row") == (1, "row")
        runtime.monitor.log("row")
        await stage.until(lambda: runtime.status()["last_result"])
        news = runtime.maintenance()
        assert news is not None
        assert news["status"] == "no_action"
        assert runtime.maintenance() is None


async def test_lifespan_opens_and_closes(stage: Stage) -> None:
    """runtime.lifespan(app) is what Starlette and FastAPI take."""
    runtime = stage.attach()
    async with runtime.lifespan(object()):
        assert runtime.role in {"leader", "follower"}
    assert runtime.closed
