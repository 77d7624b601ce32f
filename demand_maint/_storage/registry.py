"""The registry that cannot lie: immutable versions, and one put-if-absent commit file per change.

What serves, what served and why is the newest commit and those below it; nothing else is ever believed. A version is complete
and durable before a commit names it, and a commit is durable before it is acknowledged.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from demand_maint._storage.commits import CHAMPION_ACTIONS, CommitLog, earlier_champions
from demand_maint._storage.door import Door
from demand_maint._storage.history import describe
from demand_maint._storage.layout import COMMITS, MODEL_FILE, version_dir
from demand_maint._storage.lock import process_identity
from demand_maint._storage.probe import check_filesystem
from demand_maint._storage.recovery import recover, verify
from demand_maint._storage.retention import retain
from demand_maint._storage.versions import VersionStore
from demand_maint.clock import Clock, SystemClock
from demand_maint.core.versions import (
    COMMIT_FORMAT,
    Baseline,
    Commit,
    CommitAction,
    FileHashes,
    GateVerdict,
    LineUpEntry,
    ModelMetadata,
    ModelVersion,
)
from demand_maint.errors import (
    LostRaceError,
    NewerFormatError,
    NoChampionError,
    NothingToRollBackError,
    RegistryError,
)

__all__ = ["Registry", "Seating"]

Seating = Callable[[Commit], tuple[LineUpEntry, ...]]

_REMEMBERED = 16  # versions whose metadata stays in memory: more than ever sit in a line-up
_MAX_ATTEMPTS = 64


class Registry:
    """Versions and commits of one root. Makes nothing on disk before the first write.

    Parameters
    ----------
    root
        Folder of the project, or a door to it.
    clock
        For the stamps in commits.
    read_only
        Refuse every write.
    max_model_megabytes
        Largest model that is written or read.
    """

    def __init__(
        self,
        root: str | Path | Door,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
        max_model_megabytes: int = 512,
    ) -> None:
        self.door = root if isinstance(root, Door) else Door(root)
        self.clock = clock or SystemClock()
        self.read_only = read_only
        self.log = CommitLog(self.door)
        self.store = VersionStore(self.door, max_model_megabytes << 20)
        self._metadata: dict[int, ModelMetadata] = {}
        self._checked = False
        self._retained: tuple[int, int, tuple[int, ...]] | None = None

    # what is

    def head(self) -> Commit | None:
        """Newest commit; cheap enough to poll."""
        return self.log.head()

    def champion(self) -> Commit:
        """Newest commit, which names the champion.

        Raises
        ------
        NoChampionError
            Nothing was ever deployed here.
        """
        head = self.head()
        if head is None:
            raise NoChampionError(str(self.door.root))
        return head

    def commits(self) -> list[Commit]:
        """Every commit, oldest first."""
        return self.log.all()

    def champion_at(self, t: float) -> Commit | None:
        """Return the commit that was in force at `t` (epoch seconds); ``None`` before the first."""
        return next((commit for commit in reversed(self.commits()) if commit.at <= t), None)

    def history(self) -> list[dict[str, Any]]:
        """Every commit in words and numbers for people, oldest first: who, why, verdict, hashes."""
        return [describe(commit) for commit in self.commits()]

    def rollback_target(self) -> Commit | None:
        """Return the commit whose champion, base and baseline a rollback would restore."""
        return next(self._rollback_targets(self.whole), None)

    def _rollback_targets(self, whole: Callable[[int], bool]) -> Iterator[Commit]:
        """Yield the commits that one rollback after the other would restore, nearest first."""
        yield from (c for c in earlier_champions(self.commits()) if whole(c.champion))

    def versions(self) -> list[int]:
        """Numbers of the versions on disk, ascending."""
        return self.store.numbers()

    def _remember(self, number: int, metadata: ModelMetadata) -> ModelMetadata:
        """Keep what was read, of the last few versions: each takes some 30 KB, and a root makes hundreds in a year."""
        self._metadata[number] = metadata
        while len(self._metadata) > _REMEMBERED:
            self._metadata.pop(next(iter(self._metadata)), None)
        return metadata

    def version(self, number: int) -> ModelVersion:
        """Return what one version is; its metadata is checked against the committed hash."""
        hashes = self.hashes(number)
        metadata = self._metadata.get(number)
        if metadata is None:
            metadata = self._remember(number, self.store.metadata(number, hashes))
        head = self.head()
        if head is not None and head.champion == number:
            return ModelVersion(number=number, metadata=metadata, hashes=hashes, stage="production")
        was_champion = any(c.champion == number for c in self.commits())
        return ModelVersion(
            number=number, metadata=metadata, hashes=hashes, stage="archive" if was_champion else "staging"
        )

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version: the committed ones, else those beside its files."""
        return self.committed_hashes(number) or self.store.sums(number)

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a model, read once and compared with the committed sha256; load from these bytes, not from the file.

        Raises
        ------
        DamagedModelError
            They are not what was committed.
        """
        return self.store.model(number, self.hashes(number))

    def model_path(self, number: int) -> Path:
        """Where a child finds the model of a version."""
        return self.door.path(f"{version_dir(number)}/{MODEL_FILE}")

    # changes

    def add_version(self, model: bytes, metadata: ModelMetadata) -> ModelVersion:
        """Keep a model and its metadata for good under a number of their own. It serves nobody before a commit names it.

        Raises
        ------
        ValueError
            The metadata hold a NaN or an infinity.
        """
        self._require_writable()
        self._require_filesystem()
        committed = max((int(key) for c in self.commits() for key in c.files), default=0)
        number, hashes = self.store.add(model, metadata, committed)
        self._remember(number, metadata)
        return ModelVersion(number=number, metadata=metadata, hashes=hashes, stage="staging")

    def commit(
        self,
        action: CommitAction,
        *,
        champion: int,
        base: int,
        who: str,
        why: str,
        subject: int | None = None,
        line_up: Seating | None = None,
        baseline: Baseline | None = None,
        verdict: GateVerdict | None = None,
        fine_tunes: int | None = None,
        rolled_back: Iterable[int] | None = None,
        expect: int | None = None,
    ) -> Commit:
        """Put the next commit there, durably.

        Parameters
        ----------
        action
            ``init``, ``adopt``, ``deploy``, ``promote`` and ``rollback`` set the champion; the others keep it.
        champion, base
            Version numbers.
        who, why
            For the audit trail.
        subject
            The version it is about, where that is not the champion.
        line_up
            Makes the line-up out of the commit that this one follows, which may be a newer one than was decided on. ``None``, or
            none before: champion and base where the champion is set, unchanged otherwise.
        baseline
            ``None``: that of the champion's metadata where the champion is set, unchanged otherwise.
        verdict
            The evidence.
        fine_tunes
            Fine-tunes since the last full retrain; ``None`` counts.
        rolled_back
            Versions that were rolled back from; ``None`` keeps the list.
        expect
            Number of the head that the decision was made on (0 for none); ``None`` takes whatever is there. What others wrote
            down since then is kept, as long as it left champion and base alone.

        Raises
        ------
        LostRaceError
            Another champion or base was committed first, and `expect` was given; or the champion to keep serves no longer.
        CommitUnconfirmedError
            It is there, but not known to survive a power loss.
        """
        self._require_writable()
        self._require_filesystem()
        self.door.makedirs(COMMITS)
        undone = None if rolled_back is None else tuple(rolled_back)
        for _ in range(_MAX_ATTEMPTS):
            head, number = self.log.head_and_next()
            if not self._may_follow(head, action, champion, expect):
                raise LostRaceError(expect, head.number if head else 0, head.champion if head else 0)
            draft = Commit(
                number=number, action=action, at=self.clock.now(), champion=champion, base=base, subject=subject,
                line_up=line_up(head) if line_up and head else (), baseline=baseline, verdict=verdict, who=who, why=why,
            )  # fmt: skip
            commit = self._complete(draft, head, fine_tunes, undone)
            if self.log.put(commit):
                return commit
        raise RegistryError(f"Others committed first {_MAX_ATTEMPTS} times in a row. Try again.")

    def rollback(self, *, who: str = "", why: str = "") -> Commit:
        """Restore the nearest earlier champion that was not itself rolled back, with its base and baseline.

        Raises
        ------
        NothingToRollBackError
            There is none.
        LostRaceError
            Somebody set another champion meanwhile; what to undo is no longer clear.
        """
        head = self.champion()
        target = self.rollback_target()
        if target is None:
            raise NothingToRollBackError(
                f"No earlier version to go back to from version {head.champion}. Deploy a model instead."
            )
        base = target.base if self.whole(target.base) else target.champion
        return self.commit(
            "rollback",
            champion=target.champion,
            base=base,
            who=who or process_identity(),
            why=why or f"rolled back from version {head.champion}",
            baseline=target.baseline,
            fine_tunes=target.fine_tunes,
            rolled_back=sorted({*head.rolled_back, head.champion} - {target.champion}),
            expect=head.number,
        )

    def retain(self, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions and those still needed; tell which. Wants the maintainer lock.

        Most versions never serve, so the newest `keep` that served are kept besides, for rollbacks.
        """
        self._require_writable()
        head = self.log.head()
        seen = (0 if head is None else head.number, keep, tuple(self.store.numbers()))
        if seen == self._retained:  # nothing came since nothing had to go; to know what is needed, models are read
            return []
        gone = retain(self.log, self.store, partial(self.needed_versions, max(keep - 1, 1)), keep)
        self._retained = None if gone else seen
        return gone

    def recover(self) -> list[str]:
        """Clean up after a crash: sweep, verify, set aside what is damaged (never delete it). Doing it twice is doing it once.

        Returns
        -------
        list of str
            What was set aside and what was done about it, in words.
        """
        if self.read_only or not self.door.exists(".") or self._newer_head() is not None:
            return []
        return recover(self)

    def verify(self) -> list[str]:
        """Look at everything and change nothing; return what is wrong, in words."""
        return verify(self)

    def needed_versions(self, rollbacks: int = 1) -> set[int]:
        """Versions that must not go: champion, base, previous, line-up, and what the next `rollbacks` would restore."""
        head = self.log.head()
        if head is None:
            return set()
        needed = {head.champion, head.base, *(entry.version for entry in head.line_up)}
        if head.previous is not None:
            needed.add(head.previous)
        # asked after every change: models that were read once are not read again for it. A rollback itself reads what it restores
        for target in islice(self._rollback_targets(self._still_whole), rollbacks):
            needed |= {target.champion, target.base}
        return needed

    # inside

    def _may_follow(self, head: Commit | None, action: CommitAction, champion: int, expect: int | None) -> bool:
        """Whether a decision made on commit `expect` stands on `head`: champion and base were left alone in between."""
        if head is not None and action not in CHAMPION_ACTIONS and head.champion != champion:
            return False
        found = head.number if head else 0
        if expect is None or found == expect:
            return True
        seen = self.log.get(expect) if 0 < expect < found else None
        since = [self.log.get(number) for number in range(expect + 1, found + 1)]
        return seen is not None and all(
            c is not None and c.action not in CHAMPION_ACTIONS and (c.champion, c.base) == (seen.champion, seen.base)
            for c in since
        )

    def _complete(
        self, draft: Commit, head: Commit | None, fine_tunes: int | None, rolled_back: tuple[int, ...] | None
    ) -> Commit:
        """Fill in what follows from the commit before, and the hashes of every version needed."""
        sets_champion = draft.action in CHAMPION_ACTIONS
        line_up, baseline, previous = draft.line_up, draft.baseline, None
        metadata = self.version(draft.champion).metadata
        if sets_champion:
            line_up = line_up or self._plain_line_up(draft)
            baseline = baseline or metadata.baseline
        elif head is not None:
            line_up = line_up or head.line_up
            baseline = baseline or head.baseline
        if head is not None:
            previous = head.champion if head.champion != draft.champion else head.previous
            if rolled_back is None:
                rolled_back = tuple(n for n in head.rolled_back if n != draft.champion or not sets_champion)
        if fine_tunes is None:
            fine_tunes = _count_fine_tunes(draft, head, metadata, sets_champion=sets_champion)
        self.model_bytes(draft.champion)  # a champion is whole at the moment it is committed
        needed = {draft.champion, draft.base, *(entry.version for entry in line_up)}
        if previous is not None and self.door.exists(version_dir(previous)):
            needed.add(previous)
        return msgspec.structs.replace(
            draft,
            line_up=line_up,
            baseline=baseline,
            previous=previous,
            fine_tunes=fine_tunes,
            rolled_back=rolled_back or (),
            files={str(number): self.hashes(number) for number in sorted(needed)},
        )

    def _plain_line_up(self, draft: Commit) -> tuple[LineUpEntry, ...]:
        champion = self._entry(draft.champion, "champion", draft.at)
        return (champion,) if draft.base == draft.champion else (champion, self._entry(draft.base, "base", draft.at))

    def _entry(self, number: int, role: Literal["champion", "base"], at: float) -> LineUpEntry:
        fine_tune = self.version(number).metadata.kind == "fine_tune"
        return LineUpEntry(version=number, role=role, entered_at=at, kind="fine_tune" if fine_tune else "full")

    def committed_hashes(self, number: int) -> FileHashes | None:
        """Hashes by the newest commit that names the version; ``None`` where none does."""
        key = str(number)
        head = self.head()
        if head is None or key in head.files:
            return head.files[key] if head else None
        return next((c.files[key] for c in reversed(self.commits()) if key in c.files), None)

    def whole(self, number: int) -> bool:
        """Whether a version is on disk as it was committed."""
        try:
            return self.store.fault(number, self.committed_hashes(number)) is None
        except RegistryError:  # retired or quarantined
            return False

    def _still_whole(self, number: int) -> bool:
        """As `whole`, without reading again what was found whole before and has not been written since."""
        return self.store.unchanged(number, self.committed_hashes(number)) or self.whole(number)

    def _newer_head(self) -> Commit | None:
        head = self.log.head()
        return head if head is not None and head.format > COMMIT_FORMAT else None

    def _require_writable(self) -> None:
        if self.read_only:
            raise RegistryError(f"The registry in {self.door.root} was opened read-only.")
        newer = self._newer_head()
        if newer is not None:
            raise NewerFormatError(
                f"Commit {newer.number} in {self.door.root} has format {newer.format}, this release writes {COMMIT_FORMAT}. "
                "It is served, but nothing is changed. Upgrade demand-maint."
            )

    def _require_filesystem(self) -> None:
        if not self._checked:
            check_filesystem(self.door, COMMITS)
            self._checked = True


def _count_fine_tunes(draft: Commit, head: Commit | None, metadata: ModelMetadata, *, sets_champion: bool) -> int:
    if head is None:
        return int(metadata.kind == "fine_tune")
    if not sets_champion or head.champion == draft.champion:
        return head.fine_tunes
    return head.fine_tunes + 1 if metadata.kind == "fine_tune" and draft.base == head.base else 0
