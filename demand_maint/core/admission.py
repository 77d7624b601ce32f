"""May this model be deployed by hand? Structure against the champion, then the figures that came with it.

Live truth and the gate decide about what maintenance trains itself; an operator's deploy has neither, so the figures in the two
metadata files are compared, and a pass is recorded as unproven.
"""

from demand_maint.core.versions import GateVerdict, ModelMetadata
from demand_maint.errors import DeployRefusedError, SchemaMismatchError

__all__ = ["admit", "forced"]


def admit(new: ModelMetadata, champion: ModelMetadata | None, margin: float) -> GateVerdict:
    """Return the verdict to record, or refuse.

    Parameters
    ----------
    new
        Metadata of the model to deploy, as completed from the model itself.
    champion
        Metadata of the champion; ``None`` where there is none.
    margin
        Share of the champion's error by which the new one may be larger.

    Raises
    ------
    SchemaMismatchError
        Features differ in count, names or order.
    DeployRefusedError
        Another loss, no figures to compare, or worse than the champion; `reasons` has the code.
    """
    if champion is None:
        return GateVerdict(verdict="unproven", reasons=("first_model",), method="metadata", challenger_mae=_mae(new))
    if new.features != champion.features:
        raise SchemaMismatchError(champion.features, new.features)
    if not _same_loss(new.loss, champion.loss):
        raise DeployRefusedError(
            f"The model was trained with loss {new.loss}, the champion with {champion.loss}; their errors mean different things. "
            "Train it with the champion's loss, or deploy it with force.",
            ("loss_differs",),
        )
    ours, theirs = _mae(new), _mae(champion)
    if theirs is None:
        return GateVerdict(
            verdict="unproven", reasons=("champion_without_mae",), method="metadata", challenger_mae=ours
        )
    if ours is None:
        raise DeployRefusedError(
            "The metadata hold no mae (metrics.mae), so the model cannot be compared with the champion. "
            "Add it, or deploy with force.",
            ("mae_missing",),
        )
    relative = ours / theirs - 1.0 if theirs > 0 else float(ours > 0)
    if relative > margin:
        raise DeployRefusedError(
            f"The model is worse than the champion: mae {ours:.6g} against {theirs:.6g} ({relative:+.1%}, {margin:.0%} is allowed). "
            "Keep the champion, or deploy with force.",
            ("worse_than_champion",),
        )
    return GateVerdict(
        verdict="unproven",
        reasons=("metadata_compared",),
        method="metadata",
        champion_mae=theirs,
        challenger_mae=ours,
        relative=relative,
    )


def forced(new: ModelMetadata, champion: ModelMetadata | None) -> GateVerdict:
    """Return the verdict of a deploy that asked nobody; what is known of the figures is kept with it."""
    return GateVerdict(
        verdict="forced",
        reasons=("forced",),
        method="force",
        champion_mae=_mae(champion) if champion else None,
        challenger_mae=_mae(new),
    )


def _mae(metadata: ModelMetadata) -> float | None:
    return metadata.metrics.get("mae")


def _same_loss(new: str, champion: str) -> bool:
    unknown = {"", "unknown"}
    return new in unknown or champion in unknown or new.partition(":")[0] == champion.partition(":")[0]
