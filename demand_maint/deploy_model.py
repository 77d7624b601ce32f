"""Deploy, roll back, and say what serves and what served.

The door to the registry for people: `ModelDeployer` in Python, ``python -m demand_maint.deploy_model`` in a shell. A foreign
file is opened in a child process first; no code in it runs here.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from demand_maint._storage.door import Door
from demand_maint._storage.exports import Exports
from demand_maint._storage.history import history_line
from demand_maint._storage.layout import EXPORT_METADATA, EXPORT_MODEL, STAGING, version_dir
from demand_maint._storage.lock import MaintainerLock, process_identity
from demand_maint._storage.registry import Registry, Seating
from demand_maint._storage.staging import newest_tune, staged, tidy_staging, tidy_work
from demand_maint._storage.standing import standing
from demand_maint._training.intake import Inspector, take_in
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.admission import admit, forced
from demand_maint.core.roster import after_promotion
from demand_maint.core.versions import (
    Baseline,
    Commit,
    CommitAction,
    GateVerdict,
    ModelMetadata,
)
from demand_maint.errors import DemandMaintError, DeployRefusedError
from demand_maint.exit_codes import DONE, EPILOG, REFUSED, USAGE, exit_code, sentence
from demand_maint.log import get_logger
from demand_maint.standard_output import ready_output

__all__ = ["ModelDeployer", "deploy_finetuned_model", "main"]


_log = get_logger("deploy")


class ModelDeployer:
    """Deploys, rolls back and tells the history of one root.

    Parameters
    ----------
    root
        Folder of the project.
    config
        ``None`` reads ``demand_maint.toml`` of the root.
    clock
        For the stamps in commits.
    registry
        ``None`` opens the root's.
    pool
        Looks at foreign files; ``None`` starts a worker pool where one is needed.
    to_joblib
        Makes the bytes of ``rf_model.joblib``; ``None`` takes the package's own.
    """

    def __init__(
        self,
        root: str | Path = ".",
        config: Config | None = None,
        clock: Clock | None = None,
        *,
        registry: Registry | None = None,
        pool: Inspector | None = None,
        to_joblib: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self.config = config or load_config(root)
        self.clock = clock or SystemClock()
        megabytes = self.config.storage.max_model_megabytes
        self.registry = registry or Registry(root, clock=self.clock, max_model_megabytes=megabytes)
        self.exports = Exports(self.registry, to_joblib or _cbm_to_joblib)
        self._pool = pool

    def deploy(
        self,
        new_model_path: str | Path,
        new_metadata_path: str | Path | None = None,
        force: bool = False,
        *,
        who: str = "",
        why: str = "",
    ) -> tuple[bool, str]:
        """Validate a model file, compare it with the champion, and make it champion.

        Parameters
        ----------
        new_model_path
            A ``.cbm`` or ``.joblib`` file, inside the root or not.
        new_metadata_path
            ``None``: ``<model>_metadata.json`` beside it.
        force
            Skip the comparisons with the champion. The file still has to be a readable model that answers with finite numbers.
        who, why
            For the audit trail.

        Returns
        -------
        tuple
            Whether it serves now, and a sentence on why or why not.
        """
        try:
            commit = self.deploy_file(new_model_path, new_metadata_path, force=force, who=who, why=why)
        except (DemandMaintError, OSError) as error:
            _log.warning("deploy failed", model=str(new_model_path), reason=str(error))
            return False, str(error)
        return True, self.sentence(commit)

    def deploy_file(
        self,
        model_path: str | Path,
        metadata_path: str | Path | None = None,
        *,
        force: bool = False,
        who: str = "",
        why: str = "",
        action: CommitAction = "deploy",
    ) -> Commit:
        """Do as `deploy`, with the commit as the answer and a typed error for every refusal."""
        head = self.registry.head()
        champion = self.registry.version(head.champion).metadata if head else None
        model, metadata = take_in(
            Path(model_path),
            metadata_path,
            door=self.registry.door,
            limit_bytes=self.registry.store.max_model_bytes,
            now=self.clock.now(),
            pool=self._pool,
        )
        margin = self.config.policy.margin
        verdict = forced(metadata, champion) if force else admit(metadata, champion, margin)
        version = self.registry.add_version(model, metadata)
        base = self._base_of(version.number, metadata)
        now, days = self.clock.now(), self.config.policy.probation_days
        commit = self.registry.commit(
            action,
            champion=version.number,
            base=base,
            line_up=lambda before: after_promotion(before, version.number, base, now, days),
            who=who or process_identity(),
            why=why or f"deployed {Path(model_path).name}",
            verdict=verdict,
            expect=head.number if head else 0,
        )
        self._after(commit)
        return commit

    def promote(
        self,
        version: int,
        *,
        action: CommitAction = "promote",
        who: str = "",
        why: str = "",
        verdict: GateVerdict | None = None,
        baseline: Baseline | None = None,
        base: int | None = None,
        line_up: Seating | None = None,
        fine_tunes: int | None = None,
        expect: int | None = None,
    ) -> Commit:
        """Make a version of the registry champion; parameters as in `Registry.commit`, `base` from its metadata where ``None``.

        Raises
        ------
        RegistryError
            There is no such version, it is damaged, or another champion came first.
        """
        metadata = self.registry.version(version).metadata
        commit = self.registry.commit(
            action,
            champion=version,
            base=self._base_of(version, metadata) if base is None else base,
            who=who or process_identity(),
            why=why,
            verdict=verdict,
            baseline=baseline,
            line_up=line_up,
            fine_tunes=fine_tunes,
            expect=expect,
        )
        self._after(commit)
        return commit

    promote_version = promote

    def rollback(self, *, who: str = "", why: str = "") -> tuple[bool, str]:
        """Go back to the nearest earlier champion that was not itself rolled back.

        Returns
        -------
        tuple
            Whether an earlier version serves now, and a sentence.
        """
        try:
            commit = self.roll_back(who=who, why=why)
        except (DemandMaintError, OSError) as error:
            return False, str(error)
        return True, self.sentence(commit)

    def roll_back(self, *, who: str = "", why: str = "") -> Commit:
        """Do as `rollback`, with the commit as the answer and a typed error where there is nothing to go back to."""
        commit = self.registry.rollback(who=who, why=why)
        self._after(commit)
        return commit

    def history(self) -> list[dict[str, Any]]:
        """Every commit, oldest first: what, when, who, why, verdict, hashes."""
        return self.registry.history()

    def status(self) -> dict[str, Any]:
        """Tell what serves, since when, what it could be rolled back to, and what waits in staging. Needs no CatBoost."""
        facts = standing(self.registry)
        if facts["version"] is not None:
            facts["stale_exports"] = self.exports.stale()
        return facts | {"staged": self.staged()}

    def staged(self) -> list[str]:
        """Models that wait in ``data/models/finetuned``, our own by age, the newest last."""
        return staged(self.registry.door)

    def adopt(self, *, who: str = "", why: str = "") -> Commit:
        """Make the ``rf_model.joblib`` and metadata that were here before us version 1.

        Raises
        ------
        DeployRefusedError
            There are commits already, or no such pair.
        ModelFileError
            The file is no usable model.
        """
        head = self.registry.head()
        if head is not None:
            raise DeployRefusedError(
                f"This root already has a registry; version {head.champion} serves. Use deploy for another model.",
                ("not_empty",),
            )
        door = self.registry.door
        if not door.exists(EXPORT_MODEL):
            raise DeployRefusedError(
                f"There is no {EXPORT_MODEL} to adopt. Put it there, or run `demand-maint init --history FILE`.",
                ("missing",),
            )
        return self.deploy_file(
            door.path(EXPORT_MODEL),
            door.path(EXPORT_METADATA),
            who=who,
            why=why or f"adopted {EXPORT_MODEL}",
            action="adopt",
        )

    def export(self) -> list[str]:
        """Write every export again; tell which."""
        return self.exports.refresh(everything=True)

    def recover(self) -> list[str]:
        """Clean up after a crash and bring the exports up to date; what was set aside, in words."""
        found = self.registry.recover()
        self._refresh_exports()
        return found

    def retain(self, lock: MaintainerLock | None = None) -> list[int]:
        """Remove versions beyond ``storage.keep``; tell which. Without a held `lock` it takes its own, or leaves it to the holder."""
        own = lock or MaintainerLock(self.registry.door, who="retention", clock=self.clock)
        mine = not own.held
        if mine and not own.try_acquire():
            return []
        try:
            tidy_staging(self.registry.door, self.config.storage.keep)
            tidy_work(self.registry.door, self.clock.now())
            return self.registry.retain(self.config.storage.keep)
        finally:
            if mine:
                own.release()

    def _archive_current(self) -> str | None:
        """Path of the archived champion: it has been there, immutable, since it was deployed."""
        head = self.registry.head()
        if head is None:
            return None
        self.registry.model_bytes(head.champion)
        return str(self.registry.door.path(version_dir(head.champion)))

    def _do_deploy(self, model: str | Path, metadata: str | Path | None = None) -> Commit:
        """Deploy without comparing; raises where the file is no usable model."""
        return self.deploy_file(model, metadata, force=True, why="forced")

    def _base_of(self, number: int, metadata: ModelMetadata) -> int:
        """Return the base of a fine-tune while that is here; everything else is its own base."""
        if metadata.kind != "fine_tune" or metadata.base is None:
            return number
        return metadata.base if self.registry.whole(metadata.base) else number

    def _after(self, commit: Commit) -> None:
        _log.info("champion changed", version=commit.champion, action=commit.action, commit=commit.number)
        self._refresh_exports()

    def _refresh_exports(self) -> None:
        try:
            self.exports.refresh()
        except Exception as error:  # the commit stands; exports are written again at the next start or deploy
            _log.warning("exports could not be written", reason=str(error))

    def sentence(self, commit: Commit) -> str:
        """Say what a commit did, and which exports are still to be written."""
        done = "serves again" if commit.action == "rollback" else "serves"
        text = f"Version {commit.champion} {done} (commit {commit.number})."
        if commit.verdict is not None:
            text += f" Verdict: {commit.verdict.verdict}."
        try:
            stale = self.exports.stale()
        except OSError as error:  # the commit stands whatever the disk says now
            return f"{text} Exports could not be looked at: {error}."
        return f"{text} Not exported yet: {', '.join(stale)}." if stale else text


def deploy_finetuned_model(
    directory: str | Path = STAGING, root: str | Path | None = None, *, force: bool = False
) -> tuple[bool, str]:
    """Deploy the newest model that waits in `directory`.

    Parameters
    ----------
    directory
        The staging folder.
    root
        Folder of the project; ``None``: the one that `directory` is the staging folder of, else the working directory.
    force
        As in `ModelDeployer.deploy`.
    """
    folder = Path(directory)
    if root is None:
        levels = len(Path(STAGING).parts)
        inside = folder.resolve().parts[-levels:] == Path(STAGING).parts
        root = folder.resolve().parents[levels - 1] if inside else "."
    newest = newest_tune(Door(folder))
    if newest is None:
        return False, f"No model waits in {folder}. Run a fine-tune first."
    return ModelDeployer(root).deploy(folder / newest, force=force)


def main(argv: Sequence[str] | None = None) -> int:
    """Show, deploy and roll back from the command line; exit codes as those of ``demand-maint``."""
    ready_output()
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse ends the process; a caller wants the code
        return USAGE if end.code else DONE
    try:
        deployer = ModelDeployer(arguments.root)
        answer, text = _perform(deployer, arguments)
    except (DemandMaintError, OSError) as error:
        code, said = exit_code(error), sentence(error)
        answer = {"success": False, "refused": code == REFUSED, "message": said}
        return _tell(arguments, answer, f"{'Refused' if code == REFUSED else 'Failed'}: {said}", code)
    return _tell(arguments, answer, text, DONE)


def _perform(deployer: ModelDeployer, arguments: argparse.Namespace) -> tuple[Any, str]:
    if arguments.deploy is not None:
        commit = deployer.deploy_file(arguments.deploy, arguments.metadata, force=arguments.force, why=arguments.why)
    elif arguments.rollback:
        commit = deployer.roll_back(why=arguments.why)
    elif arguments.history:
        entries = deployer.history()
        return entries, "\n".join(map(history_line, entries)) or "Nothing was deployed here yet."
    else:
        facts = deployer.status()
        return facts, "\n".join(f"{key}: {_plain(value)}" for key, value in facts.items())
    message = deployer.sentence(commit)
    return {"success": True, "version": commit.champion, "commit": commit.number, "message": message}, message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demand_maint.deploy_model", description="Show, deploy and roll back.", epilog=EPILOG
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--status", action="store_true", help="what serves (the default)")
    action.add_argument("--deploy", metavar="PATH", help="validate a .cbm or .joblib and make it champion")
    action.add_argument("--rollback", action="store_true", help="go back to the champion before")
    action.add_argument("--history", action="store_true", help="every change with who, why and verdict")
    parser.add_argument(
        "--metadata", metavar="PATH", help="metadata of the model (default: <model>_metadata.json beside it)"
    )
    parser.add_argument("--force", action="store_true", help="deploy without comparing with the champion")
    parser.add_argument("--why", default="", help="for the history")
    parser.add_argument("--root", default=".", help="folder of the project (default: here)")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    return parser


def _tell(arguments: argparse.Namespace, answer: Any, text: str, code: int) -> int:
    if arguments.json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        (sys.stderr if code else sys.stdout).write(text + "\n")
    return code


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def _cbm_to_joblib(data: bytes) -> bytes:
    from demand_maint._training.loading import cbm_to_joblib  # noqa: PLC0415 - status and history need no CatBoost

    return cbm_to_joblib(data)


if __name__ == "__main__":
    sys.exit(main())
