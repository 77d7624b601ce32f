"""The one mutable reference predictions go through.

A `ServingState` is immutable and whole: models, schema, levels, weights and version belong together. Swapping is one attribute
assignment; a prediction in flight finishes on the state it began with, so every value comes from exactly one version.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import structlog  # noqa: F401  # loaded with this module, so that the first line logged imports nothing inside the host's loop
from numpy.typing import NDArray

from demand_maint._storage.registry import Registry
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint._storage.stamps import stamp_reader
from demand_maint._training.loading import load_model
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config
from demand_maint.core.answering import (
    Prediction,
    Predictor,
    RegistryLike,
    RoundStamps,
    Seated,
    ServedJournal,
    ServingState,
    raw_values,
    served_alone,
    spread,
)
from demand_maint.core.lineup import LineUp
from demand_maint.core.roster import versions_of
from demand_maint.core.schema import FeatureSchema, column_of
from demand_maint.core.serving import Explanation, Mixer, Place, ServingSnapshot, explain
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Commit, ModelMetadata
from demand_maint.errors import DemandMaintError, NoChampionError
from demand_maint.log import get_logger

__all__ = ["ModelHandle", "Prediction", "ServingState"]

MAX_MODELS = 7
Floats = NDArray[np.float64]
Values = NDArray[np.float32]
Slots = NDArray[np.int64]
NaiveSource = Callable[[Sequence[Any], Slots], Any]
_log = get_logger("model_handle")


class ModelHandle:
    """Predicts with the champion or the line-up's mixture, and journals what scoring needs.

    Parameters
    ----------
    registry
        Where versions and the pointer live.
    config
        `serving.serve` decides who answers: ``mixture`` or ``champion``.
    clock
        For the expiry of line-up entries.
    journal
        Takes served rows (`ServedJournal`); without one nothing is kept.
    snapshots
        Where serving snapshots are; without a store the champion serves alone until `publish` is called here.
    naive
        ``naive(place_ids, slots)`` gives the seasonal-naive forecasts (n,), NaN where there is none.
    load
        Makes a model of verified bytes; only tests replace it.

    Examples
    --------
    ::

        handle = ModelHandle(registry, config=config, journal=monitor.journal, naive=monitor.naive)
        handle.refresh()
        values = handle.predict(frame)  # place_id and timestamp columns are found by name
    """

    def __init__(
        self,
        registry: Registry | RegistryLike,
        *,
        config: Config | None = None,
        clock: Clock | None = None,
        journal: ServedJournal | None = None,
        snapshots: SnapshotStore | None = None,
        naive: NaiveSource | None = None,
        load: Callable[..., Predictor] = load_model,
    ) -> None:
        self._registry = registry
        self._config = config if config is not None else Config()
        self._clock = clock if clock is not None else SystemClock()
        self._mixing = self._config.serving.serve == "mixture"
        self.journal = journal
        self.naive = naive
        self._snapshots = snapshots
        self._load = load
        self._loaded: dict[int, Predictor] = {}
        self._snapshot: ServingSnapshot | None = None
        self._snapshot_seen = -1
        self._callbacks: list[Callable[[ServingState, ServingState | None], object]] = []
        self._swapping = threading.Lock()
        self._stamps = RoundStamps(
            TimeGrid(self._config.zone, self._config.step_seconds), stamp_reader(self._config.zone)
        )
        #: how often each version was dropped from a call, by (version, reason)
        self.faults: Counter[tuple[int, str]] = Counter()
        self._state: ServingState | None = None

    # --- what serves ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ServingState:
        """The state in force.

        Raises
        ------
        NoChampionError
            Nothing was ever deployed here.
        """
        state = self._state
        if state is None:
            self.refresh()
            state = self._state
            if state is None:
                raise NoChampionError(str(getattr(getattr(self._registry, "door", None), "root", "this root")))
        return state

    @property
    def version(self) -> int:
        """Version number of the champion."""
        return self.state.version

    @property
    def features(self) -> tuple[str, ...]:
        """Features the champion needs, in its order."""
        return self.state.schema.names

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions that are loaded and predict, the champion first."""
        return tuple(seat.version for seat in self.state.seated)

    def on_swap(self, callback: Callable[[ServingState, ServingState | None], object]) -> None:
        """Call `callback(new, old)` after each change of champion, in the thread that swapped."""
        self._callbacks.append(callback)

    def refresh(self) -> bool:
        """Look for a new commit or serving snapshot and swap to it; whether anything changed.

        Reads files and loads models: call it off the event loop. A champion that cannot be loaded is reported and the state
        in force stays; any other member that cannot be is left out.
        """
        state = self.prepare()
        if state is None:
            return False
        self.swap(state)
        return True

    def prepare(self) -> ServingState | None:
        """Load what the registry and the snapshot store say now; ``None`` where that is in force already."""
        with self._swapping:
            head, old = self._registry.head(), self._state
            if head is None:
                return None
            news = self._read_snapshot()
            if old is not None and old.commit == head.number and not news and not self._expired(head):
                return None
            try:
                return self._build(head)
            except (DemandMaintError, OSError) as error:
                if old is None:
                    raise
                self._report(head.champion, f"cannot be loaded: {error}")
                return None

    def swap(self, state: ServingState) -> None:
        """Serve `state` from now on: one assignment."""
        old, self._state = self._state, state
        if old is not None and old.version == state.version:
            return
        if self.journal is not None:
            self.journal.set_version(state.version, state.schema.names)
        for callback in tuple(self._callbacks):
            try:
                callback(state, old)
            except Exception as error:
                _log.warning("a swap callback failed", callback=repr(callback), error=repr(error))

    def publish(
        self, line_up: LineUp, places: Sequence[Place], metadata: Callable[[int], ModelMetadata] | None = None
    ) -> bool:
        """Seat the loaded versions in `line_up`, and where a snapshot is due keep it and serve by it; whether one was.

        The maintainer calls this after each drain and after each commit. Followers see the snapshot at their next `refresh`.

        Parameters
        ----------
        line_up
            The monitor's tracker.
        places
            Ids by code, as `ModelMonitor.places`.
        metadata
            Metadata of a version, for a newcomer's start; the registry's by default.
        """
        state = self.state
        if not self._mixing:
            return False
        now = self._clock.now()
        versions = [seat.version for seat in state.seated]
        if line_up.columns != (*versions, 0):
            line_up.seat(versions, self._metadata_of(versions, metadata), at=now, places=places)
        if not line_up.due(now):
            return False
        made = line_up.snapshot(now, places, after=self._newest_number())
        if made is None:
            return False
        if self._snapshots is not None:
            self._snapshots.save(made.number, made.encode())
        self.adopt(made)
        return True

    def _newest_number(self) -> int:
        numbers = self._snapshots.numbers() if self._snapshots is not None else []
        return max(numbers[-1] if numbers else 0, self._snapshot_seen)

    def adopt(self, snapshot: ServingSnapshot) -> None:
        """Serve by `snapshot` from now on, where it was made for the champion in force."""
        state = self.state
        with self._swapping:
            self._snapshot, self._snapshot_seen = snapshot, snapshot.number
            rebuilt = self._with_snapshot(self._state or state)
        self.swap(rebuilt)

    def _metadata_of(
        self, versions: Sequence[int], metadata: Callable[[int], ModelMetadata] | None
    ) -> Mapping[int, ModelMetadata]:
        find = metadata if metadata is not None else _metadata_source(self._registry)
        found: dict[int, ModelMetadata] = {}
        for version in versions:
            try:
                found[version] = find(version)
            except (DemandMaintError, OSError) as error:
                self._report(version, f"metadata unreadable: {error}")
        return found

    def _read_snapshot(self) -> bool:
        """Whether the store has a newer snapshot than the one in hand."""
        if self._snapshots is None or not self._mixing:
            return False
        numbers = self._snapshots.numbers()
        if not numbers or numbers[-1] <= self._snapshot_seen:
            return False
        newest = self._snapshots.latest()
        self._snapshot_seen = numbers[-1]
        if newest is None or (self._snapshot is not None and newest[0] <= self._snapshot.number):
            return False
        try:
            self._snapshot = ServingSnapshot.decode(newest[1])
        except DemandMaintError as error:
            _log.warning("a serving snapshot cannot be read", number=newest[0], error=str(error))
            return False
        return True

    def _expired(self, head: Commit) -> bool:
        """Whether a version that is loaded should sit no longer."""
        state = self._state
        return state is not None and {seat.version for seat in state.seated} > set(self._wanted(head))

    def _wanted(self, head: Commit) -> list[int]:
        """Versions that shall predict, the champion first, at most `MAX_MODELS`."""
        if not self._mixing:
            return [head.champion]
        return list(versions_of(head, self._clock.now())[:MAX_MODELS])

    def _build(self, head: Commit) -> ServingState:
        seated: list[Seated] = []
        schema: FeatureSchema | None = None
        wanted = self._wanted(head)
        for version in wanted:
            try:
                model = self._model(version)
            except (DemandMaintError, OSError) as error:
                if version == head.champion:
                    raise
                self._report(version, f"cannot be loaded: {error}")
                continue
            names = tuple(model.feature_names)
            if schema is None:
                schema = FeatureSchema(names)
            seated.append(Seated(version, model, None if names == schema.names else FeatureSchema(names)))
        for version in [version for version in self._loaded if version not in wanted]:
            del self._loaded[version]
        assert schema is not None
        return self._with_snapshot(ServingState(head.champion, head.number, schema, tuple(seated)))

    def _with_snapshot(self, state: ServingState) -> ServingState:
        """Serve by the snapshot in hand where it was made for this champion, else by the champion alone."""
        snapshot = self._snapshot
        mixer: Mixer | None = None
        columns: tuple[Seated | None, ...] = ()
        if self._mixing and snapshot is not None and snapshot.champion == state.version:
            by_version: dict[int, Seated | None] = {seat.version: seat for seat in state.seated}
            mixer = Mixer(snapshot)
            columns = tuple(by_version.get(version) for version in snapshot.columns)
        return ServingState(state.version, state.commit, state.schema, state.seated, mixer, columns)

    def _model(self, version: int) -> Predictor:
        model = self._loaded.get(version)
        if model is None:
            data = self._registry.model_bytes(version)
            model = self._loaded[version] = self._load(data, sha256=self._registry.hashes(version).model)
        return model

    # --- predicting -----------------------------------------------------------------------------------------------------

    def predict(
        self, features: Any, place_id: Any = None, timestamp: Any = None, *, schema: Sequence[str] | None = None
    ) -> Floats:
        """Forecasts (n,) of `features`.

        Parameters
        ----------
        features
            Frame, dict, list of dicts or array; named columns are picked and ordered by name.
        place_id, timestamp
            One value for all rows or one per row; taken from the columns ``place_id`` and ``timestamp`` where not given.
            Without both the champion answers and nothing is journalled.
        schema
            Names of an array's columns.

        Raises
        ------
        SchemaMismatchError
            A feature is missing, or an array without names has another width than the model.
        """
        state = self._state or self.state
        rows = state.schema.rows(features, schema)
        if place_id is None and timestamp is None:
            if type(features) is np.ndarray:
                return state.champion.predict(rows)
            place_id, timestamp = column_of(features, "place_id"), column_of(features, "timestamp")
        if place_id is None or timestamp is None:
            return state.champion.predict(rows)
        return self._answer(state, rows, features, place_id, timestamp, schema)[0]

    def predict_detailed(
        self, features: Any, place_id: Any = None, timestamp: Any = None, *, schema: Sequence[str] | None = None
    ) -> Prediction:
        """As `predict`, with version, members, weights and raw values beside the forecasts."""
        state = self._state or self.state
        rows = state.schema.rows(features, schema)
        place_id = column_of(features, "place_id") if place_id is None else place_id
        timestamp = column_of(features, "timestamp") if timestamp is None else timestamp
        if place_id is None or timestamp is None:
            return served_alone(state, state.champion.predict(rows))
        served, raw, champion, dropped = self._answer(state, rows, features, place_id, timestamp, schema)
        mixer = state.mixer
        if mixer is None:
            return served_alone(state, served)
        codes = mixer.index.codes(spread(place_id, len(rows)))
        snapshot = mixer.snapshot
        return Prediction(
            served, state.version, champion, snapshot.number, snapshot.members, snapshot.weights[codes],
            snapshot.columns, raw, dropped,
        )  # fmt: skip

    def explain(self, snapshot: int, place: Any, raw: Any) -> Explanation | None:
        """Reproduce a served value from its journal row, to the last bit; ``None`` where that snapshot is no longer kept."""
        if self._snapshot is not None and self._snapshot.number == snapshot:
            return explain(self._snapshot, place, raw)
        payload = self._snapshots.load(snapshot) if self._snapshots is not None else None
        return explain(ServingSnapshot.decode(payload), place, raw) if payload is not None else None

    def _answer(
        self,
        state: ServingState,
        rows: Values,
        features: Any,
        place_id: Any,
        timestamp: Any,
        schema: Sequence[str] | None,
    ) -> tuple[Floats, Values, Floats, dict[int, str]]:
        """Return served values, raw values as journalled, the champion's own, and who was dropped."""
        size = len(rows)
        places = spread(place_id, size)
        stamps, slots = self._stamps.of(timestamp, size)
        mixer = state.mixer
        if mixer is None:
            served = champion = state.champion.predict(rows)
            raw = served.astype(np.float32).reshape(-1, 1)
            dropped: dict[int, str] = {}
        else:
            source = self.naive
            naive = partial(self._naive_of, source, places, stamps, slots) if source is not None else None
            raw, champion, dropped = raw_values(state, rows, lambda other: other.rows(features, schema), naive)
            for version, reason in dropped.items():
                self._report(version, reason)
            if size == 1:
                served = np.array((mixer.mix_one(mixer.index.code(places[0]), raw[0].tolist()),))
            else:
                served = mixer.mix(mixer.index.codes(places), raw)
        journal = self.journal
        if journal is not None:
            journal.log_served(places, stamps, served, raw, state.snapshot, rows, champion=champion)
        return served, raw, champion, dropped

    def _naive_of(self, source: NaiveSource, places: Sequence[Any], stamps: Floats, slots: Slots | None) -> Any:
        return source(places, slots if slots is not None else self._stamps.slots(stamps))

    def _report(self, version: int, reason: str) -> None:
        key = (version, reason.split(":", 1)[0])
        self.faults[key] += 1
        if self.faults[key] == 1:
            _log.warning("a member of the line-up is left out", version=version, reason=reason)


def _metadata_source(registry: Any) -> Callable[[int], ModelMetadata]:
    return lambda number: registry.version(number).metadata
