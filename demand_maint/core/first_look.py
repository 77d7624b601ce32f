"""What a history tells of the settings it is to be lived through with: a rhythm other than the step, too few rows for the rules."""

from demand_maint.config import Config

__all__ = ["first_look"]

_UNITS = ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def first_look(spacing: float | None, rows_a_day: float, config: Config) -> tuple[str, ...]:
    """Say what will not work as configured, and which setting to change; nothing where all is well.

    Parameters
    ----------
    spacing
        Seconds that rows of one place are usually apart; ``None`` where no place has two.
    rows_a_day
        Rows with truth of all places that come in a day.

    Examples
    --------
    >>> first_look(300.0, 12 * 24.0, Config())[0]
    'Rows of a place are 5m apart, the step is 1h: only the last row of a slot counts. Set the step to 5m, or combine rows by sum or mean.'
    """
    said = []
    policy, training = config.policy, config.training
    if spacing is not None and spacing >= 2 * config.step_seconds and config.missing_actual != "zero":
        said.append(
            f"Rows of a place are {_short(spacing)} apart, the step is {config.step}: most slots stay empty. "
            f"Set the step to {_short(spacing)}."
        )
    if spacing is not None and spacing <= config.step_seconds / 2:
        said.append(
            f"Rows of a place are {_short(spacing)} apart, the step is {config.step}: only the last row of a slot counts. "
            f"Set the step to {_short(spacing)}, or combine rows by sum or mean."
        )
    judged, tuned = rows_a_day * policy.window_days, rows_a_day * training.fine_tune_days
    if judged < policy.min_samples:
        said.append(
            f"About {judged:.0f} rows come in {policy.window_days} days, and policy.min_samples is {policy.min_samples}: "
            "health would only ever be insufficient_data. Set min_samples lower, or window_days higher."
        )
    if tuned < policy.min_samples:
        said.append(
            f"About {tuned:.0f} rows come in {training.fine_tune_days} days, and policy.min_samples is {policy.min_samples}: "
            "every fine-tune would fail. Set training.fine_tune_days higher, or min_samples lower."
        )
    return tuple(said)


def _short(seconds: float) -> str:
    whole = max(round(seconds), 1)
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{whole // size}{unit}"
